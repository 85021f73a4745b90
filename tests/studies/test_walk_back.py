"""The cosines of a walk on a toy: against vectors by hand, and that nothing is done twice."""

from __future__ import annotations

from pathlib import Path

import pytest
from studies._lab import UNDEFENDED, Arm, Lab
from studies._vectors import RESTART

from studies import walk_back
from tests import toy
from tests.studies.test_invariance import Counting, toy_world
from titer.core import catalogue
from titer.core.method import Run
from titer.core.records import Budget
from titer.measures.task_vector import cosine, task_vector
from titer.trial.load import load_model, load_named_world

ARM = Arm(name="npo", defence="npo", fields={"lr": 1e-3}, steps=3)


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    monkeypatch.setattr(walk_back, "LOOKS", (1, 2))
    return Lab(
        root=tmp_path / "run",
        executor=Counting(),
        source=toy_world(tmp_path / "data"),
        undefended=str(toy.model_folder(tmp_path / "model")),
        oracle=str(toy.model_folder(tmp_path / "oracle", seed=1)),
        say=lambda line: None,
    )


def test_cosines_are_those_of_the_vectors(lab: Lab) -> None:
    found = walk_back.run(lab, [0], [ARM])
    assert set(found) == {(arm, mix) for arm in (RESTART, "npo") for mix in walk_back.MIXES}
    made = lab.make([ARM], 0)
    start, model = (load_model(made[name].subject.folder) for name in (UNDEFENDED, "npo"))
    attack = catalogue.build("attack", "finetune", {**walk_back.FIELDS, "mix": "harmful"})
    data = load_named_world(lab.source).attacker(lab.domain)
    tuned = [
        attack(one, Run(budget=Budget(steps=2), data=data, seed=seed))
        for one, seed in ((model, 0), (start, 0), (start, 1_000_000))
    ]
    walked = cosine(task_vector(tuned[0], model), task_vector(model, start))
    assert found["npo", "harmful"][0]["2"][""] == pytest.approx(walked, abs=1e-6)
    again = cosine(*(task_vector(one, start) for one in tuned[1:]))
    assert found[RESTART, "harmful"][0]["2"][""] == pytest.approx(again, abs=1e-6)


def test_the_same_command_again_does_nothing_and_tells_the_same(lab: Lab) -> None:
    first = walk_back.report(walk_back.run(lab, [0], [ARM]))
    given = sum(lab.executor.given)  # type: ignore[attr-defined]
    assert walk_back.report(walk_back.run(lab, [0], [ARM])) == first
    assert sum(lab.executor.given) == given  # type: ignore[attr-defined]
    assert "| npo | unrelated |" in first
    assert "By kind of module after 2 steps:" in first


def test_every_arm_can_be_built_and_is_named_once() -> None:
    arms = walk_back.arms()
    assert len({arm.name for arm in arms}) == len(arms) == 6
    for arm in arms:
        catalogue.build("defence", arm.defence, dict(arm.fields))
