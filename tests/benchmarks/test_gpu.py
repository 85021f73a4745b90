"""The benchmark for graphics cards runs on a processor too."""

from __future__ import annotations

import json
from typing import Any

import pytest
from benchmarks._peers import SIZES, Size, adapter_bytes, build

from benchmarks import gpu

TINY = Size(width=16, hidden=32, layers=1, heads=2, words=50, sequences=2, tokens=8)


@pytest.fixture(autouse=True)
def sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SIZES, "tiny", TINY)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_every_alternative_has_a_rate_and_a_share(
    capsys: pytest.CaptureFixture[str], dtype: str
) -> None:
    pytest.importorskip("accelerate")
    words = "--device cpu --sizes tiny --members 1 2 --steps 1 --rounds 1 --json --dtype"
    gpu.main([*words.split(), dtype])
    figures: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    assert {figure["what"] for figure in figures if figure["unit"] == "of the matrix rate"} == {
        "tiny: plain loop",
        "tiny: titer K=1",
        "tiny: titer K=2",
    }
    assert all(figure["median"] > 0 for figure in figures)


def test_a_card_that_is_not_there_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a card")
    with pytest.raises(SystemExit):
        gpu.main([])
    assert "--device cpu" in capsys.readouterr().err


def test_the_prediction_counts_moments_and_activations() -> None:
    lm = build(TINY)
    short = adapter_bytes(lm, TINY)
    long = adapter_bytes(lm, Size(16, 32, 1, 2, 50, sequences=2, tokens=16))
    rank, layers = 8, [(16, 16)] * 4 + [(16, 32)] * 2 + [(32, 16)]
    weights = rank * sum(into + out for into, out in layers)
    assert short > 16 * weights
    assert long - 16 * weights > 1.8 * (short - 16 * weights)
