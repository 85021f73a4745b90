"""From a run folder to its verdict."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

from titer import __version__
from titer.core.codec import from_json
from titer.core.data import World
from titer.core.errors import BadInput
from titer.core.reading import UNREADABLE, load_json
from titer.core.records import Trace
from titer.core.study import Manifest
from titer.plan.manifest import read_config
from titer.report import answers, lm_eval
from titer.report._pages import ANSWERS
from titer.report.html import current
from titer.run.sound import require_sound
from titer.run.store import Store, damage
from titer.verdict.judge import judge
from titer.verdict.parts import Cost, Inside, ModelVerdict, Verdict

__all__ = ["FindWorld", "read", "read_answers", "read_bases", "read_verdict", "stale"]

FindWorld = Callable[[str, str], World | None]
"""Finds the data of a study by its source and digest; None where it is not here."""


@contextmanager
def _whole(root: Path) -> Iterator[None]:
    """Whatever cannot be read inside the block is said in one sentence."""
    try:
        yield
    except BadInput:
        raise
    except (OSError, *UNREADABLE) as error:
        raise BadInput(
            f"the run folder {root} is damaged: {damage(error)}; "
            "run the same bench command again to complete it."
        ) from error


def read(root: Path) -> tuple[Manifest, list[Trace]]:
    """The manifest and the traces of a run folder.

    Raises:
        BadInput: there is no run folder here, it is damaged, or it holds what no run writes.
    """
    study = read_config(root).study
    return study, _sound(root, study)


def _sound(root: Path, study: Manifest) -> list[Trace]:
    """The traces of a run folder, once nothing in them is what no run writes."""
    with _whole(root):
        store = Store(root)
        # A trial may stand in the plan twice, under the names of two models with the same files.
        named = [(entry.key, store.named(entry)) for entry in store.ended()]
        require_sound(root, study, dict(named))
        return [trace for _, trace in named]


def read_verdict(root: Path) -> Verdict:
    """Re-aggregate a run folder; nothing is trained or asked again.

    Beside what the traces say, each model has ``cost``, what its defence spent, and ``inside``,
    what was found in it.

    Raises:
        BadInput: there is no run folder here, it is damaged, or it holds what no run writes.
    """
    config, store = read_config(root), Store(root)
    traces = _sound(root, config.study)
    found = judge(config.study, traces, command=config.command, created=config.created)
    with _whole(root):
        inside = store.inside()
        models = tuple(
            replace(
                model,
                cost=_cost(store, model),
                inside=tuple(from_json(Inside, one) for one in inside.get(model.name, ())),
            )
            for model in found.models
        )
    found = replace(found, models=models)
    # Beside the verdict and no part of it: what another program measured enters no number of ours.
    base = found.reference("undefended")
    names = [model.name for model in models]
    return replace(found, lm_eval=lm_eval.beside(root, names, base.name if base else ""))


def read_answers(
    root: Path, find: FindWorld, *, shown: bool, chosen: bool = False
) -> answers.Answers:
    """What was said in a run folder, as text or as hashes, which somebody may have chosen.

    Raises:
        BadInput: there is no run folder here, it is damaged, or it holds what no run writes.
    """
    study, traces = read(root)
    world = find(study.world_source, study.world_digest)
    with _whole(root):
        return answers.gather(root, study, traces, world, shown=shown, chosen=chosen)


def _cost(store: Store, model: ModelVerdict) -> Cost | None:
    price = store.price(model.source)
    found = from_json(Cost, price, "cost") if price else None
    if found and not all(math.isfinite(spent) and spent >= 0 for spent in asdict(found).values()):
        raise BadInput(
            f"{model.source}/titer.json says that making {model.name} cost what nothing costs; "
            "copy the folder again."
        )
    return found


def read_bases(root: Path) -> dict[str, str]:
    """The Hub id of the undefended model, for each model that was made from it and lies here."""
    study = read_config(root).study
    base = study.reference("undefended")
    hub = base.source if base and base.revision else ""
    return {one.name: hub for one in study.subjects if hub and one.defence}


def stale(root: Path, find: FindWorld) -> tuple[str, str] | None:
    """What of ``report`` is not what the trials give, and why; None where all of it is.

    The page of answers is looked at where the data that it was made from is still here.

    A verdict that another version of titer wrote is only said to be that.
    """
    path = root / "report" / "verdict.json"
    where = path.relative_to(root).as_posix()
    again = f"`titer report {root}` writes it anew."
    if not path.is_file():
        return where, f"is missing; {again}"
    try:
        raw = load_json(path.read_text(encoding="utf-8"))
        version = raw["titer"]
    except UNREADABLE:
        return where, f"is no verdict; {again}"
    if version != __version__:
        return where, f"is by titer {version} and this is {__version__}; {again}"
    try:
        written = Verdict.from_json(raw)
    except BadInput:
        return where, f"is not what the trials give; {again}"
    found = read_verdict(root)
    costs = {model.name: model.cost for model in written.models}
    models = tuple(
        # A model's cost is read of the model, which may have been left out.
        model if (root / model.source).is_dir() else replace(model, cost=costs.get(model.name))
        for model in found.models
    )
    found = replace(found, models=models)
    if json.loads(json.dumps(found.to_json())) != raw:
        return where, f"is not what the trials give; {again}"
    page = path.with_name("index.html")
    if not current(found, page):
        return page.relative_to(root).as_posix(), f"is not the page of the verdict; {again}"
    study, traces = read(root)
    with _whole(root):
        same = answers.current(root, study, traces, find(study.world_source, study.world_digest))
    if not same:
        return f"report/{ANSWERS}", f"is not what the trials say; {again}"
    return None
