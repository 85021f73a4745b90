"""A suite: adversaries, and what each varies. Results of different hashes never mix."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from titer import __version__
from titer.core import catalogue
from titer.core.data import World
from titer.core.errors import BadInput
from titer.core.protocol import SMALL_MODEL
from titer.core.records import Preset, content_key, part

__all__ = ["RETIRED", "Adversary", "Suite", "judges", "refuse_retired", "suite_hash"]

RETIRED: dict[str, Any] = {"worst_case": False}
"""What was a setting once, as all suites have it now: configs and hashes go on holding it, so that
results of then and now compare."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Adversary:
    """One adversary of a suite: a preset, and what of it the attacker varies.

    ``of`` names the preset where it is not the row's own name. Every one of ``settings`` is tried,
    fields that replace the preset's, at every one of ``multiples`` of its rate; a rate among the
    settings counts as a multiple of the preset's, and is scaled as that is. The attacker keeps what
    does best on the selection split, and all of it is charged. ``budget``, where given, replaces
    the preset's steps. ``cross`` rows also attack the hazards a model was not immunised on.
    ``kinds``: hazards it is for, ``k`` knowledge that should be gone, ``r`` requests that should be
    refused; its preset may narrow them further.
    """

    id: str
    of: str = ""
    settings: tuple[Mapping[str, Any], ...] = ({},)
    multiples: tuple[float, ...] = (1.0,)
    budget: tuple[int, int] | None = None
    mandatory: bool = True
    cross: bool = False
    kinds: str = "kr"

    def preset(self) -> tuple[str, Preset]:
        """The method and the preset behind this row."""
        return catalogue.preset("attack", self.of or self.id)

    @property
    def sweeps(self) -> bool:
        """Whether it tries several rates of its own accord."""
        return len(self.multiples) > 1 or any("lr" in setting for setting in self.settings)

    def fits(self, kind: str) -> bool:
        """Whether the row is for hazards of this kind, ``k`` or ``r``."""
        return kind in self.kinds and kind in self.preset()[1].domain


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """A named, versioned set of rows with the settings that decide a number.

    ``cap`` bounds the steps of every row, None leaves the rows' own budgets. ``rates`` are the
    multiples of the reference rate at which each benign task is trained. ``task_steps`` is the
    budget of a benign task, ``sweep_steps`` that of a calibration run. ``items`` bounds what is
    asked of each utility suite; harm is always asked in full. ``search`` says how the settings of a
    row are searched: ``full`` runs every one on every seed, ``fresh`` runs all of them on a seed of
    its own and the best three on the seeds that are reported (:mod:`titer.plan.fresh_seeds`).
    ``rungs`` bounds the rates at which a setting is tried on a model until it works there
    (:mod:`titer.plan.rates`); 1 leaves every row at its own.
    ``checks`` says what is run for the checks beside the attacks: ``weights`` the diagnoses
    of each model, ``all`` further attacks too on models that held
    (docs/reference/checks.md).

    ``controls`` are defences known to be broken, made from the undefended model and attacked with
    the models under test; a study in which one of them holds says nothing. ``unlocked`` is a
    defence that is made too: what controls begin with, before their lock. ``relatives`` pairs a
    control with a model that is public beside it.
    """

    name: str
    version: str
    rows: tuple[Adversary, ...]
    cap: int | None = None
    rates: tuple[float, ...] = (0.3, 1.0, 3.0)
    task_steps: int = 100
    sweep_steps: int = 60
    items: int = 72
    search: Literal["full", "fresh"] = "full"
    rungs: int = 4
    checks: Literal["none", "weights", "all"] = "all"
    controls: tuple[str, ...] = ()
    unlocked: str = ""
    relatives: tuple[tuple[str, str], ...] = ()

    @property
    def title(self) -> str:
        """Name and version, as a report prints them."""
        return f"{self.name}-{self.version}"

    def settings(self) -> dict[str, Any]:
        """What a user may have set beyond the name, as JSON values; with the name they give the
        suite again, and so its hash."""
        content = {**asdict(self), "rates": list(self.rates), **RETIRED}
        return {key: content[key] for key in content if key not in ("name", "version", "rows")}

    @property
    def beside(self) -> tuple[str, ...]:
        """Defences that a study makes for its own sake: the unlocked one and the controls."""
        return tuple(text for text in (self.unlocked, *self.controls) if text)

    def around(self, undefended: str) -> Suite:
        """This suite for studies of a model: relatives of its size, and no control that needs a
        public relative where none is known."""
        if undefended.startswith("fabula:"):
            of = re.sub("^fabula:[a-z]*", "", undefended)  # its size and seed, as in @small#3
            relatives = tuple((control, f"{name}{of}") for control, name in self.relatives)
            return replace(self, relatives=relatives)
        needy = [control for control, _ in self.relatives]
        kept = tuple(control for control in self.controls if control not in needy)
        return replace(self, controls=kept, relatives=())

    def digest(self) -> str:
        """Hash over rows, their presets, settings, and the version of the code.

        Each method's own version is in it, which is raised when its numbers change, and titer's,
        since methods share a loop. A study adds the data and the judges.
        """
        content: dict[str, Any] = {**asdict(self), **RETIRED}
        content["code"] = __version__
        content["presets"] = {}
        for row in self.rows:
            method, preset = row.preset()
            version = catalogue.card("attack", method).version
            decides = asdict(preset)
            del decides["family"], decides["found"]  # a heading, and defences': no number's
            content["presets"][row.id] = [method, version, decides]
        return content_key(content)

    def steps(self, row: Adversary, parameters: int) -> int:
        """The budget of a row: its testbed column below 50 M parameters, the other above."""
        small, large = row.budget or row.preset()[1].steps
        own = small if parameters < SMALL_MODEL else large
        return own if self.cap is None else min(own, self.cap)


def refuse_retired(root: Path, config: Mapping[str, Any]) -> None:
    """Refuse a run folder whose attacks were cut short in a way that this titer knows no more.

    Raises:
        BadInput: the study of this ``config.yaml`` stopped attacks that were sure to breach
            (``--worst-case``), or rates that did worse than others (``--search halving``).
    """
    study = config.get("study")
    found = study.get("suite_settings") if isinstance(study, dict) else None
    settings: Mapping[str, Any] = found if isinstance(found, dict) else {}
    # Of the first of them only the command says how they were run.
    command = str(config.get("command", ""))
    for option, cut in (
        ("--worst-case", settings.get("worst_case")),
        ("--search halving", settings.get("search") == "halving"),
    ):
        if cut or option in command:
            raise BadInput(
                f"{root} was made by an older titer with {option}, which there is no more: its "
                "attacks were cut short, and would read as if they had ended; read it with the "
                "titer that made it, or run its bench command without that into another --out."
            )


def judges(world: World) -> list[str]:
    """The names of the measures that a study of this world is judged by."""
    suites = (*world.utility.values(), *(task.dev for task in world.tasks.values()))
    named = {world.harm, *world.also, *(suite.measure for suite in suites)}
    return sorted(named | {"coherence", "perplexity", "refusal"})


def suite_hash(suite: Suite, world: str, judges: Sequence[str]) -> str:
    """Hash over a suite with its code, the data (the world's digest), and the judges with their
    versions and fields, as this version of titer has them."""
    with_versions = {
        name: asdict(
            part(name, catalogue.build("measure", name), catalogue.card("measure", name).version)
        )
        for name in judges
    }
    return content_key({"suite": suite.digest(), "data": world, "judges": with_versions})
