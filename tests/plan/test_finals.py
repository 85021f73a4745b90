"""Settings are searched on a seed of their own, and the best three meet the seeds of the report."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests import toy
from titer.core.errors import BadInput
from titer.core.records import SEARCH_SEED, Point, Spent, Trace, Trial
from titer.core.study import Role, Share, Study, Subject
from titer.executors.inline import Inline
from titer.plan import experiment as plan
from titer.plan.experiment import Experiment
from titer.plan.fresh_seeds import finals
from titer.plan.request import assemble, check
from titer.plan.suite import Adversary
from titer.plan.suites import SUITES, suite
from titer.run.runner import run_study
from titer.run.store import Store
from titer.verify.planned import _walk
from titer.worlds.source import load_world

RATES = (0.03, 0.1, 0.3, 1.0, 3.0)
SWEPT = Adversary(id="S02", multiples=RATES)


@pytest.fixture
def study(tmp_path: Path) -> Experiment:
    source = str(toy.data_folder(tmp_path / "data"))
    roles: list[tuple[str, Role]] = [("base", "undefended"), ("npo", "defended")]
    subjects = tuple(
        Subject(name=name, source=name, folder=name, digest=name, role=role, parameters=20_000)
        for name, role in roles
    )
    rows = (SWEPT, Adversary(id="M05", multiples=RATES[:3]), Adversary(id="P02"))
    return Experiment(
        suite=replace(suite("quick"), search="fresh", rows=rows),
        world=load_world(source),
        source=source,
        subjects=subjects,
        seeds=(0, 1, 2),
        domain="alloy",
    )


def _planned(study: Experiment) -> list[Trial]:
    return plan.attacks(study, {"full-adamw": 1e-3, "lora-adamw": 3e-3})


def _ended(trial: Trial, select: float, kept: float = 1.0, status: str = "ok") -> Trace:
    """A trial that shows this share of the selection split at its last look."""
    points = tuple(
        Point(
            spent=Spent(steps=steps),
            scores={
                "harm": (0.0,) * 10,
                "select": (1.0,) * round(10 * found) + (0.0,) * (10 - round(10 * found)),
                "utility:near": (left,) * 10,
            },
        )
        for steps, found, left in ((0, 0.0, 1.0), (300, select, kept))
    )
    return Trace(trial=trial, status=status, points=points if status == "ok" else ())  # type: ignore[arg-type]


def _rates(trials: list[Trial], subject: str) -> list[float]:
    found = {t.attack.fields["lr"] for t in trials if t.subject == subject}
    return sorted(float(rate) / 1e-3 for rate in found)


def test_only_a_row_of_more_than_three_settings_is_searched_and_on_no_seed_of_the_report(
    study: Experiment,
) -> None:
    trials = _planned(study)
    searched = [t for t in trials if t.purpose == "search"]
    assert {t.label for t in searched} == {"S02"}
    assert {t.seed for t in searched} == {SEARCH_SEED}
    assert len(searched) == len(RATES) * len(study.subjects)
    for label, count in (("M05", 3), ("P02", 1)):
        own = [t for t in trials if t.label == label and t.subject == "npo"]
        assert {t.purpose for t in own} == {"attack"}
        assert sorted(t.seed for t in own) == sorted([0, 1, 2] * count)
    whole = replace(study, suite=replace(study.suite, search="full"))
    assert {t.purpose for t in _planned(whole)} == {"attack"}


def test_each_model_meets_its_own_best_three_on_every_seed(study: Experiment) -> None:
    shown = {"base": (0.1, 0.9, 0.8, 0.7, 0.2), "npo": (0.5, 0.4, 0.1, 0.2, 0.6)}
    seen: dict[str, int] = {"base": 0, "npo": 0}
    traces: list[Trace] = []
    for trial in _planned(study):
        if trial.purpose == "search":
            traces.append(_ended(trial, shown[trial.subject][seen[trial.subject]]))
            seen[trial.subject] += 1
    best = finals(study, traces)
    assert {(t.purpose, t.label) for t in best} == {("attack", "S02")}
    assert _rates(best, "base") == pytest.approx([0.1, 0.3, 1.0])
    assert _rates(best, "npo") == pytest.approx([0.03, 0.1, 3.0])
    assert sorted(t.seed for t in best) == sorted([0, 1, 2] * 3 * 2)
    assert (
        finals(study, [replace(t, trial=replace(t.trial, purpose="attack")) for t in traces]) == []
    )


def test_harm_at_the_price_of_utility_is_not_what_is_looked_for(study: Experiment) -> None:
    tried = [t for t in _planned(study) if t.purpose == "search" and t.subject == "npo"]
    scores = [(0.9, 0.5), (0.8, 0.5), (0.2, 1.0), (0.3, 1.0), (0.1, 1.0)]
    best = finals(study, [_ended(t, *score) for t, score in zip(tried, scores, strict=True)])
    assert _rates(best, "npo") == pytest.approx([0.3, 1.0, 3.0])


def test_a_row_none_of_whose_settings_ended_is_seen_to_fail_on_the_seeds_of_the_report(
    study: Experiment,
) -> None:
    tried = [t for t in _planned(study) if t.purpose == "search" and t.subject == "npo"]
    best = finals(study, [_ended(t, 0.5, status="diverged") for t in tried])
    assert _rates(best, "npo") == pytest.approx(list(RATES[:3]))
    assert {t.seed for t in best} == {0, 1, 2}


def test_a_model_made_with_a_share_of_the_hazard_meets_the_seed_of_its_draw(
    study: Experiment,
) -> None:
    share = Share(of="npo", share=0.5, draw=7, entities=1, total=2)
    drawn = replace(study, subjects=(study.subjects[0], replace(study.subjects[1], share=share)))
    tried = [t for t in _planned(drawn) if t.purpose == "search" and t.subject == "npo"]
    assert {t.seed for t in tried} == {SEARCH_SEED + 7}
    best = finals(drawn, [_ended(t, 0.5) for t in tried])
    assert [t.seed for t in best] == [7, 7, 7]


def test_the_seed_of_searches_is_none_of_a_report(study: Experiment) -> None:
    with pytest.raises(BadInput, match="are those of searches"):
        replace(study, seeds=(SEARCH_SEED,))


def test_the_larger_suites_search_so_and_the_smaller_ones_have_little_to_search() -> None:
    assert {name for name in SUITES if suite(name).search == "fresh"} == {
        "core",
        "search",
        "tamperbench",
    }
    quick = suite("quick")
    assert quick.search == "full"
    assert max(len(row.settings) * len(row.multiples) for row in quick.rows) <= 3


@pytest.mark.exact
def test_a_study_from_its_search_to_its_report_and_again(tmp_path: Path) -> None:
    request = Study(
        models=[str(toy.model_folder(tmp_path / "model"))],
        data=str(toy.data_folder(tmp_path / "data")),
        out=tmp_path / "run",
        seeds=2,
        search="fresh",
    )
    made = assemble(check(request))[0]
    small = replace(
        made.suite, rows=(SWEPT,), cap=2, rates=(1.0,), task_steps=1, sweep_steps=2, checks="none"
    )
    study = replace(made, suite=small)
    traces = run_study(study, tmp_path / "run", Inline())
    searched = [t for t in traces if t.trial.purpose == "search"]
    fresh = [t for t in traces if t.trial.purpose == "attack" and t.trial.label == "S02"]
    assert len(searched) == len(RATES) * len(study.subjects)
    assert len(fresh) == 3 * 2 * len(study.subjects)
    assert {t.status for t in traces} == {"ok"}
    again, whole = _walk(study, {trace.trial.key: trace for trace in traces})
    assert whole
    assert set(again) == set(Store(tmp_path / "run").plan()), (
        "the plan can be worked out from its own traces"
    )
    before = (tmp_path / "run" / "results.jsonl").read_bytes()
    run_study(study, tmp_path / "run", Inline())
    assert (tmp_path / "run" / "results.jsonl").read_bytes() == before
