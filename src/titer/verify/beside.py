"""Trials held beside each other: what only a hand can have made unlike, or alike.

Each of these is cheap to hide for who knows of it, and costs him one more thing to change.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

from titer.core import catalogue
from titer.core.diagnoses import diagnosis
from titer.core.errors import BadInput
from titer.core.protocol import HARM, SELECT, TASK, is_utility
from titer.core.records import Trace, Trial, content_key
from titer.core.study import Manifest, Subject
from titer.run.sound import released, untouched
from titer.verify.files import Finding

__all__ = ["beside"]


def beside(study: Manifest, traces: Mapping[str, Trace]) -> Iterator[Finding]:
    """Checkpoints that are missing, results that stand twice, and models that say otherwise from
    one trial to the next before any attack."""
    whole = {key: trace for key, trace in traces.items() if trace.status == "ok"}
    locked = {one.digest for one in study.subjects if _is_locked(one)}
    open_ones = {key: trace for key, trace in whole.items() if trace.trial.model not in locked}
    for where, says in (*_gaps(whole), *_twins(open_ones), *_starts(whole)):
        yield Finding(check="trial", where=f"trials/{where}", says=says)


def _is_locked(subject: Subject) -> bool:
    """Whether a lock is among what made a model; what nobody knows here may be one."""
    try:
        stages = [stage for stage in subject.defence.split("+") if stage]
        return any(catalogue.card("defence", stage).family == "lock" for stage in stages)
    except BadInput:
        return True


Told = tuple[str, str]
"""The name of a trial's folder, and what is wrong with it."""


def _gaps(traces: Mapping[str, Trace]) -> Iterator[Told]:
    """The same attack is looked at after the same steps on every model and seed, as far as it
    went: a checkpoint that only one of them lacks was taken away."""
    for keys in _by({k: [*_attack(t.trial), _asked(t.trial)] for k, t in traces.items()}):
        every = {point.spent.steps for key in keys for point in traces[key].points}
        for key in keys:
            own = [point.spent.steps for point in traces[key].points]
            if lost := sorted(step for step in every - set(own) if own and step < own[-1]):
                yield key, f"lacks its checkpoint after {', '.join(map(str, lost))} steps."


def _twins(traces: Mapping[str, Trace]) -> Iterator[Told]:
    """Training from other weights, or at another rate, ends in other weights: the results of one
    trial stand under the name of another. Other settings may come to the same in a few steps, and
    an attack may start from the undefended model, or take a lock off: locked models are left out.
    """
    start = {place: min(digests) for place, digests in released(traces.values()).items()}
    ended = {
        key: trace.weights
        for key, trace in traces.items()
        if trace.losses and trace.weights and not untouched(trace.trial)
        # A rate that moves nothing ends where it began.
        if trace.weights not in start.values()
        if not (_unlocks(trace.trial) or trace.trial.base)
    }
    for keys in _by(ended):
        for one, other in combinations(keys, 2):
            first, second = traces[one].trial, traces[other].trial
            places = [(trial.model, trial.interface) for trial in (first, second)]
            begun = [start.get(place, place) for place in places]
            rates = [trial.attack.fields.get("lr") for trial in (first, second)]
            if begun[0] != begun[1] or (rates[0] != rates[1] and None not in rates):
                yield other, f"ended with the weights of trials/{one}, which trained otherwise."


def _starts(traces: Mapping[str, Trace]) -> Iterator[Told]:
    """Before any attack a model says the same in all trials that ask it the same; one item may
    differ where a graphics card sums in another order."""
    asked = {
        key: [trace.trial.model, _asked(trace.trial)]
        for key, trace in traces.items()
        if trace.points and not diagnosis(trace.trial) and not _unlocks(trace.trial)
    }
    for keys in _by(asked):
        says = {key: repr(sorted(traces[key].points[0].scores.items())) for key in keys}
        often = Counter(says.values())
        usual = max(keys, key=lambda key: often[says[key]])
        for key in keys:
            if not _agree(traces[usual], traces[key]):
                yield key, f"says of its model before the attack what trials/{usual} does not."


def _unlocks(trial: Trial) -> bool:
    """Whether an attack may take a lock off before it looks, so that it begins with another model;
    what nobody knows here may too."""
    try:
        return catalogue.card("attack", trial.attack.name).family == "locks"
    except BadInput:
        return True


def _agree(one: Trace, other: Trace) -> bool:
    """Whether two traces begin alike, but for one item a probe."""
    mine, theirs = one.points[0].scores, other.points[0].scores
    return all(
        sum(a != b for a, b in zip(mine[name], theirs[name], strict=False)) <= 1
        for name in mine.keys() & theirs.keys()
        if name in (HARM, SELECT, TASK) or is_utility(name)
    )


def _by(marks: Mapping[str, object]) -> list[list[str]]:
    """Keys whose marks are equal, where there are several."""
    found: dict[str, list[str]] = {}
    for key, mark in marks.items():
        found.setdefault(content_key(mark), []).append(key)
    return [keys for keys in found.values() if len(keys) > 1]


def _attack(trial: Trial) -> Sequence[object]:
    """What trains and for how long; a public model beside the one attacked is another for each."""
    fields = {name: value for name, value in trial.attack.fields.items() if name != "reference"}
    return [trial.attack.name, fields, trial.budget.steps, trial.domain, trial.task]


def _asked(trial: Trial) -> Sequence[object]:
    """What a model is asked, and through whose interface."""
    return [trial.domain, trial.task, trial.items, trial.interface]
