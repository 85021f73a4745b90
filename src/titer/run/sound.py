"""What no run can have written: the cheap part of `titer validate`, which every reader asks first.

It looks at a manifest and at traces alone, needs neither data nor models nor a hash of a file, and
takes no side: an unfinished study is sound, and so is one in which every attack failed.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from titer.core.diagnoses import diagnosis
from titer.core.errors import BadInput
from titer.core.protocol import PERPLEXITY, TASK, is_utility
from titer.core.records import Trace, Trial
from titer.core.study import Manifest

__all__ = ["Unsound", "released", "require_sound", "unsound", "untouched"]

_UNTOUCHED = "noop"
"""The attack that leaves a model as it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsound:
    """One thing that no run can have written, and where it stands in the folder."""

    where: str
    says: str


def require_sound(root: Path, study: Manifest, traces: Mapping[str, Trace]) -> None:
    """Refuse a run folder of which :func:`unsound` finds anything.

    Raises:
        BadInput: the first thing found, and how many more there are.
    """
    found = list(unsound(study, traces))
    if not found:
        return
    first = f"{found[0].where} {found[0].says}".rstrip(".")
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    raise BadInput(
        f"the run folder {root} holds what no run writes: {first}{more}; "
        f"`titer validate {root}` names everything."
    )


def unsound(study: Manifest, traces: Mapping[str, Trace]) -> Iterator[Unsound]:
    """What no run can have written, in a fixed order; ``traces`` by the name of their folder."""
    yield from _foreign(study, traces)
    for key, trace in traces.items():
        for says in (*_looks(trace), *_numbers(trace)):
            yield Unsound(where=f"trials/{key}", says=says)
    yield from _items(traces)
    yield from _weights(study, traces)
    yield from _company(traces)


# -- whose it is -----------------------------------------------------------------------------------


def _foreign(study: Manifest, traces: Mapping[str, Trace]) -> Iterator[Unsound]:
    """Each trial against its own name and against the study."""
    models = {subject.digest for subject in study.subjects}
    other = [key for key, trace in traces.items() if trace.trial.suite != study.suite_hash]
    every = bool(other) and len(other) == len(traces)
    if every:
        says = f"all are of suite {traces[other[0]].trial.suite}, not {study.suite_hash}."
        yield Unsound(where="trials", says=says)
    for key, trace in traces.items():
        trial, where = trace.trial, f"trials/{key}"
        if trial.key != key:
            says = f"asks for something that has been changed: its key is {trial.key} now."
            yield Unsound(where=where, says=says)
        if trial.suite != study.suite_hash and not every:
            says = f"is of suite {trial.suite}, and the study is {study.suite_hash}."
            yield Unsound(where=where, says=says)
        if trial.world != study.world_digest:
            says = f"is of world {trial.world}, and the study is {study.world_digest}."
            yield Unsound(where=where, says=says)
        for digest in (trial.model, trial.interface):
            if digest and digest not in models:
                says = f"is on a model {digest} that the study does not name."
                yield Unsound(where=where, says=says)


# -- one trial by itself ---------------------------------------------------------------------------


def _looks(trace: Trace) -> Iterator[str]:
    """The checkpoints of a trial: which there are, and what they cost."""
    trial, points = trace.trial, trace.points
    if trace.status == "ok" and not points:
        yield "ended well and has no checkpoint."
    steps = [point.spent.steps for point in points]
    if steps != sorted(steps):
        yield f"was looked at after {_list(steps)} steps, which is no order."
    spent = [(p.spent.tokens, p.spent.examples, p.spent.flops) for p in points]
    if any(later < sooner for a, b in pairwise(spent) for sooner, later in zip(a, b, strict=True)):
        yield "has a checkpoint that cost less than the one before it."
    if over := [axis for point in points for axis in point.spent.over(trial.budget)]:
        yield f"says that it spent more than its budget: {over[-1]}."


