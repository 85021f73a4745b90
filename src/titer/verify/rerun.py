"""Trials of a run folder, run again in the company they had, and compared with what is on disk."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Literal

from titer.core.diagnoses import diagnosis, reference
from titer.core.errors import BadInput
from titer.core.jobs import Executor
from titer.core.method import seed_for
from titer.core.modelfolder import folder_digest
from titer.core.protocol import Z
from titer.core.records import Trace, Trial
from titer.core.study import Manifest
from titer.evidence.resample import wilson
from titer.plan.manifest import read_config
from titer.run.jobs import Job, perform
from titer.run.store import Store
from titer.trial.load import load_named_world
from titer.worlds.hub import fetch, resolve_model

__all__ = ["Agreement", "agreement", "draw", "elsewhere", "plan", "recorded", "rerun"]

Progress = Callable[[str, int, int], None]


def draw(keys: Iterable[str], share: float, seed: int) -> list[str]:
    """A random part of the keys, at least one; the same keys and seed give the same part.

    Raises:
        BadInput: a share outside (0, 1], or nothing to draw from.
    """
    ordered = sorted(keys)
    if not 0 < share <= 1:
        raise BadInput(f"--sample {share:g}: give a share above 0 and up to 1, as in 0.1.")
    if not ordered:
        raise BadInput("the run folder has no finished trial; run its bench command first.")
    count = max(1, math.floor(share * len(ordered) + 0.5))
    return sorted(Random(seed_for(seed, "verify")).sample(ordered, count))


def recorded(root: Path) -> dict[str, Trace]:
    """The trials of a study's plan, by key.

    Raises:
        BadInput: a trial is not what its key says.
    """
    store = Store(root)
    found = {entry.key: store.named(entry) for entry in store.ended()}
    for key, trace in found.items():
        if trace.trial.key != key:
            raise BadInput(
                f"trials/{key}: what was asked has been changed: its key is {trace.trial.key} now; "
                f"`titer validate {root}` says what else is wrong."
            )
    return found


def plan(root: Path, keys: Sequence[str], scratch: Path) -> list[Job]:
    """What would be run to run trials again, each with the cohort it trained in.

    Raises:
        BadInput: a model or the world is not there any more, or is another than it was.
    """
    study, store = read_config(root).study, Store(root)
    _same_world(study)
    groups = dict.fromkeys(store.get(key).cohort or (key,) for key in keys)
    places: dict[str, str] = {}
    jobs: list[Job] = []
    for group in groups:
        traces = [_companion(store, key) for key in group]
        first = traces[0].trial
        model, base = first.model, _base(first)
        for digest in filter(None, (model, base, first.interface)):
            if digest not in places:
                places[digest] = _place(root, study, digest)
        jobs.append(
            Job(
                trials=tuple(trace.trial for trace in traces),
                model=places[model],
                world=study.world_source,
                root=str(scratch),
                base=places.get(base, ""),
                interface=places.get(first.interface, ""),
            )
        )
    return jobs


def rerun(
    root: Path,
    keys: Sequence[str],
    scratch: Path,
    executor: Executor,
    progress: Progress | None = None,
) -> dict[str, Trace]:
    """Run trials again, each with the cohort it trained in, and leave ``root`` as it is.

    The others of a cohort are run too, since alone a trial's numbers differ by rounding, and come
    back as well. ``scratch`` takes what the trials write.

    Raises:
        BadInput: a model or the world is not there any more, or is another than it was.
    """
    jobs = plan(root, keys, scratch)
    total = sum(job.size for job in jobs)
    done = 0
    if progress:
        progress("running again", 0, total)
    lost: dict[str, Trace] = {}
    for ended in executor(perform, jobs):
        for trial in ended.job.trials if ended.error else ():
            lost[trial.key] = Trace(trial=trial, status=ended.status, error=ended.error)
        done += ended.job.size
        if progress:
            progress("running again", done, total)
    again = {trace.trial.key: trace for trace in Store(scratch).traces()}
    return {**again, **lost}


def _companion(store: Store, key: str) -> Trace:
    """A trial that is run again, drawn or beside one that was."""
    try:
        return store.get(key)
    except (KeyError, TypeError, ValueError, AttributeError, OSError):
        raise BadInput(
            f"trials/{key} is not in the folder, or damaged, and a trial that was drawn trained "
            "beside it, so that it cannot be run again as it was; run the same bench command "
            "again to complete the study."
        ) from None


def _base(trial: Trial) -> str:
    """The digest of the undefended model, where the trial asks for it."""
    return reference(trial) if diagnosis(trial) else trial.base


def _same_world(study: Manifest) -> None:
    source = study.world_source
    now = load_named_world(source).digest()
    if now != study.world_digest:
        raise BadInput(
            f"the world {source} is {now} here and was {study.world_digest} in the study; "
            "nothing can be run again without the data it was run on."
        )


def _place(root: Path, study: Manifest, digest: str) -> str:
    """Where a model of the study lies now: as recorded, inside the run folder, or by its name."""
    subject = next((one for one in study.subjects if one.digest == digest), None)
    if subject is None:
        raise BadInput(f"a trial is on a model {digest} that the study does not name.")
    for folder in (Path(subject.folder), root / subject.source):
        if folder.is_dir() and (subject.revision or folder_digest(folder) == digest):
            return str(folder)
    source, revision = subject.source, subject.revision
    if revision or source.startswith("fabula:"):
        found = resolve_model(f"{source}@{revision}" if revision else source)
        if found.digest == digest:
            return str(fetch(found))
    raise BadInput(
        f"the model {subject.name} ({source}, digest {digest}) is not here or has changed; "
        f"put it back at {subject.folder}."
    )


# -- comparing -------------------------------------------------------------------------------------

Verdict = Literal["same", "rounding", "differs"]
_ALONG = ("losses", "rates", "flags")
"""What a trial writes on its way: where weights come out the same, so does this."""
_DECIDES = ("arithmetic", "device")
"""What of a machine decides the last bits, beside the versions of ``_LIBRARIES``."""
_LIBRARIES = ("torch", "transformers", "peft", "numpy", "titer")
_FIRST_LOSS = 1e-3
"""How far, as a share, rounding may move a loss before any training has amplified it."""


def elsewhere(root: Path, here: Mapping[str, Any]) -> str:
    """Why results of a run folder cannot be expected here to the bit; empty where they can.

    ``here`` describes this machine as a run folder's ``env.json`` does its own. What decides is how
    it computes (:func:`titer.nn.arithmetic.arithmetic`) and with what, not what it is called.
    """
    try:
        there = json.loads((root / "env.json").read_text(encoding="utf-8"))
        packages = there["packages"]
        was = {name: there.get(name) for name in _DECIDES}
        was |= {name: packages.get(name) for name in _LIBRARIES[:-1]} | {"titer": there["titer"]}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return "the folder does not say on what machine it was made"
    now = {name: here.get(name) for name in _DECIDES}
    now |= {name: here["packages"].get(name) for name in _LIBRARIES[:-1]} | {"titer": here["titer"]}
    if was["arithmetic"] is None:
        return "the folder does not say how its machine computes"
    other = [f"{name} {now[name]}, was {was[name]}" for name in was if was[name] != now[name]]
    if not other and str(here.get("device", "cpu")).startswith("cuda"):
        return "a graphics card may sum in another order each time"
    return "; ".join(other)


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How a trial that was run again compares with what is on disk.

    ``same``: every score, loss, rate and flag, and the weights, to the bit. ``rounding``: it was
    run on a machine that computes otherwise, and differs by no more than that explains. Before
    training that is one item or a thousandth of a mean, and a thousandth of the first loss, and so
    it is wherever the weights came out the same; after, since training amplifies rounding, each
    mean must lie in the recorded one's 95 % interval over items. All else ``differs``. ``largest``
    is the greatest difference of two means, at ``at``. ``why`` says what differs, empty where
    nothing does.
    """

    trial: Trial
    verdict: Verdict
    largest: float = 0.0
    at: str = ""
    why: str = ""


