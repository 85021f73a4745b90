"""A study runs, resumes, and says what failed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests import toy
from titer.core.errors import BadInput
from titer.core.jobs import Ended
from titer.core.records import Status
from titer.core.study import Study
from titer.executors.inline import Inline
from titer.plan.experiment import Experiment
from titer.plan.request import assemble, check
from titer.plan.suite import Adversary
from titer.plan.suites import suite
from titer.run import jobs as performing
from titer.run.jobs import Job
from titer.run.runner import run_study
from titer.run.store import Store
from titer.trial.load import load_model

pytestmark = pytest.mark.exact


def _small(study: Experiment) -> Experiment:
    tiny = replace(
        suite("quick"),
        rows=(Adversary(id="S03"), Adversary(id="P02")),
        cap=3,
        rates=(1.0,),
        task_steps=2,
        sweep_steps=2,
    )
    return replace(study, suite=tiny)


@pytest.fixture
def study(tmp_path: Path) -> Experiment:
    request = Study(
        models=[str(toy.model_folder(tmp_path / "model"))],
        data=str(toy.data_folder(tmp_path / "data")),
        out=tmp_path / "run",
        seeds=1,
    )
    return _small(assemble(check(request))[0])


class Counting(Inline):
    """Counts the jobs it was given."""

    def __init__(self) -> None:
        object.__setattr__(self, "given", [])

    def __call__(self, function: Callable[[Any], Status], jobs: Sequence[Any]) -> Iterator[Any]:
        self.given.append(len(jobs))  # type: ignore[attr-defined]
        return super().__call__(function, jobs)


def test_the_same_study_again_runs_nothing_and_says_the_same(
    study: Experiment, tmp_path: Path
) -> None:
    counting = Counting()
    first = run_study(study, tmp_path / "run", counting)
    assert {trace.status for trace in first} == {"ok"}
    before = (tmp_path / "run" / "results.jsonl").read_bytes()
    again = run_study(study, tmp_path / "run", counting)
    assert counting.given[2:] == []  # type: ignore[attr-defined]
    assert again == first
    assert (tmp_path / "run" / "results.jsonl").read_bytes() == before


def test_an_attack_that_raises_is_a_record_and_its_neighbours_go_on(
    study: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from titer.attacks.finetune import Finetune

    own = Finetune.__call__

    def faulty(self: Finetune, lm: Any, run: Any) -> Any:
        if self.parameters == "lora":
            raise ValueError("out of luck")
        return own(self, lm, run)

    monkeypatch.setattr(Finetune, "__call__", faulty)
    traces = run_study(study, tmp_path / "run", Inline())
    by_row = {trace.trial.label: trace for trace in traces if trace.trial.purpose == "attack"}
    assert by_row["P02"].status == "failed"
    assert "ValueError: out of luck" in by_row["P02"].error
    assert by_row["S03"].status == "ok"
    monkeypatch.undo()
    mended = run_study(study, tmp_path / "run", Inline())
    assert {trace.status for trace in mended} == {"ok"}, "a failed trial is tried again"


def test_an_attack_that_diverges_is_a_failed_attack_with_the_points_it_reached(
    study: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from titer.train import cohort

    own = cohort.answer_losses

    def broken(*given: Any) -> Any:
        return own(*given) * float("nan")

    monkeypatch.setattr(cohort, "answer_losses", broken)
    traces = run_study(study, tmp_path / "run", Inline())
    trained = [trace for trace in traces if trace.trial.label == "S03"]
    assert {trace.status for trace in trained} == {"diverged"}
    assert [point.spent.steps for point in trained[0].points] == [0]


def test_results_of_another_suite_never_mix(study: Experiment, tmp_path: Path) -> None:
    run_study(study, tmp_path / "run", Inline())
    before = sorted(p.name for p in (tmp_path / "run" / "trials").iterdir())
    other = replace(study, suite=replace(study.suite, cap=2))
    with pytest.raises(BadInput, match="never mix"):
        run_study(other, tmp_path / "run", Inline())
    assert sorted(p.name for p in (tmp_path / "run" / "trials").iterdir()) == before


def test_a_folder_with_other_things_in_it_is_refused(study: Experiment, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("dear reader")
    with pytest.raises(BadInput, match="no run folder"):
        run_study(study, tmp_path / "run", Inline())
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["thesis.tex"]


def test_judging_needs_no_model(study: Experiment, tmp_path: Path) -> None:
    """Generate, judge, aggregate: what the model said is enough to score it again."""
    from titer.trial.probes import judge, probes

    traces = run_study(study, tmp_path / "run", Inline())
    trace = next(trace for trace in traces if trace.trial.label == "S03")
    lines = (Store(tmp_path / "run").folder(trace.trial.key) / "generations.jsonl").read_text()
    asked = probes(study.world, "alloy")
    for line, point in zip(lines.splitlines(), trace.points, strict=True):
        assert judge(asked, json.loads(line)["records"]) == dict(point.scores)


class Crashing(Inline):
    """Loses every job without a result, as a pool does when a worker dies."""

    def __call__(self, function: Callable[[Any], Status], jobs: Sequence[Any]) -> Iterator[Any]:
        for job in jobs:
            yield Ended(job=job, status="timed-out", error="too slow")


def test_a_lost_job_is_recorded_as_what_it_was(study: Experiment, tmp_path: Path) -> None:
    traces = run_study(study, tmp_path / "run", Crashing())
    assert {trace.status for trace in traces} == {"timed-out"}
    assert {trace.error for trace in traces} == {"too slow"}


_KILLED = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from titer.executors.inline import Inline
from titer.core.study import Study
from titer.plan.request import assemble, check
from titer.run.runner import run_study
from tests.run.test_runner import _small
request = Study(models=[{model!r}], data={data!r}, out=Path({out!r}), seeds=1)
run_study(_small(assemble(check(request))[0]), Path({out!r}), Inline())
"""


@pytest.mark.slow
def test_killed_in_the_middle_and_run_again_it_ends_with_the_same_results(
    study: Experiment, tmp_path: Path
) -> None:
    run_study(study, tmp_path / "whole", Inline())
    killed = tmp_path / "run"
    script = _KILLED.format(
        tests=str(Path(__file__).parents[2]),
        model=str(tmp_path / "model"),
        data=str(tmp_path / "data"),
        out=str(killed),
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    deadline = time.monotonic() + 120
    while len(list(killed.glob("trials/[!.]*/status.json"))) < 4:
        assert process.poll() is None, "the study ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    finished = {path: path.stat().st_mtime_ns for path in killed.glob("trials/[!.]*/status.json")}
    assert not (killed / "results.jsonl").exists()

    run_study(study, killed, Inline())
    for path, written in finished.items():
        assert path.stat().st_mtime_ns == written, "a finished trial was repeated"
    for name in ("results.jsonl", "plan.json"):
        assert (killed / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_job_names_the_world_and_the_model_by_place(study: Experiment, tmp_path: Path) -> None:
    """A trial performed by hand is the trial the study would have run."""
    from titer.plan import experiment as plan

    trial = plan.attacks(study, {})[1]
    job = Job(
        trials=(trial,),
        model=study.subjects[0].folder,
        world=study.source,
        root=str(tmp_path / "by hand"),
        keep=str(tmp_path / "tampered"),
    )
    assert performing.perform(job) == "ok"
    trace = Store(tmp_path / "by hand").get(trial.key)
    assert [point.spent.steps for point in trace.points] == list(trial.checkpoints)
    assert load_model(str(tmp_path / "tampered")).digest() == trace.weights
