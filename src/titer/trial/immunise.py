"""Harden a model, and write it down as an ordinary Hugging Face folder with a card."""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
import yaml

from titer import __version__
from titer.core import catalogue
from titer.core.data import Data, Scope, World
from titer.core.errors import BadInput, UnknownName, nearest
from titer.core.files import atomic_folder, require_regular
from titer.core.lm import LM
from titer.core.method import Defence, Run, Watch, chain
from titer.core.modelfolder import folder_digest
from titer.core.protocol import SELECT
from titer.core.reading import UNREADABLE, load_json
from titer.core.records import Budget, Kind, Part, Spent, Status, content_key, part
from titer.measures._room import cut_of
from titer.train.keeping import Keeper
from titer.trial.effect import ASKED, Effect, effect
from titer.trial.load import load_model, load_named_world
from titer.trial.presets import is_testbed, usual
from titer.trial.probes import ask, judge, probes
from titer.trial.shares import take

__all__ = [
    "Immunisation",
    "Outcome",
    "account",
    "immunise",
    "keep",
    "keeper_of",
    "made_from",
    "parse_defence",
    "planned",
    "require_own",
    "steps_of",
    "write",
]

_STEPS = (200, 1000)
_ROWS, _FLAGS = 1000, 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Immunisation:
    """What to do to a model. Its :attr:`key` names the result; ``base`` is the model's digest.

    ``chunk`` bounds the tokens of one pass and ``held`` says how the model is held where that is
    not in single precision: numbers differ by rounding, so both are in the key where they are set.
    ``share`` of the hazard's entities is handed to the defender, the subset being drawn by
    ``draw``; ``name`` is how a study calls the result and, like all places, stays out of the key.
    """

    parts: tuple[Part, ...]
    base: str
    world: str
    domain: str
    steps: int
    seed: int
    share: float = 1.0
    draw: int = 0
    chunk: int | None = None
    held: str = ""
    name: str = ""
    model: str = ""
    title: str = ""
    source: str = ""
    out: str = ""

    @property
    def key(self) -> str:
        """Same key, same weights."""
        content = asdict(self)
        for place in ("name", "model", "title", "source", "out"):
            del content[place]
        for name in ("chunk", "held"):
            if not content[name]:
                del content[name]
        return content_key(content)

    @property
    def claim(self) -> str:
        """Its name in every process that works in one run folder."""
        return f"model-{self.key}"

    @property
    def says(self) -> str:
        """What is made, for people."""
        return f"making {self.name or '+'.join(stage.name for stage in self.parts)}"

    @property
    def results(self) -> list[Path]:
        """The file that says what was made."""
        return [Path(self.out) / "titer.json"]


def parse_defence(
    text: str, settings: Mapping[str, Any] | None = None, *, parameters: int | None = None
) -> tuple[Part, ...]:
    """``npo`` or ``npo+rmu``, with knobs ``lr=...`` or, in a chain, ``npo.lr=...``; those of a
    method that another is built on are ``base.lr=...``, or ``ilu.base.lr=...``.

    On a model of so many ``parameters`` a method starts from its preset for such a size
    (:func:`~titer.trial.presets.usual`), where it has one; otherwise from its paper's defaults.

    Raises:
        UnknownName: no such defence or knob.
        BadInput: a knob that several stages have, without saying whose it is.
    """
    stages = [name.strip() for name in text.split("+")]
    chosen: dict[str, dict[str, Any]] = {}
    for name in stages:
        catalogue.card("defence", name)
        preset = None if parameters is None else usual(name, parameters)
        chosen[name] = dict(preset[1].fields) if preset else {}
    for key, value in (settings or {}).items():
        owner, dot, knob = key.partition(".")
        if len(stages) == 1 and owner != stages[0]:
            owner, knob = stages[0], key
        elif not dot:
            raise BadInput(f"{key}: say which stage has it, as in {stages[0]}.{key}={value}.")
        if owner not in chosen:
            raise UnknownName(f"no stage {owner!r} in {text}.{nearest(owner, chosen)}")
        chosen[owner][knob] = value
    return tuple(
        part(
            name,
            catalogue.build("defence", name, chosen[name]),
            catalogue.card("defence", name).version,
        )
        for name in stages
    )


def steps_of(parts: tuple[Part, ...], *, parameters: int) -> int:
    """The budget in steps that the stages' settings are meant for, together.

    A stage that names none gets 200 steps on a testbed model and 1,000 on a larger one.
    """
    total = 0
    for stage in parts:
        preset = usual(stage.name, parameters)
        steps = preset[1].steps if preset else _STEPS
        total += steps[0 if is_testbed(parameters) else 1]
    return total


def planned(
    text: str,
    settings: Mapping[str, Any],
    scope: Scope,
    *,
    base: str,
    parameters: int,
    steps: int | None = None,
    seed: int = 0,
) -> Immunisation:
    """An immunisation by the name of a defence, or of a chain of them, for a model of so many
    weights and the digest ``base``; without ``steps`` the budget that its settings are meant for.

    Raises:
        UnknownName, BadInput: see :func:`parse_defence`.
    """
    parts = parse_defence(text, settings, parameters=parameters)
    return Immunisation(
        parts=parts,
        base=base,
        world=scope.world.digest(),
        domain=scope.name,
        steps=steps or steps_of(parts, parameters=parameters),
        seed=seed,
    )


