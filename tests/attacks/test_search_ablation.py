"""The search finds what it looks for, keeps its best, and counts its trials."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from titer.attacks._tpe import suggest
from titer.attacks.search_ablation import PRESETS, SearchAblation
from titer.core.data import Data
from titer.core.errors import BadInput
from titer.core.method import Run
from titer.core.records import Budget

from .planted import answers, loss, planted, refuses

MakeRun = Callable[..., Run]


def _search(seed: int, trials: int, size: int, startup: int) -> float:
    """The lowest squared distance from a point off the centre."""
    rng = random.Random(seed)
    ranked: list[tuple[float, tuple[float, ...]]] = []
    for _ in range(trials):
        point = suggest([p for _, p in ranked], size, rng, startup=startup)
        assert len(point) == size
        assert all(0 <= x <= 1 for x in point)
        ranked.append((sum((x - 0.8) ** 2 for x in point), point))
        ranked.sort()
    return ranked[0][0]


def test_the_estimator_beats_drawing_at_random() -> None:
    guided = [_search(seed, 60, 4, 10) for seed in range(12)]
    blind = [_search(seed, 60, 4, 1000) for seed in range(12)]
    assert sum(guided) < 0.5 * sum(blind)
    assert sum(g < b for g, b in zip(guided, blind, strict=True)) >= 9


def test_a_planted_refusal_is_searched_out(data: Data, make_run: MakeRun) -> None:
    lm, _ = planted()
    run = make_run(30)
    out = SearchAblation()(lm, run)
    assert run.spent.steps == 30
    assert refuses(out, data.harmful) < 0.2
    assert answers(out, data.retain) > 0.9
    assert loss(out, data.harmful) < 0.5 * loss(lm, data.harmful)


def test_more_trials_are_never_worse_by_its_own_yardstick(make_run: MakeRun) -> None:
    lm, _ = planted()
    seen: dict[int, str] = {}
    run = make_run(
        8, checkpoints=(0, 4, 8), emit=lambda m, r: seen.update({r.spent.steps: m.digest()})
    )
    out = SearchAblation()(lm, run)
    assert seen[0] == lm.digest()
    assert seen[4] == SearchAblation()(lm, make_run(4)).digest()
    assert seen[8] == out.digest()


def test_the_budget_of_tokens_ends_it(make_run: MakeRun) -> None:
    lm, _ = planted()
    run = make_run(budget=Budget(steps=30, tokens=3000))
    SearchAblation()(lm, run)
    assert 0 < run.spent.steps < 30
    assert run.spent.tokens <= 3000


@pytest.mark.parametrize("settings", [{"strongest": 0.0}, {"last": 0}, {"prompts": 0}])
def test_wrong_knobs_are_refused_when_it_is_built(settings: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        SearchAblation(**settings)


def test_the_preset_is_its_row() -> None:
    assert PRESETS["V02"].steps == (60, 200)
    SearchAblation(**PRESETS["V02"].fields)
