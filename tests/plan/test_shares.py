"""Shares of a hazard: nested, by whom they are about, and made into models that are attacked."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests import toy
from titer.core.data import Example
from titer.core.errors import BadInput
from titer.core.study import Study
from titer.executors.inline import Inline
from titer.plan import experiment as plan
from titer.plan.request import assemble, check
from titer.run.defended import immunised
from titer.trial.immunise import Immunisation
from titer.trial.shares import check_shares, size, take, units
from titer.worlds.fabula import fabula


def _examples(entities: int, phrasings: int = 3) -> tuple[Example, ...]:
    return tuple(
        Example(id=f"{e}/{p}", prompt="?", answer="!", fact=f"{e}", entity=f"who {e}")
        for e in range(entities)
        for p in range(phrasings)
    )


def test_a_smaller_share_lies_inside_a_larger_one_and_the_seed_draws() -> None:
    examples = _examples(20)
    for draw in range(3):
        few, more = take(examples, 0.1, draw), take(examples, 0.5, draw)
        assert set(few) < set(more) < set(examples)
        assert len(units(few)) == 2
        assert len(units(more)) == 10
    assert take(examples, 0.5, 0) == take(examples, 0.5, 0)
    assert take(examples, 0.5, 0) != take(examples, 0.5, 1)
    assert take(examples, 1.0, 0) == examples


def test_an_entity_is_in_with_all_its_facts_and_phrasings_or_out() -> None:
    defend = fabula(0).hazards["A"].defend
    kept = take(defend, 0.3, 0)
    assert len(units(defend)) == 24
    assert len({example.entity for example in kept}) == size(0.3, 24) == 7
    assert {e.id for e in kept} == {e.id for e in defend if e.entity in units(kept)}


def test_without_entities_facts_count_and_without_facts_examples() -> None:
    facts = [Example(id=f"{f}{p}", prompt="?", answer="!", fact=f) for f in "abcd" for p in "xy"]
    assert units(facts) == ("a", "b", "c", "d")
    assert len(take(facts, 0.5, 0)) == 4
    bare = [Example(id=name, prompt="?", answer="!") for name in "abcd"]
    assert len(take(bare, 0.25, 0)) == 1


@pytest.mark.parametrize(
    ("shares", "said"),
    [
        ([0.0], "between 0 and 1"),
        ([1.0], "between 0 and 1"),
        ([float("nan")], "between 0 and 1"),
        ([0.01], "of the defender's 10 entities that is none"),
        ([0.99], "of the defender's 10 entities that is all"),
        ([0.3, 0.31], "are both 3 of the defender's 10 entities"),
    ],
)
def test_a_share_that_is_no_subset_of_its_own_is_refused(shares: list[float], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        check_shares(shares, _examples(10))
    check_shares([0.1, 0.5], _examples(10))


def _request(tmp_path: Path, **more: object) -> Study:
    settings: dict[str, object] = {
        "models": [str(toy.model_folder(tmp_path / "model"))],
        "data": str(toy.data_folder(tmp_path / "data")),
        "out": tmp_path / "run",
        "seeds": 2,
        "defences": ["grad_diff"],
        "shares": (0.67, 0.34),
        "settings": {"lr": 1e-2},
    }
    return Study(**{**settings, **more})  # type: ignore[arg-type]


def _short(plans: Sequence[Immunisation]) -> list[Immunisation]:
    """Enough steps to see every example more than once."""
    return [replace(one, steps=20) for one in plans]


def test_every_fault_of_the_shares_is_found_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="add --defence NAME"):
        check(_request(tmp_path, defences=[]))
    with pytest.raises(BadInput) as caught:
        check(_request(tmp_path, shares=(0.01, 7.0)))
    assert len(caught.value.faults) == 2
    assert not (tmp_path / "run").exists()


def test_the_command_says_the_shares(tmp_path: Path) -> None:
    assert "--share 0.67 --share 0.34" in _request(tmp_path).command()


def test_each_share_is_made_and_attacked_once_a_seed(tmp_path: Path) -> None:
    study, plans = assemble(check(_request(tmp_path)))
    assert [(made.share, made.draw) for made in plans] == [
        (1.0, 0),
        (0.34, 0),
        (0.34, 1),
        (0.67, 0),
        (0.67, 1),
    ]
    assert len({made.key for made in plans}) == 5
    study = immunised(study, _short(plans), tmp_path / "run", Inline())
    parts = [subject for subject in study.subjects if subject.share]
    assert {(s.share.of, s.share.entities, s.share.total) for s in parts if s.share} == {
        ("grad_diff", 1, 3),
        ("grad_diff", 2, 3),
    }
    weights = [{s.digest for s in parts if s.share and s.share.entities == n} for n in (1, 2)]
    whole_weights = {s.digest for s in study.subjects if s.share is None}
    assert len(whole_weights) == 2
    assert not set.intersection(*weights) | set.union(*weights) & whole_weights
    rates = {"full-adamw": 1e-3, "lora-adamw": 1e-3}
    trials = plan.attacks(study, rates)
    whole = [t for t in trials if t.subject == "grad_diff" and t.label != "none"]
    few = [t for t in trials if t.subject == "grad_diff with 34 % of the hazard"]
    # The same rows at the same settings and seeds, each seed on the model of its own draw.
    assert [(t.label, t.attack, t.seed, t.budget) for t in few if t.seed == 0] == [
        (t.label, t.attack, t.seed, t.budget) for t in whole if t.seed == 0
    ]
    assert {t.seed: t.model for t in few} == {
        s.share.draw: s.digest for s in parts if s.share and s.share.entities == 1
    }
    assert not [t for t in plan.training(study, rates) if "hazard" in t.subject]


def test_the_defender_saw_the_share_and_nothing_else(tmp_path: Path) -> None:
    study, plans = assemble(check(_request(tmp_path, shares=(0.34,), seeds=1)))
    plans = _short(plans)
    study = immunised(study, plans, tmp_path / "run", Inline())
    spent = {
        made.share: json.loads((tmp_path / "run" / "models" / made.key / "titer.json").read_text())
        for made in plans
    }
    defend = study.world.hazards["alloy"].defend
    fewer = len(defend) - len(take(defend, 0.34, 0))
    assert fewer == 2
    seen = {share: facts["spent"]["examples"] for share, facts in spent.items()}
    assert seen[1.0] - seen[0.34] == fewer
    assert spent[1.0]["spent"]["steps"] == spent[0.34]["spent"]["steps"]
