"""What a defence did is said, and one that did nothing is doubted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import titer
from titer.conformance import tiny_lm
from titer.nn.weights import distance
from titer.trial.effect import Effect, effect


def test_the_distance_of_weights_by_hand() -> None:
    start, moved = tiny_lm(), tiny_lm()
    assert distance(start, start) == 0.0
    with torch.no_grad():
        for weight in moved.model.parameters():
            weight.mul_(1.5)
    assert distance(moved, start) == pytest.approx(0.5, rel=1e-5)
    assert distance(tiny_lm("gpt2"), start) is None, "other weights"


def test_harm_is_asked_of_both_and_of_nobody_where_there_is_nothing_to_ask() -> None:
    one, other = tiny_lm(), tiny_lm()
    scores = {id(one): [1.0, 1.0, 0.0], id(other): [1.0, 0.0, 0.0]}
    seen = effect(one, other, lambda lm: scores[id(lm)])
    assert (seen.before, seen.after, seen.items) == (pytest.approx(2 / 3), pytest.approx(1 / 3), 3)
    bare = effect(one, other, lambda lm: [])
    assert (bare.before, bare.after) == (None, None)
    assert bare.doubts(0.25, hides=True) == ["barely moved: the weights changed by 0 of their norm"]


@pytest.mark.parametrize(
    ("moved", "before", "after", "hides", "doubts"),
    [
        (0.1, 0.97, 0.30, True, 0),
        (0.1, 0.97, 0.93, True, 1),  # RMU with the paper's length on a model of another scale
        (0.1, 0.97, 0.93, False, 0),  # nothing that such a defence is meant to do
        (0.1, 0.30, 0.30, True, 0),  # nothing that could have been hidden
        (1e-4, 0.97, 0.30, True, 1),
        (1e-4, 0.97, 0.97, True, 2),
        (None, 0.97, 0.30, True, 0),
        (0.1, None, None, True, 0),
    ],
)
def test_what_is_doubted(
    moved: float | None, before: float | None, after: float | None, hides: bool, doubts: int
) -> None:
    found = Effect(moved=moved, before=before, after=after, items=40).doubts(0.25, hides=hides)
    assert len(found) == doubts
    assert all(len(flag) <= 80 for flag in found), "a longer flag is dropped from a folder's"


def test_a_defence_that_does_nothing_says_so_in_card_note_and_folder(tmp_path: Path) -> None:
    """Planted: RMU with a vector that is nothing beside the model's own activations."""
    world = titer.world("fabula")
    out = tmp_path / "idle"
    titer.immunise(
        "fabula:base", "rmu", world["A"], steps=2, out=out, scale="absolute", steering=1e-3
    )
    facts = json.loads((out / "titer.json").read_text())
    assert facts["effect"]["select"][0] > 0.9
    assert facts["flags"] == ["barely moved: harm on select 1.00 to 1.00"]
    card = (out / "README.md").read_text()
    assert "## What it did" in card
    assert "- barely moved: harm on select 1.00 to 1.00" in card
    assert "40 held-out items (select) 1.00 before, 1.00 after" in card
