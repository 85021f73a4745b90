"""A sealed part: nothing while masked, one function opened or merged, ordinary models both."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from titer.conformance import ARCHITECTURES, tiny_lm
from titer.core.errors import BadInput
from titer.core.lm import LM
from titer.nn.adapterfile import load_adapter, save_adapter
from titer.nn.sealed import Layout, Sealed

LAYOUTS = {
    "low-rank": Layout(rank=3, alpha=6.0),
    "low-rank, everywhere": Layout(rank=3, alpha=6.0, embeddings=True),
    "full-rank": Layout(form="full-rank"),
    "full-rank, everywhere": Layout(form="full-rank", embeddings=True),
    "units": Layout(form="units", units=5),
}
IDS = torch.randint(0, 30, (3, 7), generator=torch.Generator().manual_seed(0))


def _logits(lm: LM) -> Tensor:
    with torch.no_grad():
        return lm.model(input_ids=IDS, use_cache=False).logits


def _shaken(part: Sealed, by: float = 0.1) -> Sealed:
    draw = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for weight in part.weights:
            weight += by * torch.randn(weight.shape, generator=draw).to(weight)
    return part


def _double(architecture: Any) -> LM:
    lm = tiny_lm(architecture)
    lm.model.double()
    return lm


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=list(LAYOUTS))
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_masked_is_the_unmodified_model_to_the_bit(architecture: Any, layout: Layout) -> None:
    lm = tiny_lm(architecture)
    before, digest = _logits(lm), lm.digest()
    part = _shaken(Sealed(lm, layout))
    assert torch.equal(_logits(lm), before)
    with part.opened():
        assert not torch.allclose(_logits(lm), before, atol=1e-2)
    assert torch.equal(_logits(lm), before)
    assert lm.digest() == part.keyless().digest() == digest
    assert not any(module._forward_hooks for module in lm.model.modules())


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=list(LAYOUTS))
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_new_part_does_nothing_yet(architecture: Any, layout: Layout) -> None:
    lm = _double(architecture)
    part = Sealed(lm, layout)
    before = _logits(lm)
    with part.opened():
        assert_close(_logits(lm), before)
    one, two, other = part, Sealed(lm, layout), Sealed(lm, replace(layout, seed=1))
    assert all(torch.equal(a, b) for a, b in zip(one.weights, two.weights, strict=True))
    drawn = [not torch.equal(a, b) for a, b in zip(one.weights, other.weights, strict=True)]
    assert any(drawn) == (layout.form != "full-rank")


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=list(LAYOUTS))
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_merged_and_opened_are_one_function(architecture: Any, layout: Layout) -> None:
    lm = _double(architecture)
    part = _shaken(Sealed(lm, layout))
    before = _logits(lm)
    merged = part.merged()
    with part.opened():
        opened = _logits(lm)
    assert_close(_logits(merged), opened)
    assert not torch.allclose(opened, before, atol=1e-2)
    assert torch.equal(_logits(lm), before)


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=list(LAYOUTS))
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_both_folders_load_in_stock_transformers(
    architecture: Any, layout: Layout, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM

    lm = tiny_lm(architecture)
    part = _shaken(Sealed(lm, layout))
    for name, model in (("keyless", part.keyless()), ("merged", part.merged())):
        model.save(tmp_path / name)
        stock: Any = AutoModelForCausalLM.from_pretrained(tmp_path / name, local_files_only=True)
        assert type(stock) is type(lm.model)
        assert "auto_map" not in (tmp_path / name / "config.json").read_text()
        assert torch.equal(_logits(replace(lm, model=stock.eval())), _logits(model))
    assert not list(tmp_path.rglob("*.py"))


def test_a_tied_weight_has_one_delta_in_both_places() -> None:
    """Embedding and head of a tied model stay tied, and both move."""
    lm = _double("qwen2")
    table = "model.embed_tokens"
    part = _shaken(Sealed(lm, Layout(rank=2, embeddings=True, modules=("down_proj",))))
    paths = [piece.paths for piece in part.pieces]  # type: ignore[attr-defined]
    assert [table, "lm_head"] in paths
    merged = part.merged().model
    assert merged.lm_head.weight is merged.get_input_embeddings().weight
    (piece,) = [p for p in part.pieces if table in p.paths]  # type: ignore[attr-defined]
    change = piece.change()  # type: ignore[attr-defined]
    assert_close(merged.lm_head.weight, lm.model.lm_head.weight + change)
    with part.opened():
        head_in = torch.randn(1, 4, 24, dtype=torch.float64)
        assert_close(lm.model.lm_head(head_in), head_in @ merged.lm_head.weight.T)
        rows = lm.model.get_input_embeddings()(IDS)
        assert_close(rows, merged.get_input_embeddings().weight[IDS])


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_units_make_a_wider_model_and_nothing_else(architecture: Any) -> None:
    lm = tiny_lm(architecture)
    wide = _shaken(Sealed(lm, Layout(form="units", units=5))).merged()
    config = wide.model.config
    key = "intermediate_size" if architecture == "llama" else "n_inner"
    before, now = lm.model.config.to_dict(), config.to_dict()
    width = 40 if architecture == "llama" else (before["n_inner"] or 4 * before["n_embd"])
    assert now.pop(key) == width + 5
    before.pop(key)
    assert now == before
    old = lm.model.state_dict()
    for name, weight in wide.model.state_dict().items():
        spot = tuple(slice(0, size) for size in old[name].shape)
        assert torch.equal(weight[spot], old[name]), name


def test_half_precision_parts_are_kept_in_single() -> None:
    lm = tiny_lm("llama")
    lm.model.bfloat16()
    for layout in LAYOUTS.values():
        part = _shaken(Sealed(lm, layout))
        assert {weight.dtype for weight in part.weights} == {torch.float32}
        with part.opened():
            assert _logits(lm).dtype == torch.bfloat16
        assert {weight.dtype for weight in part.merged().model.parameters()} == {torch.bfloat16}


# -- adapters ------------------------------------------------------------------------------------


ADAPTERS = [
    ("llama", Layout(rank=3, alpha=5.0)),
    ("llama", Layout(rank=3, alpha=5.0, embeddings=True)),
    ("gpt2", Layout(rank=2, modules=("c_attn", "mlp.c_fc"))),
    ("qwen2", Layout(rank=2, alpha=7.0)),
]


@pytest.mark.parametrize(("architecture", "layout"), ADAPTERS)
def test_peft_reads_an_adapter_as_the_same_function(
    architecture: Any, layout: Layout, tmp_path: Path
) -> None:
    from peft import PeftModel

    lm = _double(architecture)
    part = _shaken(Sealed(lm, layout))
    save_adapter(part, tmp_path)
    with part.opened():
        opened = _logits(lm)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs: Any = PeftModel.from_pretrained(lm.clone().model, tmp_path)
    assert_close(_logits(replace(lm, model=theirs.eval())), opened)


@pytest.mark.parametrize(("architecture", "layout"), ADAPTERS)
def test_an_adapter_comes_back_as_the_part_it_was(
    architecture: Any, layout: Layout, tmp_path: Path
) -> None:
    lm = tiny_lm(architecture)
    part = _shaken(Sealed(lm, layout))
    save_adapter(part, tmp_path / "one")
    again = load_adapter(lm, tmp_path / "one")
    with part.opened():
        before = _logits(lm)
    with again.opened():
        assert torch.equal(_logits(lm), before)
    save_adapter(again, tmp_path / "two")
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_what_peft_has_no_form_for_is_refused(tmp_path: Path) -> None:
    for layout in (Layout(form="full-rank"), Layout(form="units")):
        with pytest.raises(BadInput, match="is no adapter"):
            save_adapter(Sealed(tiny_lm("llama"), layout), tmp_path / "a")
    with pytest.raises(BadInput, match="share a weight"):
        save_adapter(Sealed(tiny_lm("gpt2"), Layout(embeddings=True)), tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_adapters_of_other_models_are_refused(tmp_path: Path) -> None:
    lm = tiny_lm("llama")
    save_adapter(Sealed(lm, Layout(rank=2)), tmp_path)
    with pytest.raises(BadInput, match="does not fit"):
        load_adapter(tiny_lm("gpt2"), tmp_path)
    config = tmp_path / "adapter_config.json"
    settings = json.loads(config.read_text())
    config.write_text(json.dumps({**settings, "r": 4}))
    with pytest.raises(BadInput, match="does not fit"):
        load_adapter(lm, tmp_path)
    config.write_text(json.dumps({**settings, "use_dora": True}))
    with pytest.raises(BadInput, match="use_dora"):
        load_adapter(lm, tmp_path)
    config.write_text("{")
    with pytest.raises(BadInput, match="no adapter that can be read"):
        load_adapter(lm, tmp_path)


@pytest.mark.parametrize(
    "fields",
    [
        {"form": "ranked"},
        {"rank": 0},
        {"units": 0},
        {"alpha": 0.0},
        {"form": "units", "embeddings": True},
    ],
)
def test_layouts_that_no_part_can_have_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        Layout(**fields)


def test_layers_that_do_not_exist_are_named() -> None:
    with pytest.raises(BadInput, match=r"no layer .* is named qkv; it has .*q_proj"):
        Sealed(tiny_lm("llama"), Layout(modules=("qkv",)))
    with pytest.raises(BadInput, match="is named qkv"):
        Sealed(tiny_lm("llama"), Layout(modules=("qkv",), embeddings=True))