def _method(parts: tuple[Part, ...]) -> Defence:
    return chain(*(catalogue.build("defence", p.name, dict(p.fields)) for p in parts))


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What an immunisation cost."""

    spent: Spent
    seconds: float
    weights: str
    losses: tuple[float, ...] = ()
    flags: tuple[str, ...] = ()
    effect: Effect | None = None
    course: tuple[Mapping[str, float], ...] = ()


def immunise(
    lm: LM,
    wanted: Immunisation,
    world: World,
    watch: Watch | None = None,
    keeper: Keeper | None = None,
) -> tuple[LM, Outcome]:
    """Apply the defence to a model in memory; ``watch`` is told of every training step, ``keeper``
    keeps what was reached on the way.

    Raises:
        BadInput: the world gives the defender no hazard facts, so there is nothing to defend.
    """
    data = world.defender(wanted.domain)
    if not data.harmful and any(stage.name != "none" for stage in wanted.parts):
        raise BadInput(
            f"hazard {wanted.domain!r} of {world.name} has no `defend` split; a defence needs one."
        )
    if wanted.share < 1:
        data = replace(data, harmful=take(data.harmful, wanted.share, wanted.draw))
    run = Run(
        budget=Budget(steps=wanted.steps),
        data=data,
        seed=wanted.seed,
        watch=watch,
        chunk=wanted.chunk,
        keeper=keeper,
    )
    started = time.monotonic()
    with _deterministic(), keeper.deferring() if keeper else contextlib.nullcontext():
        out = _method(wanted.parts)(lm, run)
    seconds = time.monotonic() - started
    seen = _effect(lm, out, wanted, world)
    outcome = Outcome(
        spent=run.spent,
        seconds=seconds,
        weights=out.digest(),
        losses=tuple(run.losses),
        flags=(*run.flags, *_too_long(lm, run.data), *_barely(seen, wanted, world)),
        effect=seen,
        course=tuple(run.course),
    )
    return out, outcome


def _effect(lm: LM, out: LM, wanted: Immunisation, world: World) -> Effect | None:
    """What was done to the model; None where nothing was meant to be."""
    if all(stage.name == "none" for stage in wanted.parts):
        return None
    harm = next(probe for probe in probes(world, wanted.domain) if probe.name == SELECT)
    asked = replace(harm, items=harm.items[:ASKED])
    return effect(lm, out, lambda model: judge([asked], ask(model, [asked]))[SELECT])


def _barely(seen: Effect | None, wanted: Immunisation, world: World) -> list[str]:
    families = {catalogue.card("defence", stage.name).family for stage in wanted.parts}
    return seen.doubts(world.chance, hides="unlearning" in families) if seen else []


def _too_long(lm: LM, data: Data) -> list[str]:
    """A flag where lines of the hazard did not fit; short, as flags of a folder are."""
    cut = cut_of(lm, data.harmful)
    return [f"{cut.trained:,} of {cut.of_trained:,} lines were cut to the context"] * bool(
        cut.trained
    )


@contextlib.contextmanager
def _deterministic() -> Iterator[None]:
    """Inside, torch takes the same sums in the same order, where it can."""
    before = torch.are_deterministic_algorithms_enabled()
    warned = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warned)


def require_own(out: Path) -> None:
    """Refuse a folder that holds something that titer did not make.

    Raises:
        BadInput: it does.
    """
    if out.exists() and any(out.iterdir()) and not (out / "titer.json").exists():
        raise BadInput(f"{out} exists and is not a model that titer made; choose another --out.")
    require_regular(out)


def write(wanted: Immunisation, watch: Watch | None = None) -> Status:
    """Load ``wanted.model`` and :func:`keep` what becomes of it."""
    if not wanted.results[0].exists():
        keep(load_model(wanted.model), wanted, load_named_world(wanted.source), watch)
    return "ok"


def keep(
    lm: LM,
    wanted: Immunisation,
    world: World,
    watch: Watch | None = None,
    save_every: int | None = None,
) -> None:
    """Immunise and write the folder ``wanted.out``, whole or not at all; kept if it is there.
    ``watch`` is told of every training step. What is reached on the way is kept beside the folder
    ``save_every`` steps, or at least where the process is asked to end, and taken up again.

    Raises:
        BadInput: the folder holds another immunised model.
    """
    target = Path(wanted.out)
    if (made := target / "titer.json").exists():
        try:
            kept = load_json(made.read_text(encoding="utf-8"))["key"]
        except (OSError, *UNREADABLE) as error:
            raise BadInput(
                f"{made} is damaged ({error}); delete {target}, or choose another --out."
            ) from None
        if kept != wanted.key:
            raise BadInput(f"{target} holds another immunised model; choose another --out.")
        return
    keeper = keeper_of(target, wanted.key, wanted.parts, "defence", save_every)
    out, outcome = immunise(lm, wanted, world, watch, keeper)
    with atomic_folder(target) as scratch:
        out.save(scratch)
        facts = {
            "titer": __version__,
            "key": wanted.key,
            "defence": [asdict(stage) for stage in wanted.parts],
            "base": {"source": wanted.title or lm.name, "digest": wanted.base},
            "world": {"name": world.name, "digest": wanted.world, "domain": wanted.domain},
            "seed": wanted.seed,
            "share": wanted.share,
            **({"held": wanted.held} if wanted.held else {}),
            **({"chunk": wanted.chunk} if wanted.chunk else {}),
            "draw": wanted.draw,
            "spent": asdict(outcome.spent),
            "seconds": round(outcome.seconds, 3),
            "weights": outcome.weights,
            "flags": list(outcome.flags),
            "effect": outcome.effect and outcome.effect.to_json(),
            "losses": [float(f"{loss:.6g}") for loss in outcome.losses],
            "course": [dict(row) for row in outcome.course],
            "chat_template": lm.template_digest(),
        }
        (scratch / "README.md").write_text(
            model_card(wanted.title or lm.name, wanted, outcome), encoding="utf-8"
        )
        facts["files"] = folder_digest(scratch)
        (scratch / "titer.json").write_text(json.dumps(facts, indent=1), encoding="utf-8")
    if keeper:
        keeper.done()


def keeper_of(
    out: Path, key: str, parts: Sequence[Part], kind: Kind, save_every: int | None
) -> Keeper | None:
    """Who keeps work on its way beside the folder ``out``; nobody where a method draws chance
    inside its steps, so that no second run could take it up to the same bits.

    Raises:
        BadInput: such a method is to be kept all the same.
    """
    strict = [
        p.name for p in parts if not getattr(catalogue.card(kind, p.name).build, "resumes", 1)
    ]
    if not strict:
        folder = out.resolve()
        return Keeper(folder.with_name(f"{folder.name}.unfinished"), save_every, key)
    if save_every is None:
        return None
    raise BadInput(
        f"{strict[0]} draws chance inside its steps and cannot be taken up again to the same bits; "
        "leave --save-every out."
    )


def account(folder: Path) -> tuple[tuple[Mapping[str, float], ...], tuple[str, ...]]:
    """What a defence wrote down of its own way and its doubts, where titer made the model.

    The file may come from anywhere: what is not a row of finite numbers, or a short flag, is
    dropped.
    """
    try:
        facts = load_json((folder / "titer.json").read_text(encoding="utf-8"))
        rows, flags = facts.get("course", []), facts.get("flags", [])
    except (OSError, *UNREADABLE):
        return (), ()
    course = [
        {str(key): float(value) for key, value in row.items()}
        for row in (rows if isinstance(rows, list) else [])[:_ROWS]
        if isinstance(row, dict)
        and all(isinstance(v, int | float) and math.isfinite(v) for v in row.values())
    ]
    doubts = [
        flag
        for flag in (flags if isinstance(flags, list) else [])[:_FLAGS]
        if isinstance(flag, str) and 0 < len(flag) <= 80
    ]
    return tuple(course), tuple(doubts)


def made_from(folder: Path) -> tuple[str, str] | None:
    """The defence that made a model and the model it was made from, as its folder says; None where
    it says nothing."""
    try:
        facts = load_json((folder / "titer.json").read_text(encoding="utf-8"))
        stages, base = facts["defence"], facts["base"]["source"]
        return "+".join(str(stage["name"]) for stage in stages), str(base)
    except (OSError, KeyError, TypeError, *UNREADABLE):
        return None


def model_card(base: str, wanted: Immunisation, outcome: Outcome) -> str:
    """A Hugging Face model card: what was done, by what, at what cost, and what is not claimed."""
    names = "+".join(stage.name for stage in wanted.parts)
    front = yaml.safe_dump(
        {"library_name": "transformers", "base_model": base, "tags": ["titer", "immunised", names]},
        sort_keys=False,
    )
    lines = [f"---\n{front}---", f"# {Path(base).name or base}, immunised with {names}", ""]
    for stage in wanted.parts:
        card = catalogue.card("defence", stage.name)
        lines += [
            f"## {stage.name}",
            f"{card.summary}. Source: {card.source}. Departures: {card.departures}.",
            "",
            *(f"- `{name}`: {value}" for name, value in stage.fields.items()),
            "",
        ]
    lines += [
        "## Cost",
        f"{outcome.spent.steps:,} steps, {outcome.spent.tokens:,} tokens, "
        f"{outcome.spent.flops:.3g} floating-point operations, {outcome.seconds:.1f} s. "
        f"Seed {wanted.seed}."
        + (f" Made with {wanted.share:.0%} of the hazard." if wanted.share < 1 else ""),
        "",
        *(["## What it did", outcome.effect.text, ""] if outcome.effect else []),
        *([f"- {flag}" for flag in outcome.flags] + [""] * bool(outcome.flags)),
        "## What this does not say",
        "Nothing here is a claim of resistance. Measure it: `titer bench` on this folder, with "
        "`--undefended` and the model that it was made from.",
        "",
    ]
    return "\n".join(lines)
