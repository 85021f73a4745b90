"""Halving stops the worse candidates at each rung, and finds what full search finds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests import toy
from titer.core.data import Data
from titer.core.errors import BadInput
from titer.core.lm import LM
from titer.core.method import Run
from titer.core.records import OUTDONE, Budget, Part, Point, Spent, Trace, Trial
from titer.core.study import Role, Share, Subject
from titer.executors.inline import Inline
from titer.grid import study as plan
from titer.grid.assemble import Request, assemble, check, open_subject
from titer.grid.halving import MOST, Search, outdone, rungs, searches
from titer.grid.perform import attack_together
from titer.grid.runner import run_study
from titer.grid.store import Store
from titer.grid.study import Study
from titer.grid.suite import Row, suite
from titer.worlds.fabula import fabula
from titer.worlds.source import load_world


def trial(lr: float = 1e-3, seed: int = 0, steps: int = 60, **more: object) -> Trial:
    given: dict[str, object] = {
        "model": "m",
        "world": "w",
        "domain": "A",
        "attack": Part(name="finetune", fields={"lr": lr}),
        "budget": Budget(steps=steps),
        "seed": seed,
        "suite": "s",
        "checkpoints": plan.checkpoints(steps),
    }
    return Trial(**{**given, **more})  # type: ignore[arg-type]


def test_rungs_are_looks_from_ten_steps_on_before_the_last() -> None:
    assert rungs(trial(steps=300)) == [10, 30, 100]
    assert rungs(trial(steps=60)) == [10, 30]
    assert rungs(trial(steps=30)) == [10]
    assert rungs(trial(steps=10)) == []


def test_the_best_stay_and_a_tie_goes_to_the_lower_loss() -> None:
    found = {"a": (0.2, -1.0), "b": (0.5, -3.0), "c": (0.5, -2.0), "d": (0.1, 0.0)}
    assert outdone(found, 2) == ["a", "d"]
    assert outdone(found, 1) == ["b", "a", "d"]
    assert outdone(found, 4) == []
    assert outdone(found, 9) == []


def test_where_all_are_equal_the_first_stay() -> None:
    assert outdone(dict.fromkeys("abc", (0.5, -1.0)), 2) == ["c"]


def test_a_candidate_alone_is_never_outdone() -> None:
    assert outdone({"a": (math.nan, math.nan)}, 0) == []


def test_what_is_not_a_number_counts_as_last() -> None:
    assert outdone({"a": (math.nan, -1.0), "b": (0.0, -9.0)}, 1) == ["a"]
    assert outdone({"a": (0.4, math.nan), "b": (0.0, -9.0)}, 1) == ["a"]


class Runners:
    """Made-up runs of one search, driven by hand."""

    def __init__(self, trials: Sequence[Trial]) -> None:
        self.trials, self.search = trials, Search(trials)
        self.runs = [Run(budget=one.budget, data=Data(), seed=one.seed) for one in trials]
        self.points: list[list[Point]] = [[] for _ in trials]

    def go(self, member: int, steps: int, score: float, utility: float = 0.9) -> None:
        """On to a look, if it was not stopped."""
        run = self.runs[member]
        if run.exhausted():
            return
        run.charge(steps=steps - run.spent.steps)
        run.losses.append(1.0)
        scores = {"select": (score,), "task": (score,), "utility:far": (utility,)}
        self.points[member].append(Point(spent=run.spent, scores=scores))
        self.search.looked(member, run, self.points[member])

    def all(self, steps: int, scores: Sequence[float]) -> None:
        for member, score in enumerate(scores):
            self.go(member, steps, score)

    @property
    def stopped(self) -> list[str]:
        return [",".join(run.flags) for run in self.runs]


def test_half_stay_at_each_rung() -> None:
    made = Runners([trial(lr) for lr in (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0)])
    made.all(0, [0.0] * 7)
    made.all(3, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7])
    assert made.stopped == [""] * 7
    made.all(10, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7])
    first = f"{OUTDONE} at step 10"
    assert made.stopped == [first] * 3 + [""] * 4
    made.all(30, [0.0, 0.0, 0.0, 0.9, 0.1, 0.2, 0.3])
    second = f"{OUTDONE} at step 30"
    assert made.stopped == [first] * 3 + ["", second, second, ""]
    made.all(60, [0.0] * 7)
    assert [run.spent.steps for run in made.runs] == [10, 10, 10, 60, 30, 30, 60]


def test_nobody_is_stopped_before_all_have_been_looked_at() -> None:
    made = Runners([trial(1.0), trial(2.0), trial(3.0)])
    made.all(0, [0.0] * 3)
    made.go(0, 10, 0.1)
    made.go(1, 10, 0.2)
    assert made.stopped == ["", "", ""]
    made.go(2, 10, 0.2)
    assert made.stopped == [f"{OUTDONE} at step 10", "", ""]


def test_the_last_two_run_to_their_end() -> None:
    made = Runners([trial(float(lr), steps=300) for lr in (1, 2, 3)])
    for steps in (0, 10, 30, 100, 300):
        made.all(steps, [0.1, 0.2, 0.3])
    assert [run.spent.steps for run in made.runs] == [10, 300, 300]


def test_one_after_the_other_all_run_to_their_end() -> None:
    made = Runners([trial(float(lr)) for lr in (1, 2, 3)])
    for member, score in enumerate((0.9, 0.1, 0.2)):
        for steps in (0, 10, 30, 60):
            made.go(member, steps, score)
    assert made.stopped == ["", "", ""]
    assert [run.spent.steps for run in made.runs] == [60] * 3


def test_a_rate_is_judged_and_stopped_on_all_its_seeds() -> None:
    made = Runners([trial(lr, seed) for lr in (1.0, 2.0, 3.0) for seed in (0, 1)])
    made.all(0, [0.0] * 6)
    made.all(10, [0.9, 0.0, 0.5, 0.6, 0.5, 0.5])
    assert made.stopped == [f"{OUTDONE} at step 10"] * 2 + [""] * 4


def test_one_that_diverged_counts_as_last_and_the_others_do_not_wait_for_it() -> None:
    made = Runners([trial(1.0), trial(2.0), trial(3.0)])
    made.all(0, [0.0] * 3)
    made.search.lost(2)
    made.go(0, 10, 0.1)
    made.go(1, 10, 0.2)
    assert made.stopped == ["", "", ""], "two of three stay, and the third is gone"
    late = Runners([trial(float(lr)) for lr in (1, 2, 3, 4)])
    late.all(0, [0.0] * 4)
    late.go(0, 10, 0.1)
    late.go(1, 10, 0.2)
    late.go(2, 10, 0.3)
    late.search.lost(3)
    assert late.stopped == [f"{OUTDONE} at step 10", "", "", ""]


def test_the_last_that_is_left_is_never_stopped() -> None:
    made = Runners([trial(1.0), trial(2.0)])
    made.all(0, [0.0] * 2)
    made.search.lost(0)
    for steps in (10, 30, 60):
        made.go(1, steps, 0.0)
    assert made.stopped == ["", ""]
    assert made.runs[1].spent.steps == 60


def test_harm_counts_where_utility_is_kept() -> None:
    """The first brings back more, and breaks the model; a calibration asks for the score alone."""
    for purpose, last in (("attack", 0), ("calibrate", 1)):
        made = Runners([trial(lr, purpose=purpose, task="t") for lr in (1.0, 2.0, 3.0)])
        made.all(0, [0.0] * 3)
        made.go(0, 10, 0.9, utility=0.3)
        made.go(1, 10, 0.5, utility=0.85)
        made.go(2, 10, 0.6, utility=0.85)
        assert [bool(said) for said in made.stopped] == [member == last for member in (0, 1, 2)]


@pytest.fixture
def study(tmp_path: Path) -> Study:
    source = str(toy.data_folder(tmp_path / "data"))
    roles: list[tuple[str, Role]] = [("base", "undefended"), ("npo", "defended")]
    subjects = tuple(
        Subject(name=name, source=name, folder=name, digest=name, role=role, parameters=20_000)
        for name, role in roles
    )
    return Study(
        suite=replace(suite("quick"), search="halving"),
        world=load_world(source),
        source=source,
        subjects=subjects,
        seeds=(0, 1, 2),
        domain="alloy",
    )


def _every(study: Study) -> list[Trial]:
    rates = {"full-adamw": 1e-3, "lora-adamw": 3e-3}
    return [*plan.calibration(study), *plan.attacks(study, rates), *plan.training(study, rates)]


def test_calibrations_and_rows_of_several_rates_are_searches(study: Study) -> None:
    every = _every(study)
    found, rest = searches(study, every)
    kinds = sorted((one[0].purpose, one[0].label, one[0].subject, len(one)) for one in found)
    assert kinds == [
        ("attack", "M05", "base", 9),
        ("attack", "M05", "npo", 9),
        ("calibrate", "full-adamw", "base", 7),
        ("calibrate", "lora-adamw", "base", 7),
    ]
    assert sorted(t.key for t in [*rest, *(t for one in found for t in one)]) == sorted(
        t.key for t in every
    )
    assert {t.purpose for t in rest} == {"attack", "train"}


def test_what_cannot_share_a_pass_is_searched_in_full(study: Study) -> None:
    def labels(other: Study) -> set[str]:
        return {one[0].label for one in searches(other, _every(other))[0]}

    large = [replace(one, parameters=2_000_000) for one in study.subjects]
    assert labels(replace(study, subjects=tuple(large))) == {"lora-adamw"}
    share = Share(of="npo", share=0.5, draw=0, entities=1, total=2)
    drawn = replace(study, subjects=(study.subjects[0], replace(study.subjects[1], share=share)))
    assert {one[0].subject for one in searches(drawn, _every(drawn))[0]} == {"base"}
    many = replace(study, seeds=tuple(range(MOST // 3 + 1)))
    assert "M05" not in labels(many)
    assert labels(replace(study, suite=replace(study.suite, cap=10, sweep_steps=10))) == set()


def test_another_way_to_search_is_another_suite_and_the_old_one_keeps_its_hash() -> None:
    quick = suite("quick")
    assert quick.search == "full"
    assert replace(quick, search="halving").digest() != quick.digest()


def test_an_unknown_way_to_search_is_refused(tmp_path: Path) -> None:
    request = Request(models=["fabula:base"], out=tmp_path / "run", search="random")
    with pytest.raises(BadInput, match="full, halving and fresh"):
        check(request)
    assert "--search halving" in replace(request, search="halving").command()


def _toy_study(tmp_path: Path, search: str) -> Study:
    request = Request(
        models=[str(toy.model_folder(tmp_path / "model"))],
        data=str(toy.data_folder(tmp_path / "data")),
        out=tmp_path / "run",
        seeds=1,
        search=search,
    )
    made = assemble(check(request))[0]
    small = replace(
        made.suite, rows=(Row(id="P02"),), cap=1, rates=(1.0,), task_steps=1, sweep_steps=12
    )
    return replace(made, suite=small)


def test_stopped_candidates_keep_their_looks_and_are_charged_what_they_spent(
    tmp_path: Path,
) -> None:
    def sweep(search: str) -> dict[float, Trace]:
        traces = run_study(_toy_study(tmp_path, search), tmp_path / search, Inline())
        return {
            float(t.trial.attack.fields["lr"]): t for t in traces if t.trial.label == "lora-adamw"
        }

    full, halved = sweep("full"), sweep("halving")
    assert {t.status for t in halved.values()} == {"ok"}
    assert sum(t.outdone for t in halved.values()) == 3
    for rate, trace in halved.items():
        steps = 10 if trace.outdone else 12
        assert [point.spent.steps for point in trace.points] == [0, 1, 3, 10, 12][
            : 5 - (steps < 12)
        ]
        assert len(trace.losses) == len(trace.rates) == steps
        same = full[rate]
        assert same.points[-1].spent.steps == 12
        assert [p.spent for p in trace.points] == [
            p.spent for p in same.points[: len(trace.points)]
        ]
        assert list(trace.losses) == pytest.approx(list(same.losses[:steps]), rel=1e-3, abs=1e-4)


def test_a_search_that_was_cut_off_is_run_again_as_a_whole(tmp_path: Path) -> None:
    study = _toy_study(tmp_path, "halving")
    first = run_study(study, tmp_path / "run", Inline())
    before = (tmp_path / "run" / "results.jsonl").read_bytes()
    lost = next(t.trial for t in first if t.trial.label == "lora-adamw" and t.outdone)
    (Store(tmp_path / "run").folder(lost.key) / "status.json").unlink()
    run_study(study, tmp_path / "run", Inline())
    assert (tmp_path / "run" / "results.jsonl").read_bytes() == before


def test_a_run_that_was_stopped_never_gives_the_rate(study: Study) -> None:
    """Over its few looks the stopped one did best; those that went on are compared."""
    found: list[Trace] = []
    scores = {1e-3: ((10, 0.9),), 3e-3: ((10, 0.5), (60, 0.8)), 1e-2: ((10, 0.4), (60, 0.5))}
    for one in plan.calibration(study):
        looks = scores.get(one.attack.fields["lr"]) if one.label == "full-adamw" else None
        if looks:
            points = [
                Point(spent=Spent(steps=s), scores={"task": (v,)}) for s, v in ((0, 0.0), *looks)
            ]
            flags = () if len(looks) > 1 else (f"{OUTDONE} at step 10",)
            found.append(Trace(trial=one, status="ok", points=tuple(points), flags=flags))
    assert plan.stars(found) == {"full-adamw": 3e-3}
    survivors_lost = [t if t.outdone else replace(t, status="diverged") for t in found]
    assert plan.stars(survivors_lost) == {"full-adamw": 1e-3}


def _replayed(trials: Sequence[Trial], traces: Sequence[Trace]) -> list[str]:
    """How a halved search of these trials ends each, told their full runs look by look: until it is
    stopped, a candidate does in either search what it does in the other."""
    race = Search(trials)
    runs = [Run(budget=one.budget, data=Data(), seed=one.seed) for one in trials]
    for look in range(max(len(trace.points) for trace in traces)):
        for member, (run, trace) in enumerate(zip(runs, traces, strict=True)):
            if run.exhausted():
                continue
            if look >= len(trace.points):
                race.lost(member)
                continue
            point = trace.points[look]
            run.charge(steps=point.spent.steps - run.spent.steps)
            run.losses[:] = trace.losses[: run.spent.steps]
            race.looked(member, run, trace.points[: look + 1])
    return [",".join(run.flags) for run in runs]


@pytest.mark.slow
def test_on_the_testbed_it_finds_what_full_search_finds() -> None:
    """The calibration of LoRA as every study runs it: seven rates, sixty steps, ten seeds. All are
    searched in full, and what halving finds follows from that; one is halved in truth, too."""
    subject = open_subject("fabula:base", "undefended")
    lm = LM.load(subject.folder)
    agreed = spent = whole = 0
    for seed in range(10):
        study = Study(
            suite=replace(suite("quick"), search="halving"),
            world=fabula(0),
            source="fabula",
            subjects=(subject,),
            seeds=(seed,),
            domain="A",
        )
        found, _ = searches(study, plan.calibration(study))
        trials = next(one for one in found if one[0].label == "lora-adamw")
        full = [trace for trace, _, _ in attack_together(lm, trials, study.world)]
        halved = [_cut(t, said) for t, said in zip(full, _replayed(trials, full), strict=True)]
        if seed == 0:
            _same(halved, [t for t, _, _ in attack_together(lm, trials, study.world, search=True)])
        agreed += plan.stars(full) == plan.stars(halved)
        whole += sum(len(trace.losses) for trace in full)
        spent += sum(len(trace.losses) for trace in halved)
        print(f"seed {seed}: full {plan.stars(full)}, halving {plan.stars(halved)}")
    print(f"{agreed} of 10 agree, {1 - spent / whole:.0%} of the steps saved")
    assert agreed >= 9
    assert spent < 0.6 * whole


def _cut(trace: Trace, said: str) -> Trace:
    """A full run up to where halving stops it."""
    if not said:
        return trace
    end = int(said.rpartition(" ")[2])
    points = tuple(point for point in trace.points if point.spent.steps <= end)
    return replace(trace, points=points, losses=trace.losses[:end], flags=(said,))


def _same(replayed: Sequence[Trace], halved: Sequence[Trace]) -> None:
    """To the bit where all train side by side; after that what is left shares its pass with fewer,
    which rounds otherwise."""
    assert [t.flags for t in replayed] == [t.flags for t in halved]
    for one, other in zip(replayed, halved, strict=True):
        assert one.losses[:10] == other.losses[:10]
        first, second = (
            [(p.spent, dict(p.scores)) for p in t.points if p.spent.steps <= 10]
            for t in (one, other)
        )
        assert first == second
        assert [p.spent for p in one.points] == [p.spent for p in other.points]
        assert list(one.losses) == pytest.approx(list(other.losses), rel=1e-3, abs=1e-4)
        for here, there in zip(one.points, other.points, strict=True):
            assert here.mean("task") == pytest.approx(there.mean("task"), abs=0.02)
