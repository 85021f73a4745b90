"""A study by the Trainer is the same study."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks._serial import Serially

from tests.toy import data_folder, model_folder
from titer.core.study import Study
from titer.executors.inline import Inline
from titer.plan.request import assemble, check
from titer.run.runner import run_study


@pytest.mark.slow
def test_the_trainer_trains_the_same_trials_the_same_way(tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    model, data = model_folder(tmp_path / "m"), data_folder(tmp_path / "d")
    found = {}
    for name, executor in {"serial": Serially(1), "titer": Inline()}.items():
        request = Study(
            models=(str(model),), suite="quick", out=tmp_path / name, data=str(data), seeds=1, cap=3
        )
        study, _ = assemble(check(request))
        found[name] = {trace.trial.key: trace for trace in run_study(study, request.out, executor)}
        if isinstance(executor, Serially):
            assert executor.trained > 10
    # Adapters begin elsewhere, so that their best rate may be another, and with it later trials.
    both = found["titer"].keys() & found["serial"].keys()
    full = 0
    for key in both:
        ours, theirs = found["titer"][key], found["serial"][key]
        assert ours.status == theirs.status == "ok"
        if ours.trial.attack.fields.get("parameters") != "full":
            continue
        full += 1
        for one, two in zip(ours.points, theirs.points, strict=True):
            assert (one.spent.steps, one.spent.tokens) == (two.spent.steps, two.spent.tokens)
            assert one.mean("harm") == two.mean("harm")
    assert full >= 7