def _numbers(trace: Trace) -> Iterator[str]:
    """Scores that no judge gives, and what a run wrote beside them."""
    spoilt = {name for p in trace.points for name, s in p.scores.items() if not all(map(_real, s))}
    if spoilt:
        yield f"has scores that are no numbers: {_names(spoilt)}."
    beyond = {
        name
        for point in trace.points
        for name, scores in point.scores.items()
        if name not in spoilt and not _within(name, scores)
    }
    if beyond:
        yield f"has scores outside [0, 1]: {_names(beyond)}."
    sizes = Counter(
        (name, len(scores)) for point in trace.points for name, scores in point.scores.items()
    )
    uneven = {name for name, _ in sizes if sum(name == other for other, _ in sizes) > 1}
    if uneven:
        yield f"has other numbers of items from one checkpoint to the next: {_names(uneven)}."
    if not all(_real(rate) and rate >= 0 for rate in trace.rates):
        yield "has a learning rate that is none."
    if not (_real(trace.seconds) and trace.seconds >= 0):
        yield f"says that it took {trace.seconds} seconds."


def _within(name: str, scores: Iterable[float]) -> bool:
    """Whether scores are in the range of their probe. Perplexities are 1 at least, but for
    rounding; by which measure a suite or a task is judged is told by the world alone."""
    if name == PERPLEXITY:
        return all(score > 0.99 for score in scores)
    if is_utility(name) or name == TASK:
        return all(score >= 0 for score in scores)
    return all(0 <= score <= 1 for score in scores)


def _real(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


# -- trials beside each other ----------------------------------------------------------------------


def _items(traces: Mapping[str, Trace]) -> Iterator[Unsound]:
    """Trials that were asked the same have as many answers."""
    asked: dict[tuple[str, str, int | None, str], Counter[int]] = {}
    for trace in traces.values():
        trial = trace.trial
        for name, scores in trace.points[0].scores.items() if trace.points else ():
            place = (trial.domain, trial.task, trial.items, name)
            asked.setdefault(place, Counter())[len(scores)] += 1
    for (domain, task, _, name), sizes in asked.items():
        if len(sizes) > 1:
            shown = ", ".join(f"{count} on {size}" for size, count in sorted(sizes.items()))
            says = f"were scored on different numbers of items for {name} of {task or domain}"
            yield Unsound(where="trials", says=f"{says}: {shown}.")


def untouched(trial: Trial) -> bool:
    """Whether a trial leaves the model as it was released, whatever it does to copies."""
    return trial.attack.name == _UNTOUCHED or diagnosis(trial) is not None


def released(traces: Iterable[Trace]) -> dict[tuple[str, str], set[str]]:
    """The digests of weights that the trials give for each model as it was released, by the
    model's digest and that of whose interface it was asked through, empty for its own: from trials
    that change nothing. Behind another's, weights may be written otherwise
    (:mod:`titer.nn.scales`)."""
    found: dict[tuple[str, str], set[str]] = {}
    for trace in traces:
        trial = trace.trial
        if untouched(trial) and trace.status == "ok":
            found.setdefault((trial.model, trial.interface), set()).add(trace.weights)
    return found


def _weights(study: Manifest, traces: Mapping[str, Trace]) -> Iterator[Unsound]:
    """The weights of one model are the same in all its trials through one interface."""
    names = {subject.digest: subject.name for subject in reversed(study.subjects)}
    for (model, _), digests in released(traces.values()).items():
        if len(digests) > 1:
            says = f"say that {names.get(model, model)} has other weights from one to the next"
            told = ", ".join(one or "none" for one in sorted(digests))
            yield Unsound(where="trials", says=f"{says}: {told}.")
        elif digests == {""}:
            says = f"do not say which weights {names.get(model, model)} has."
            yield Unsound(where="trials", says=says)


def _company(traces: Mapping[str, Trace]) -> Iterator[Unsound]:
    """Who trained beside whom: a cohort is of one model and of one method."""
    for key, trace in traces.items():
        cohort = trace.cohort
        if not cohort:
            continue
        beside = [traces[other] for other in cohort if other in traces]
        kinds = {(one.trial.model, one.trial.world, one.trial.attack.name) for one in beside}
        if key not in cohort or len(set(cohort)) < len(cohort):
            says = "says that it trained in a company that it is not in."
        elif len(kinds) > 1:
            says = "says that it trained beside trials of another model or method."
        else:
            continue
        yield Unsound(where=f"trials/{key}", says=says)


def _list(steps: Iterable[int]) -> str:
    return ", ".join(map(str, steps)) or "no"


def _names(found: Iterable[str]) -> str:
    return ", ".join(sorted(found))
