"""Fresh seeds for the best three settings of a searched row.

The best of many noisy trials owes part of its score to luck. So where a suite says ``fresh``, a row
that tries more than three settings tries them all once, on a seed of its own, and the selection
split says which three are the best with utility kept; those are run on the seeds that are reported.
What the search spent is charged, and the report shows by how much the best one's score on the
selection split exceeds what fresh seeds and held-out prompts gave (the optimism gap).

A row with three settings or fewer has nothing to leave out: all of them run on every seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from titer.core.records import Trace, Trial
from titer.evidence.curves import Rule
from titer.evidence.gather import gather
from titer.evidence.panel import KEPT_SETTINGS, chosen
from titer.plan.experiment import Experiment, setting

__all__ = ["finals"]


def finals(study: Experiment, traces: Sequence[Trace]) -> list[Trial]:
    """The trials on fresh seeds that follow from a study's search trials, which must all have
    ended.

    Each model has its own best settings. Where no setting of a row came to its end the first three
    are run, so that the row is seen to fail on the seeds that are reported.
    """
    searches: dict[tuple[str, str, str], list[Trace]] = {}
    for trace in traces:
        trial = trace.trial
        if trial.purpose == "search":
            searches.setdefault((trial.model, trial.domain, trial.row), []).append(trace)
    seeds = {
        subject.digest: study.seeds if subject.share is None else (subject.share.draw,)
        for subject in study.subjects
    }
    return [
        replace(trace.trial, purpose="attack", seed=seed)
        for place, tried in searches.items()
        for trace in _best(tried, study.world.chance)
        for seed in seeds[place[0]]
    ]


def _best(tried: Sequence[Trace], chance: float) -> list[Trace]:
    trial = tried[0].trial
    seeds = (trial.seed,)
    seen = gather(tried, subject=trial.subject, domain=trial.domain, seeds=seeds, purpose="search")
    arms = chosen(seen, trial.row, Rule(seeds=seeds, chance=chance))
    known = {(setting(trace.trial.attack), trace.trial.interface): trace for trace in tried}
    return [known[arm.knobs, arm.interface] for arm in arms] or list(tried[:KEPT_SETTINGS])
