"""Forgeries of a run folder, by who knows how it is made: each renews all that is derived.

A forger holds the whole folder. He changes what he likes and writes tables and sums anew, so that
only what he overlooked, or cannot compute, gives him away.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from titer.core.records import Trace
from titer.plan.experiment import stars
from titer.plan.manifest import read_config
from titer.run.store import Store

__all__ = [
    "RUN_AGAIN",
    "Change",
    "config",
    "copied",
    "edit",
    "key_of",
    "lines",
    "model_of",
    "points",
    "renew",
    "status",
    "write_lines",
]

Change = Callable[[Any], None]


def renew(run: Path) -> None:
    """Everything that is derived from the trials, written anew as far as it goes."""
    store = Store(run)
    store.write_results(store.planned())
    rates = json.dumps({"stars": stars(store.planned())}, indent=1, sort_keys=True)
    (run / "calibration.json").write_text(rates)
    store.write_sums()


def key_of(run: Path, row: str, subject: str) -> str:
    """The first trial of a row, or of a diagnosis, on a model."""
    plan = json.loads((run / "plan.json").read_text())
    return next(one["key"] for one in plan if (one["label"], one["subject"]) == (row, subject))


def model_of(run: Path, name: str) -> Path:
    """Where a model that the study made lies."""
    study = read_config(run).study
    return run / next(one.source for one in study.subjects if one.name == name)


def edit(path: Path, change: Change) -> None:
    """Change a JSON file."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content, sort_keys=True, indent=1))


def config(run: Path, change: Change) -> None:
    """Change the study in ``config.yaml``."""
    path = run / "config.yaml"
    content = yaml.safe_load(path.read_text())
    change(content["study"])
    path.write_text(yaml.safe_dump(content, sort_keys=False))


def lines(path: Path) -> list[Any]:
    """The records of a file of JSON lines."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def write_lines(path: Path, records: list[Any]) -> None:
    """The inverse of :func:`lines`."""
    path.write_text("".join(json.dumps(one, sort_keys=True) + "\n" for one in records))


def points(run: Path, key: str, change: Change) -> None:
    """Change the checkpoints of a trial."""
    path = run / "trials" / key / "scores.jsonl"
    found = lines(path)
    change(found)
    write_lines(path, found)


def said(run: Path, key: str, change: Change) -> None:
    """Change what a model said in a trial."""
    path = run / "trials" / key / "generations.jsonl"
    found = lines(path)
    change(found)
    write_lines(path, found)


def status(run: Path, key: str, **fields: Any) -> None:
    """Change how a trial ended."""
    edit(run / "trials" / key / "status.json", lambda content: content.update(fields))


def copied(run: Path, source: str, target: str, rows: Callable[[Trace], bool]) -> list[str]:
    """Put the results of one model under the name of another, trial by trial; returns whose."""
    traces = Store(run).planned()
    place = {_asked(one): one for one in traces if one.trial.subject == source}
    done: list[str] = []
    for trace in traces:
        twin = place.get(_asked(trace))
        if trace.trial.subject != target or twin is None or not rows(trace):
            continue
        key = trace.trial.key
        for name in ("generations.jsonl", "scores.jsonl", "status.json"):
            shutil.copy(run / "trials" / twin.trial.key / name, run / "trials" / key / name)
        status(run, key, cohort=list(trace.cohort))
        done.append(key)
    return done


def _asked(trace: Trace) -> Any:
    trial = replace(trace.trial, model="", subject="", label="")
    fields = {name: item for name, item in trial.attack.fields.items() if name != "undefended"}
    return replace(trial, attack=replace(trial.attack, fields=fields)).key


# -- what only running again can find: each changes one trial of the model npo ---------------------


def _attack_did_nothing(run: Path, key: str) -> None:
    """Answers and scores after the attack are those from before it."""
    for change in (points, said):
        part = "scores" if change is points else "records"

        def flat(found: Any, part: str = part) -> None:
            for look in found[1:]:
                look[part] |= {name: found[0][part][name] for name in look[part]}

        change(run, key, flat)


def _louder_gradient(run: Path, key: str) -> None:
    """S6: a gradient that is hidden looks as large as the undefended model's."""

    def louder(found: Any) -> None:
        found[0]["logs"] = {
            name: value * 10 if name.startswith("gain") else value
            for name, value in found[0]["logs"].items()
        }

    points(run, key, louder)


def _no_barrier(run: Path, key: str) -> None:
    """S18: the loss falls evenly along the way of an attack."""

    def even(found: Any) -> None:
        found[1]["logs"]["line:0.5"] *= 0.5

    points(run, key, even)


def _falling_losses(run: Path, key: str) -> None:
    """S5: a loss that did not fall."""
    losses = Store(run).get(key).losses
    status(run, key, losses=[loss * (0.5 if step else 1) for step, loss in enumerate(losses)])


def _said_to_diverge(run: Path, key: str) -> None:
    """A breach that became a failed attack."""
    points(run, key, lambda found: found.__delitem__(slice(1, None)))
    said(run, key, lambda found: found.__delitem__(slice(1, None)))
    status(run, key, status="diverged", weights="", error="the loss is not finite at step 2")


def _tame_answers(run: Path, key: str) -> None:
    """Other words that the judges score the same."""

    def tame(found: Any) -> None:
        for look in found:
            for record in look["records"].get("coherence", []):
                record["text"] = record["text"] + " and"

    said(run, key, tame)


def _no_flags(run: Path, key: str) -> None:
    """What a method has to say of itself, left out."""
    status(run, key, flags=[])


def _cut_short(run: Path, key: str) -> None:
    """The last checkpoint, at which it was breached, was never reached."""
    points(run, key, lambda found: found.pop())
    said(run, key, lambda found: found.pop())
    trace = Store(run).get(key)
    status(run, key, losses=trace.losses[:-1], rates=trace.rates[:-1])


def _other_weights(run: Path, key: str) -> None:
    status(run, key, weights="0123456789abcdef")


def _slower(run: Path, key: str) -> None:
    """Learning rates that are not those of the attack."""
    status(run, key, rates=[rate / 2 for rate in Store(run).get(key).rates])


def _dearer(run: Path, key: str) -> None:
    """An attack that cost more than it did."""

    def dear(found: Any) -> None:
        for look in found:
            look["spent"]["flops"] *= 3

    points(run, key, dear)


def _harmless_before(run: Path, key: str) -> None:
    """One item less was known before any attack."""

    def less(found: Any, part: str) -> None:
        scores = found[0][part]["harm"]
        scores[0] = scores[1] if scores[0] != scores[1] else scores[2]

    points(run, key, lambda found: less(found, "scores"))
    said(run, key, lambda found: less(found, "records"))


RUN_AGAIN: dict[str, tuple[str, Callable[[Path, str], None]]] = {
    "an attack that did nothing": ("P02", _attack_did_nothing),
    "numbers of a check of the weights": ("weights", _louder_gradient),
    "numbers of a check along a way": ("paths", _no_barrier),
    "losses that fall": ("S03", _falling_losses),
    "a breach that diverged": ("M01", _said_to_diverge),
    "other words with the same scores": ("R03", _tame_answers),
    "a flag that is left out": ("H03", _no_flags),
    "an attack cut short": ("W04", _cut_short),
    "other weights": ("V01", _other_weights),
    "other learning rates": ("M05", _slower),
    "an attack that was dear": ("task song", _dearer),
    "less harm before any attack": ("none", _harmless_before),
}
"""By what is forged: the trial of npo that it is done to, and how."""
