"""A direction that is taken out is gone, and a push arrives: norms after, experts, any table."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from benchmarks._architectures import ARCHITECTURES
from torch.testing import assert_close

from titer.attacks.ablate import Ablate
from titer.attacks.search_ablation import SearchAblation
from titer.conformance import tiny_data
from titer.core.lm import LM
from titer.core.method import Run
from titer.core.records import Budget
from titer.nn.directions import (
    ablating,
    cuttable,
    everywhere,
    orthogonalise,
    orthonormal,
    steerable,
)
from titer.nn.hooks import blocks
from titer.nn.products import few_tokens
from titer.nn.stream import remaining, sources

BY_NAME = {one.name: one for one in ARCHITECTURES}
NORMED = ("gemma2", "gemma3", "olmo2", "glm4")
AWKWARD = (*NORMED, "bloom", "mpt", "mixtral", "qwen2_moe", "gpt_oss", "deepseek_v3", "llama4",
           "mamba", "jamba", "qwen3_next", "recurrent_gemma")  # fmt: skip


def _lively(name: str) -> LM:
    lm = BY_NAME[name].build()
    for weight in lm.model.parameters():
        if weight.dim() > 1:
            weight.detach().mul_(4)
    return lm


def _logits(lm: LM) -> torch.Tensor:
    with torch.no_grad():
        return lm.model(**few_tokens(lm.model, 12, 2), use_cache=False).logits


@pytest.mark.parametrize("name", AWKWARD)
def test_what_is_cut_out_is_nowhere_in_the_stream(name: str) -> None:
    lm = _lively(name)
    draw = torch.Generator().manual_seed(2)
    width = sources(lm.model)[0].linear.weight_OI.shape[0]
    basis = orthonormal(torch.randn(2, width, generator=draw))
    cuts = everywhere(lm.model, basis)
    with ablating(lm.model, cuts):
        hooked = _logits(lm)
    out = lm.clone()
    orthogonalise(out, cuts)
    assert remaining(lm.model, out.model, basis) < 1e-3
    assert remaining(lm.model, lm.model, basis) == 1.0
    assert_close(_logits(out), hooked, rtol=1e-3, atol=1e-3)
    assert cuttable(lm) > 0.999


@pytest.mark.parametrize("name", AWKWARD)
def test_a_push_arrives(name: str) -> None:
    lm = _lively(name)
    for layer in (0, len(blocks(lm.model)) - 1):
        assert steerable(lm, layer) > 0.999


@pytest.mark.parametrize("name", NORMED)
def test_norms_after_are_found(name: str) -> None:
    assert all(source.norm is not None for source in sources(BY_NAME[name].build().model))
    assert not any(source.norm for source in sources(BY_NAME["llama"].build().model))


def test_a_norm_that_reads_the_stream_is_none_after() -> None:
    """Bloom's attention adds the stream itself, and the norm behind it reads the sum."""
    assert not any(source.norm for source in sources(BY_NAME["bloom"].build().model))


@pytest.mark.parametrize("attack", [Ablate(prompts=4, held=2, last=1),
                                    SearchAblation(prompts=4, held=2, last=1)])  # fmt: skip
def test_a_writer_that_is_not_found_makes_the_row_doubtful(attack: Any, monkeypatch: Any) -> None:
    def attacked() -> Run:
        run = Run(budget=Budget(steps=2), data=tiny_data())
        attack(_lively("llama"), run)
        return run

    assert not attacked().doubts
    monkeypatch.setattr("titer.nn.edits.WRITERS", {"o_proj"})
    run = attacked()
    assert run.doubts[0].startswith("reached only")
    assert run.course[0]["reach"] < 0.9
