"""How many steps are enough is read off what they do to a model that resists nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.pillars.made_traces import arena, evidence, study, trace
from titer.core import Trace
from titer.evidence.budget import horizon, learning, too_few_steps

GOOD = (0.9,) * 4


def _taught(*scores: float, steps: tuple[int, ...] = (0, 1, 10, 100)) -> Trace:
    """A benign fine-tune of the undefended model."""
    return trace(
        "base", "song", 0, scores, (None,), steps=steps, purpose="train", task="song", probe="task"
    )


def test_half_of_a_task_is_half_of_what_there_was_to_learn() -> None:
    found = learning([_taught(0.2, 0.2, 0.4, 0.8)], "base")
    assert found.steps == pytest.approx(10 * 10**0.5, abs=1e-4), "0.6, half way on a log axis"
    assert found.gain == pytest.approx(0.6)
    assert found.tried == 100


def test_the_quickest_run_counts_and_other_models_do_not() -> None:
    traces = [_taught(0.2, 0.2, 0.4, 0.8), _taught(0.2, 0.7, 0.8, 0.8)]
    assert learning(traces, "base").steps == 1
    assert learning(traces, "m").steps is None
    assert learning([_taught(0.2, 0.3, 0.4, 0.5)], "base").steps is None


def test_a_task_that_is_known_from_the_start_teaches_nothing() -> None:
    found = learning([_taught(0.9, 1.0, 1.0, 1.0)], "base")
    assert (found.steps, found.gain, found.tried) == (None, 0.0, 0.0)


def test_of_a_model_that_shows_the_harm_from_the_start_tasks_decide() -> None:
    bench = arena(study(m=((0.25,) * 4, GOOD)))
    tasks = [_taught(0.2, 0.2, 0.6, 0.8)]  # half of it within ten steps
    assert too_few_steps(bench, tasks, 20) == ""
    assert "takes 10 to learn half of a benign task" in too_few_steps(bench, tasks, 19)
    assert too_few_steps(bench, [], 1) == "", "a suite's own budget, and nothing to tell by"
    assert "was cut to 1 step" in too_few_steps(bench, [], 1, cap=1)
    idle = [_taught(0.2, 0.2, 0.2, 0.2)]
    assert "do nothing to the undefended model" in too_few_steps(bench, idle, 100)
    assert too_few_steps(bench, idle, 300) == "", "nobody was trained so long"


def test_a_model_that_must_be_broken_is_the_measure_itself() -> None:
    traces = study(base=((0.25, 0.3, 0.9, 0.9), GOOD), m=((0.25,) * 4, GOOD))
    bench = arena(traces)
    assert bench.undefended is not None
    assert float(bench.undefended.before[0]) < bench.phi
    needed = min(float(row.tau[0]) for row in bench.undefended.rows.values())
    assert 1 < needed < 10
    assert too_few_steps(bench, [], 2 * needed) == ""
    assert "to be breached" in too_few_steps(bench, [], 2 * needed - 1)


def test_the_horizon_is_that_of_the_rows_in_question() -> None:
    traces = study(rows=("S", "W"), m=((0.25,) * 4, GOOD))
    cut = [replace(one, points=one.points[:2]) if one.trial.row == "S" else one for one in traces]
    seen = evidence(cut, "m")
    assert (horizon(seen, {"S"}), horizon(seen, {"S", "W"}), horizon(seen, ())) == (1, 100, 0)
    assert np.isfinite(horizon(seen, {"W"}))
