"""Whether trials that were run again agree with what is on disk, each by itself and together."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from titer.core.diagnoses import diagnosis
from titer.core.protocol import HARM, Z, is_utility
from titer.core.reading import UNREADABLE, load_json
from titer.core.records import Point, Trace, Trial
from titer.evidence.resample import wilson
from titer.run.sound import released, untouched

__all__ = [
    "Again",
    "Agreement",
    "Comparison",
    "Verdict",
    "agreement",
    "alike_after_all",
    "compare",
    "drifted",
    "elsewhere",
]

Verdict = Literal["same", "rounding", "differs"]
_ALONG = ("losses", "rates", "flags", "doubts", "course")
"""What a trial writes on its way: where weights come out the same, so does this."""
_DECIDES = ("arithmetic", "device")
"""What of a machine decides the last bits, beside the versions of ``_LIBRARIES``."""
_LIBRARIES = ("torch", "transformers", "peft", "numpy", "titer")
_FIRST_LOSS = 1e-3
"""How far, as a share, rounding may move a loss before any training has amplified it."""
_EARLY_LOSS, _EARLY = 1e-2, 10
"""The same for the losses up to the tenth."""
_LATE_LOSS, _LATE_LEAST = 0.5, 0.1
"""The same for the mean of the last tenth of the losses, and what is always allowed, in nats."""
_RATE = 1e-6
"""The same for a learning rate, which follows a schedule."""
_COST = 0.1
"""The same for tokens and operations."""
_NUMBER = 1e-2
"""The same for a diagnosis of a model as it was released."""
_TRAINED = 0.25
"""The same for losses along a way that a diagnosis trained."""
_QUARTER = 0.25
"""The share of trained trials that must come out to the bit before a folder's own word on its
machine is not believed."""
_CERTAIN, _FEWEST, _SHIFT = 0.9995, 4, 0.02
"""When trials differ together by more than rounding: the quantile of Student's distribution, the
fewest trials, and the least mean difference, on [0, 1]."""


# -- the two machines ------------------------------------------------------------------------------


def elsewhere(root: Path, here: Mapping[str, Any]) -> str:
    """Why results of a run folder cannot be expected here to the bit, by its own word; empty where
    they can.

    ``here`` describes this machine as a run folder's ``env.json`` does its own. What decides is how
    it computes (:func:`titer.nn.arithmetic.arithmetic`) and with what, not what it is called.
    """
    try:
        there = load_json((root / "env.json").read_text(encoding="utf-8"))
        packages, beside = there["packages"], there.get("beside", [])
        was = {name: there.get(name) for name in _DECIDES}
        was |= {name: packages.get(name) for name in _LIBRARIES[:-1]} | {"titer": there["titer"]}
    except (OSError, *UNREADABLE):
        return "the folder does not say on what machine it was made"
    now = {name: here.get(name) for name in _DECIDES}
    now |= {name: here["packages"].get(name) for name in _LIBRARIES[:-1]} | {"titer": here["titer"]}
    if was["arithmetic"] is None:
        return "the folder does not say how its machine computes"
    other = [f"{name} {now[name]}, was {was[name]}" for name in was if was[name] != now[name]]
    if not other and beside:
        return f"machines that compute otherwise filled the folder beside the first: {len(beside)}"
    if not other and _on_card(here):
        return "a graphics card may sum in another order each time"
    return "; ".join(other)


def alike_after_all(
    recorded: Mapping[str, Trace], again: Mapping[str, Trace], here: Mapping[str, Any]
) -> str:
    """Why a folder's word that its machine computes otherwise is not believed; empty where nothing
    speaks against it.

    Training amplifies a difference in the last bit, so weights that come out to the bit after
    training were trained by the same arithmetic. ``env.json`` is anybody's to edit, and would
    otherwise excuse what was changed.
    """
    if _on_card(here):
        return ""
    as_were = {digest for digests in released(recorded.values()).values() for digest in digests}
    trained = [
        key
        for key, trace in again.items()
        if _trained(trace) and key in recorded and trace.weights not in as_were
    ]
    same = [key for key in trained if again[key].weights == recorded[key].weights]
    if len(same) < 2 or len(same) < _QUARTER * len(trained):
        return ""
    return f"{len(same)} of {len(trained)} trials that train came out to the bit"


def _on_card(here: Mapping[str, Any]) -> bool:
    return str(here.get("device", "cpu")).startswith("cuda")


def _trained(trace: Trace) -> bool:
    return trace.status == "ok" and bool(trace.losses) and not untouched(trace.trial)


@dataclass(frozen=True, slots=True, kw_only=True)
class Again:
    """A trial that was run again: its trace, and whether the model said the same as on disk; None
    where one of the two did not keep what was said."""

    trace: Trace
    said: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What came of running a part of a folder again: each trial's agreement, in the order of keys.

    ``other``: why this machine does not compute as that of the folder did, empty where it does;
    ``disproved``: what speaks against the folder's own word on that, where it says otherwise;
    ``together``: what all trials of a model show, each being within its own interval.
    """

    found: tuple[Agreement, ...]
    other: str
    disproved: str
    together: tuple[str, ...]

    @property
    def agrees(self) -> bool:
        """Whether nothing differs by more than rounding."""
        return not self.together and all(one.verdict != "differs" for one in self.found)


