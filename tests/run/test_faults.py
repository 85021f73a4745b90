"""What goes wrong in a study ends in a report that says so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests import toy
from tests.run.test_runner import _small
from titer.core.errors import BadInput
from titer.core.jobs import Executor
from titer.core.lm import LM
from titer.core.study import Study
from titer.executors.inline import Inline
from titer.executors.processes import Processes
from titer.plan.request import assemble, check
from titer.report import html, tables
from titer.report.load import read_verdict
from titer.run.defended import immunised
from titer.run.runner import run_study
from titer.trial import immunise

pytestmark = pytest.mark.exact


def _report(root: Path) -> tuple[dict[str, dict[str, Any]], str]:
    """The verdict's models by name, and all that a person reads of it."""
    verdict = read_verdict(root)
    page = html.render(verdict)
    told = " ".join((tables.plain(verdict, 200) + page).split())
    return {model["name"]: model for model in verdict.to_json()["models"]}, told


@pytest.fixture
def place(tmp_path: Path) -> Path:
    toy.model_folder(tmp_path / "llama")
    toy.data_folder(tmp_path / "data")
    return tmp_path


def _run(
    place: Path,
    models: list[str],
    defences: tuple[str, ...] = (),
    executor: Executor | None = None,
    rows: int = 2,
) -> Path:
    root = place / "run"
    request = Study(
        models=[str(place / name) for name in models],
        data=str(place / "data"),
        out=root,
        seeds=1,
        defences=defences,
    )
    study, plans = assemble(check(request))
    executor = executor or Inline()
    study = _small(study)
    study = replace(study, suite=replace(study.suite, rows=study.suite.rows[:rows]))
    study = immunised(study, plans, root, executor) if plans else study
    run_study(study, root, executor)
    return root


def _spoil(folder: Path) -> None:
    """Fill every weight with NaN; the file stays whole."""
    lm = LM.load(folder).clone()
    with torch.no_grad():
        for weight in lm.model.parameters():
            weight.fill_(torch.nan)
    lm.save(folder)


def test_a_model_that_is_a_file_of_nans_is_withheld_and_the_others_are_measured(
    place: Path,
) -> None:
    _spoil(toy.model_folder(place / "sick", seed=1))
    toy.model_folder(place / "other", seed=2)
    root = _run(place, ["llama", "sick", "other"])
    models, told = _report(root)
    assert "NaN" in models["sick"]["withheld"]
    assert str(place) not in models["sick"]["withheld"]
    assert models["sick"]["flags"] == ["weights not finite"]
    assert "NaN" in models["sick"]["claim"]
    assert "withheld: sick: tensor" in told
    assert models["other"]["pillars"]["resistance"]["weak"]["value"] is not None


def test_a_reference_of_nans_is_refused_since_nothing_could_be_measured(place: Path) -> None:
    _spoil(toy.model_folder(place / "sick", seed=1))
    with pytest.raises(BadInput, match="NaN"):
        _run(place, ["sick", "llama"])
    assert not (place / "run").exists()


def test_a_defence_that_makes_nans_is_withheld(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoil(lm: LM, run: Any) -> LM:
        out = lm.clone()
        with torch.no_grad():
            next(iter(out.model.parameters())).fill_(torch.nan)
        return out

    monkeypatch.setattr(immunise, "_method", lambda parts: spoil)
    models, told = _report(_run(place, ["llama"], ("npo",)))
    assert "NaN" in models["npo"]["withheld"]
    assert "withheld: npo: tensor" in told
    assert models["llama"]["pillars"]["resistance"]["weak"]["value"] is not None


def test_a_defence_that_returns_its_input_is_said_to_have_changed_nothing(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(immunise, "_method", lambda parts: lambda lm, run: lm)
    models, told = _report(_run(place, ["llama"], ("npo",)))
    assert "same weights as the undefended model" in models["npo"]["flags"]
    assert "flag: npo: same weights as the undefended model" in told
    weak = [models[name]["pillars"]["resistance"]["weak"]["value"] for name in ("npo", "llama")]
    assert weak[0] == weak[1]


def test_an_attack_that_raises_withholds_the_score_and_says_why(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from titer.attacks.finetune import Finetune

    own = Finetune.__call__
    healthy = LM.load(place / "llama").digest()

    def faulty(self: Finetune, lm: LM, run: Any) -> LM:
        if self.parameters == "lora" and lm.digest() != healthy:
            raise ValueError("out of luck")
        return own(self, lm, run)

    monkeypatch.setattr(Finetune, "__call__", faulty)
    toy.model_folder(place / "other", seed=2)
    models, told = _report(_run(place, ["llama", "other"]))
    assert models["other"]["withheld"] == "P02 seed 0 failed"
    assert models["llama"]["pillars"]["resistance"]["weak"]["value"] is not None
    assert "withheld: other: P02 seed 0 failed" in told
    assert "failed: ValueError: out of luck" in told
    assert "Traceback" not in told


_JUDGE = '''
"""A judge that never answers."""

import time
from dataclasses import dataclass

from titer.core.records import Card


@dataclass(frozen=True, kw_only=True)
class Slow:
    """Waits."""

    def collect(self, lm, items):
        return [{} for _ in items]

    def judge(self, items, records):
        time.sleep(600)
        return [0.0 for _ in items]


CARD = Card(
    kind="measure", build=Slow, source="none", summary="waits", family="knowledge",
    direction="gives",
)
'''


@pytest.fixture
def slow_judge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An installed package with a measure that hangs; workers find it too."""
    package = tmp_path / "package"
    info = package / "slow_judge-1.dist-info"
    info.mkdir(parents=True)
    (package / "slow_judge.py").write_text(_JUDGE)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: slow-judge\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[titer.measures]\nslow_judge = slow_judge\n")
    monkeypatch.syspath_prepend(str(package))
    return "slow_judge"


@pytest.mark.slow
def test_a_judge_that_times_out_withholds_the_score_and_is_named(
    place: Path, slow_judge: str
) -> None:
    data = place / "data" / "data.yaml"
    data.write_text(data.read_text().replace("also: [cloze]", f"also: [{slow_judge}]"))
    with Processes(2, timeout=60.0) as pool:
        list(pool(_nothing, ["warm", "warm"]))
        pool.timeout = 20.0  # a worker that was killed starts anew, which takes seconds
        root = _run(place, ["llama"], executor=pool, rows=1)
    models, told = _report(root)
    assert models["llama"]["withheld"].endswith(
        "so none is calibrated (here: S03 seed 0 timed-out)"
    )
    assert "timed-out: the trial took longer than 20 seconds" in told
    assert "stopped in judge (slow_judge.py line 18), called by judge (probes.py" in told
    assert models["llama"]["pillars"]["resistance"]["weak"]["value"] is None


def _nothing(job: str) -> Any:
    return "ok"


def test_broken_in_every_way_at_once_is_still_a_sentence(place: Path) -> None:
    """Where something else is wrong, the NaNs are said with it."""
    _spoil(toy.model_folder(place / "sick", seed=1))
    with pytest.raises(BadInput) as caught:
        _run(place, ["llama", "sick", "missing"])
    assert len(caught.value.faults) == 2
