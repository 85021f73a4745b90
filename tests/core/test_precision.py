"""What came in half precision leaves in it, and single precision stays what it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from titer.conformance import ARCHITECTURES, tiny_lm
from titer.core.lm import LM
from titer.core.precision import held_as, stored


def halved(folder: Path, dtype: torch.dtype, architecture: Any = "llama") -> Path:
    lm = tiny_lm(architecture)
    lm.model.to(dtype)
    lm.save(folder)
    return folder


def types(folder: Path) -> set[torch.dtype]:
    return {tensor.dtype for tensor in load_file(folder / "model.safetensors").values()}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_half_model_leaves_as_it_came(tmp_path: Path, dtype: Any, architecture: Any):
    first = halved(tmp_path / "first", dtype, architecture)
    lm = LM.load(first)
    assert {weight.dtype for weight in lm.model.parameters()} == {torch.float32}
    before = lm.digest()
    lm.save(tmp_path / "again")
    assert lm.digest() == before
    assert lm.model.config.dtype == torch.float32
    assert types(tmp_path / "again") == {dtype}
    for name in ("model.safetensors", "config.json", "generation_config.json"):
        assert (tmp_path / "again" / name).read_bytes() == (first / name).read_bytes()


def test_a_copy_that_was_trained_is_rounded_and_no_larger(tmp_path: Path):
    first = halved(tmp_path / "first", torch.bfloat16)
    other = LM.load(first).clone()
    with torch.no_grad():
        for weight in other.model.parameters():
            weight += 1e-3 * torch.randn(weight.shape)
    other.save(tmp_path / "again")
    assert types(tmp_path / "again") == {torch.bfloat16}
    expected = other.model.get_input_embeddings().weight.bfloat16().float()
    again = LM.load(tmp_path / "again")
    assert torch.equal(again.model.get_input_embeddings().weight, expected)


def test_tensors_of_their_own_type_keep_it(tmp_path: Path):
    from safetensors.torch import save_file

    first = halved(tmp_path / "first", torch.bfloat16)
    tensors = load_file(first / "model.safetensors")
    name = "model.norm.weight"
    tensors[name] = torch.rand(24)
    save_file(tensors, first / "model.safetensors", metadata={"format": "pt"})
    lm = LM.load(first)
    assert stored(lm.model).of(name) == "float32"
    lm.save(tmp_path / "again")
    kept = load_file(tmp_path / "again" / "model.safetensors")
    assert torch.equal(kept[name], tensors[name])
    assert kept["lm_head.weight"].dtype == torch.bfloat16


def test_single_precision_is_written_to_the_bit(tmp_path: Path):
    tiny_lm().save(tmp_path / "first")
    LM.load(tmp_path / "first").save(tmp_path / "again")
    again = (tmp_path / "again" / "model.safetensors").read_bytes()
    assert again == (tmp_path / "first" / "model.safetensors").read_bytes()


def test_what_is_held_can_be_written_as_it_is(tmp_path: Path):
    lm = LM.load(halved(tmp_path / "first", torch.bfloat16))
    lm.save(tmp_path / "again", as_held=True)
    assert types(tmp_path / "again") == {torch.float32}
    assert json.loads((tmp_path / "again" / "config.json").read_text())["dtype"] == "float32"


@pytest.mark.parametrize("held", ["bfloat16", "auto"])
def test_what_was_held_in_half_is_saved_as_it_came(tmp_path: Path, held: Any):
    tiny_lm().save(tmp_path / "single")
    halved(tmp_path / "half", torch.bfloat16)
    for source, kind in (("single", torch.float32), ("half", torch.bfloat16)):
        lm = LM.load(tmp_path / source, dtype=held)
        wanted = kind if held == "auto" else torch.bfloat16
        assert {weight.dtype for weight in lm.model.parameters()} == {wanted}
        lm.save(tmp_path / f"{source} again")
        assert types(tmp_path / f"{source} again") == {kind}
        written = json.loads((tmp_path / f"{source} again" / "config.json").read_text())
        assert written["dtype"] == str(kind).removeprefix("torch.")
        assert {weight.dtype for weight in lm.model.parameters()} == {wanted}
        assert held_as(lm.model) == ("" if wanted is torch.float32 else "bfloat16")


def test_the_attention_that_was_chosen_is_remembered(tmp_path: Path):
    tiny_lm().save(tmp_path)
    assert held_as(LM.load(tmp_path).model) == ""
    eager = LM.load(tmp_path, attention="eager").clone()
    assert eager.model.config._attn_implementation == "eager"
    assert held_as(eager.model) == "eager"