def compare(
    root: Path,
    recorded: Mapping[str, Trace],
    again: Mapping[str, Again],
    wanted: Collection[str],
    here: Mapping[str, Any],
) -> Comparison:
    """Hold what was run again against a folder; ``wanted`` are the keys that had to be, ``here``
    describes this machine."""
    traces = {key: one.trace for key, one in again.items() if key in recorded}
    other = elsewhere(root, here)
    disproved = alike_after_all(recorded, traces, here) if other else ""
    apart = bool(other) and not disproved
    found = [
        agreement(recorded[key], trace, elsewhere=apart, said=again[key].said)
        for key, trace in traces.items()
    ]
    found += [
        Agreement(trial=recorded[key].trial, verdict="differs", why="it did not come back")
        for key in set(wanted) - traces.keys()
    ]
    return Comparison(
        found=tuple(sorted(found, key=lambda one: one.trial.key)),
        other="" if disproved else other,
        disproved=f"{disproved}, whatever env.json says ({other})" if disproved else "",
        together=tuple(drifted(recorded, traces)) if apart else (),
    )


# -- one trial -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How a trial that was run again compares with what is on disk.

    ``same``: every score, number of a check, loss, rate, flag and answer, and the weights, to the
    bit. ``rounding``: it was run on a machine that computes otherwise, and differs by no more than
    that explains. Before training that is one item or a thousandth of a mean, a thousandth of the
    first loss, and a hundredth of the next nine and of what a diagnosis finds, and so it is
    wherever the weights came out the same; after, since training amplifies rounding, each mean must
    lie in the recorded one's 95 % interval over items, and the last losses are half as much again
    at most. Weights that no training has touched are the same
    on every machine. All else ``differs``. ``largest`` is the greatest difference of two means, at
    ``at``. ``why`` says what differs, empty where nothing does.
    """

    trial: Trial
    verdict: Verdict
    largest: float = 0.0
    at: str = ""
    why: str = ""


def agreement(
    recorded: Trace, again: Trace, *, elsewhere: bool, said: bool | None = None
) -> Agreement:
    """Compare two traces of one trial, probe by probe and checkpoint by checkpoint.

    ``elsewhere``: the second was run on a machine that computes otherwise; without that only equal
    bits agree. ``said``: whether the model said the same, None where it is not known.
    """
    trial = recorded.trial
    if again.trial.key != trial.key:
        raise ValueError("two traces of different trials cannot agree.")
    if recorded.status != again.status:
        last = again.error.strip().splitlines()[-1:] or [""]
        why = f"was {recorded.status}, is {again.status}" + (f": {last[0]}" if last[0] else "")
        return Agreement(trial=trial, verdict="differs", why=why)
    if _alike(recorded, again, "points") and recorded.weights == again.weights:
        others = [name for name in _ALONG if not _alike(recorded, again, name)]
        others += ["answers"] if said is False and not elsewhere else []
        if others:
            why = f"its scores and weights are the same, and not its {' and '.join(others)}"
            return Agreement(trial=trial, verdict="differs", why=why)
        return Agreement(trial=trial, verdict="same")
    steps = [[point.spent.steps for point in trace.points] for trace in (recorded, again)]
    if steps[0] != steps[1]:
        why = f"was looked at after {_list(steps[0])} steps, is after {_list(steps[1])}"
        return Agreement(trial=trial, verdict="differs", why=why)
    outside = [] if elsewhere else ["this machine computes alike, so bits should agree"]
    if untouched(trial) and recorded.weights != again.weights:
        outside.append(f"weights {again.weights} before any training, were {recorded.weights}")
    outside += [*_losses(recorded, again), *_rates(recorded, again)]
    largest, at, moved = _scores(recorded, again)
    outside += moved
    outside += [
        f"{told} at step {old.spent.steps}"
        for old, new in zip(recorded.points, again.points, strict=True)
        for told in (*_spent(old, new), *_logs(trial, old, new))
    ]
    verdict: Verdict = "differs" if outside else "rounding"
    return Agreement(
        trial=trial, verdict=verdict, largest=largest, at=at, why="; ".join(outside[:3])
    )


def _scores(recorded: Trace, again: Trace) -> tuple[float, str, list[str]]:
    """The largest difference of two means, where it is, and the means that rounding did not move
    there."""
    equal = bool(recorded.weights) and recorded.weights == again.weights
    largest, at = 0.0, ""
    outside: list[str] = []
    for old, new in zip(recorded.points, again.points, strict=True):
        if set(old.scores) != set(new.scores):
            outside.append(f"other probes at step {old.spent.steps}")
            continue
        for probe, scores in old.scores.items():
            place = f"{probe} at step {old.spent.steps}"
            if len(scores) != len(new.scores[probe]):
                outside.append(f"{place}: {len(scores)} items, now {len(new.scores[probe])}")
                continue
            was, low, high = _interval(scores, equal=equal or not old.spent.steps)
            now = sum(new.scores[probe]) / max(1, len(scores))
            if abs(now - was) > largest:
                largest, at = abs(now - was), place
            if not low <= now <= high:
                outside.append(f"{place}: {now:.3f}, was {was:.3f} [{low:.3f}, {high:.3f}]")
    return largest, at, outside


def _losses(recorded: Trace, again: Trace) -> Iterator[str]:
    """What is said of the losses: closely of the first, which training has hardly amplified yet,
    and roughly of where they end."""
    count = len(recorded.losses)
    if count != len(again.losses):
        yield f"{count} losses, now {len(again.losses)}"
        return
    early = zip(recorded.losses[:_EARLY], again.losses[:_EARLY], strict=True)
    for step, (was, now) in enumerate(early, start=1):
        share = _EARLY_LOSS if step > 1 else _FIRST_LOSS
        if not _near(was, now, share, least=share * 1e-3):
            what = "first loss" if step == 1 else f"loss at step {step}"
            yield f"{what} {now:.6g}, was {was:.6g}"
            return
    tail = -(-count // 10)
    was, now = (sum(one.losses[-tail:]) / max(1, tail) for one in (recorded, again))
    if count and not _near(was, now, _LATE_LOSS, least=_LATE_LEAST):
        yield f"last losses {now:.6g}, were {was:.6g}"


def _rates(recorded: Trace, again: Trace) -> Iterator[str]:
    if len(recorded.rates) != len(again.rates):
        yield f"{len(recorded.rates)} learning rates, now {len(again.rates)}"
        return
    for step, (was, now) in enumerate(zip(recorded.rates, again.rates, strict=True), start=1):
        if not _near(was, now, _RATE):
            yield f"learning rate {now:.6g} at step {step}, was {was:.6g}"
            return


def _spent(old: Point, new: Point) -> Iterator[str]:
    """What a checkpoint had cost: the same anywhere, but for what a model says while it trains."""
    now = asdict(new.spent)
    for axis, was in asdict(old.spent).items():
        if not _near(was, now[axis], _COST):
            yield f"{now[axis]:,} {axis}, were {was:,}"


def _logs(trial: Trial, old: Point, new: Point) -> Iterator[str]:
    """What is said of the numbers beside the scores; of an attack these are means of its losses,
    which are compared themselves."""
    if set(old.logs) != set(new.logs):
        yield "other numbers"
        return
    whole = abs(old.logs.get("gain", 0.0))
    for name, was in old.logs.items() if diagnosis(trial) else ():
        trained = name.startswith("line:") and name != "line:0"
        # A gain is a norm, and one tensor's may be next to nothing; all others are of order 1.
        least = _NUMBER * whole if name.startswith("gain:") else _NUMBER * (name != "gain")
        if not _near(was, new.logs[name], _TRAINED if trained else _NUMBER, least=least):
            yield f"{name} {new.logs[name]:.6g}, was {was:.6g}"


def _near(was: float, now: float, share: float, *, least: float = 0.0) -> bool:
    """Whether two numbers differ by a share at most, or by ``least``; a NaN is near a NaN."""
    return repr(was) == repr(now) or math.isclose(was, now, rel_tol=share, abs_tol=least)


def _list(steps: Sequence[int]) -> str:
    return ", ".join(map(str, steps)) or "no"


def _alike(one: Trace, other: Trace, name: str) -> bool:
    """Whether two traces say the same of ``name``; a NaN equals a NaN here."""
    return repr(getattr(one, name)) == repr(getattr(other, name))


def _interval(scores: Sequence[float], *, equal: bool) -> tuple[float, float, float]:
    """A mean and where it may come out again: its 95 % interval over items, Wilson's for scores in
    [0, 1], else the normal one, which is never narrower than a thousandth of the mean. With
    ``equal`` weights only rounding can move it: by one item in [0, 1], else by that thousandth."""
    n = max(1, len(scores))
    mean = sum(scores) / n
    bounded = all(0 <= score <= 1 for score in scores)
    if equal:
        half = 1 / n if bounded else 1e-3 * abs(mean)
        return mean, mean - half - 1e-12, mean + half + 1e-12
    if scores and bounded:
        found = wilson(sum(scores), n)
        return mean, float(found.low or 0.0), float(found.high or 0.0)
    spread = math.sqrt(sum((score - mean) ** 2 for score in scores) / max(1, n - 1))
    half = max(Z * spread / math.sqrt(n), 1e-3 * abs(mean))
    return mean, mean - half, mean + half


# -- all of them together --------------------------------------------------------------------------


def drifted(recorded: Mapping[str, Trace], again: Mapping[str, Trace]) -> list[str]:
    """What differs over the trials of one model together though each one alone is within its own
    interval: rounding moves means up and down, a hand moves them one way.

    Looked at are harm and each utility suite at the last checkpoint of trials that train.
    """
    gaps: dict[tuple[str, str], list[float]] = {}
    for key, now in again.items():
        was = recorded.get(key)
        if was is None or not _trained(was) or not _trained(now):
            continue
        for probe in was.points[-1].scores:
            old, new = was.points[-1].mean(probe), now.points[-1].mean(probe)
            if (probe == HARM or is_utility(probe)) and old is not None and new is not None:
                gaps.setdefault((was.trial.subject, probe), []).append(old - new)
    return [
        f"{probe} of {subject} is {abs(mean):.3f} {'higher' if mean > 0 else 'lower'} on disk than "
        f"here over {len(found)} trials, which rounding does not explain"
        for (subject, probe), found in gaps.items()
        if (mean := _one_way(found))
    ]


def _one_way(gaps: Sequence[float]) -> float:
    """The mean of differences that lie to one side of 0; 0 where they may not."""
    from scipy import stats

    n = len(gaps)
    if n < _FEWEST:
        return 0.0
    mean = sum(gaps) / n
    error = math.sqrt(sum((gap - mean) ** 2 for gap in gaps) / (n - 1) / n)
    certain = abs(mean) > float(stats.t.ppf(_CERTAIN, n - 1)) * error
    return mean if abs(mean) > _SHIFT and certain else 0.0
