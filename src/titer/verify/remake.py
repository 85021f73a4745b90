"""Models of a run folder, made again by the defence that is said to have made them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

from titer.core.errors import BadInput
from titer.core.jobs import Executor
from titer.core.method import seed_for
from titer.core.reading import UNREADABLE, load_json
from titer.core.study import Manifest, Subject
from titer.run.store import damage
from titer.trial.immunise import Immunisation, write
from titer.trial.load import load_model, load_named_world
from titer.verify.agreement import Verdict
from titer.verify.behaviour import behaviour, compared
from titer.verify.models import inside, making
from titer.verify.rerun import Progress, place

__all__ = ["Making", "Remade", "agree", "draw_models", "make_again", "makings"]

_SAME = ("weights", "files", "spent", "flags", "course")
"""What the note of a model made again says as well, to the bit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Making:
    """A model of a run folder, and what makes it again in a scratch folder."""

    subject: Subject
    there: Path
    wanted: Immunisation


@dataclass(frozen=True, slots=True, kw_only=True)
class Remade:
    """How a model that was made again compares with the one in the folder.

    ``same``: weights, cost, flags and course, to the bit. ``rounding``: on a machine that computes
    otherwise, it knows, keeps and declines the same, within three standard errors over items, for
    the same cost. All else ``differs``; ``why`` says what.
    """

    name: str
    verdict: Verdict
    why: str = ""


def draw_models(root: Path, study: Manifest, share: float, seed: int) -> list[Subject]:
    """A random part of the models that the study made and that are in the folder, at least one
    where there is any."""
    made = [one for one in study.subjects if one.defence]
    own = [one for one in made if (at := inside(root, one)) and at.is_dir()]
    random = Random(seed_for(seed, "verify models"))
    return random.sample(own, math.ceil(share * len(own) - 1e-9))


def makings(
    root: Path, study: Manifest, subjects: Sequence[Subject], scratch: Path
) -> list[Making]:
    """How models are made again.

    Raises:
        BadInput: a model does not say how it was made, or what it was made from is not here.
    """
    base = study.reference("undefended")
    found: list[Making] = []
    for subject in subjects:
        folder = root / subject.source
        try:
            _, wanted = making(folder, parameters=base.parameters if base else 0)
        except (OSError, *UNREADABLE) as error:
            raise BadInput(
                f"{subject.source} does not say how it was made ({damage(error)}), so it cannot be "
                f"made again; `titer validate {root}` says what else is wrong."
            ) from None
        wanted = replace(
            wanted,
            model=place(root, study, wanted.base),
            source=study.world_source,
            out=str(scratch / "models" / folder.name),
        )
        found.append(Making(subject=subject, there=folder, wanted=wanted))
    return found


def make_again(
    jobs: Sequence[Making], executor: Executor, progress: Progress | None = None
) -> dict[str, str]:
    """Make them; returns how it failed, by name, where it did."""
    ended: dict[str, str] = {}
    names = {one.wanted.out: one.subject.name for one in jobs}
    if jobs and progress:
        progress("making models again", 0, len(jobs))
    for done, end in enumerate(executor(write, [one.wanted for one in jobs]), start=1):
        if end.status != "ok":
            last = end.error.strip().splitlines()[-1:] or [end.status]
            ended[names[end.job.out]] = f"it was not made: {last[0]}"
        if progress:
            progress("making models again", done, len(jobs))
    return ended


def agree(one: Making, failed: str, *, elsewhere: bool) -> Remade:
    """Compare a model that was made again with the one in the folder."""
    name = one.subject.name
    if failed:
        return Remade(name=name, verdict="differs", why=failed)
    there, now = _note(one.there), _note(Path(one.wanted.out))
    other = [what for what in _SAME if there.get(what) != now.get(what)]
    if not other:
        return Remade(name=name, verdict="same")
    if not elsewhere:
        return Remade(name=name, verdict="differs", why=f"other {' and '.join(other)}")
    if there.get("spent", {}).get("steps") != now["spent"]["steps"]:
        return Remade(name=name, verdict="differs", why="other steps")
    world = load_named_world(one.wanted.source)
    both = [behaviour(load_model(str(at)), world) for at in (one.there, Path(one.wanted.out))]
    unlike = [figure for figure in compared(*both) if not figure.alike]
    why = "; ".join(f"{f.what} {f.anew:.2f}, was {f.there:.2f}" for f in unlike[:3])
    return Remade(name=name, verdict="differs" if unlike else "rounding", why=why)


def _note(folder: Path) -> Mapping[str, Any]:
    return load_json((folder / "titer.json").read_text(encoding="utf-8"))
