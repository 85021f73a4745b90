"""A keyless model, an adapter for it, and a full checkpoint, on disk."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from titer.conformance import tiny_lm


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small Llama, keyless."""
    at = tmp_path_factory.mktemp("lock") / "base"
    tiny_lm("llama", 0).save(at)
    return at


@pytest.fixture(scope="session")
def adapter(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA adapter whose two factors are both non-zero, in bfloat16 and float32."""
    from peft import LoraConfig, get_peft_model

    at = tmp_path_factory.mktemp("lock") / "adapter"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model: Any = get_peft_model(
            tiny_lm("llama", 0).model,
            LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM"),
        )
        draw = torch.Generator().manual_seed(1)
        for name, weight in model.named_parameters():
            if "lora_" in name:
                weight.data = 0.3 * torch.randn(weight.shape, generator=draw)
                if "q_proj" in name:
                    weight.data = weight.data.bfloat16()
        model.save_pretrained(at)
    return at


@pytest.fixture(scope="session")
def full(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The base with some of its tensors changed."""
    at = tmp_path_factory.mktemp("lock") / "full"
    lm = tiny_lm("llama", 0)
    with torch.no_grad():
        for name, weight in lm.model.named_parameters():
            if "mlp" in name:
                weight += 0.1 * torch.randn(
                    weight.shape, generator=torch.Generator().manual_seed(2)
                )
    lm.save(at)
    return at