def agreement(recorded: Trace, again: Trace, *, elsewhere: bool) -> Agreement:
    """Compare two traces of one trial, probe by probe and look by look. ``elsewhere``: the second
    was run on a machine that computes otherwise; without that only equal bits agree."""
    trial = recorded.trial
    if again.trial.key != trial.key:
        raise ValueError("two traces of different trials cannot agree.")
    if recorded.status != again.status:
        last = again.error.strip().splitlines()[-1:] or [""]
        why = f"was {recorded.status}, is {again.status}" + (f": {last[0]}" if last[0] else "")
        return Agreement(trial=trial, verdict="differs", why=why)
    equal = bool(recorded.weights) and recorded.weights == again.weights
    if recorded.points == again.points and recorded.weights == again.weights:
        if others := [name for name in _ALONG if not _alike(recorded, again, name)]:
            why = f"its scores and weights are the same, and not its {' and '.join(others)}"
            return Agreement(trial=trial, verdict="differs", why=why)
        return Agreement(trial=trial, verdict="same")
    steps = [[point.spent.steps for point in trace.points] for trace in (recorded, again)]
    if steps[0] != steps[1]:
        why = f"was looked at after {_list(steps[0])} steps, is after {_list(steps[1])}"
        return Agreement(trial=trial, verdict="differs", why=why)
    largest, at = 0.0, ""
    outside: list[str] = [] if elsewhere else ["this machine computes alike, so bits should agree"]
    outside += _first_losses(recorded, again)
    for old, new in zip(recorded.points, again.points, strict=True):
        if set(old.scores) != set(new.scores):
            outside.append(f"other probes at step {old.spent.steps}")
            continue
        for probe, scores in old.scores.items():
            place = f"{probe} at step {old.spent.steps}"
            if len(scores) != len(new.scores[probe]):
                outside.append(f"{place}: {len(scores)} items, now {len(new.scores[probe])}")
                continue
            untouched = equal or not old.spent.steps
            was, low, high = _interval(scores, equal=untouched)
            now = sum(new.scores[probe]) / max(1, len(scores))
            if abs(now - was) > largest:
                largest, at = abs(now - was), place
            if not low <= now <= high:
                outside.append(f"{place}: {now:.3f}, was {was:.3f} [{low:.3f}, {high:.3f}]")
    verdict: Verdict = "differs" if outside else "rounding"
    return Agreement(
        trial=trial, verdict=verdict, largest=largest, at=at, why="; ".join(outside[:3])
    )


def _first_losses(recorded: Trace, again: Trace) -> list[str]:
    """What is said of the loss of the first step, which no training has amplified yet."""
    if len(recorded.losses) != len(again.losses):
        return [f"{len(recorded.losses)} losses, now {len(again.losses)}"]
    if not recorded.losses:
        return []
    was, now = recorded.losses[0], again.losses[0]
    if math.isclose(was, now, rel_tol=_FIRST_LOSS, abs_tol=1e-6) or repr(was) == repr(now):
        return []
    return [f"first loss {now:.6g}, was {was:.6g}"]


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
