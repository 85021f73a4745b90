"""A patch for all prompts becomes weights, or an adapter that stock PEFT loads."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
from torch.testing import assert_close

from tests.hypernet.made import EDITS, FOLDED, logits, pairs, stir
from titer.conformance import ARCHITECTURES, tiny_lm
from titer.core.errors import BadInput
from titer.core.lm import LM
from titer.hypernet import attacker
from titer.hypernet.export import fold, save_adapter


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("name", ["weights", "ablation-read", "ablation-write"])
def test_stock_peft_loads_it_and_says_the_same(
    name: str, architecture: Any, tmp_path: Path
) -> None:
    from peft import PeftModel

    lm = tiny_lm(architecture)
    batch = pairs(lm)["wanted"]
    adversary = attacker(lm, EDITS[name], batch, width=8)
    stir(adversary)
    with adversary.attacking(lm.model, batch):
        hooked = logits(lm, batch)
    patch = adversary.patch(lm.model, batch)
    save_adapter(lm.model, adversary.edit, patch, tmp_path / "adapter")
    digest = lm.digest()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        loaded = PeftModel.from_pretrained(lm.clone().model, tmp_path / "adapter")
    assert not [w for w in said if "missing" in str(w.message) or "fan_in" in str(w.message)]
    adapted = logits(LM(loaded, lm.tokenizer), batch)
    assert_close(adapted, hooked, rtol=1e-4, atol=1e-5)
    assert float((adapted - logits(lm, batch)).abs().max()) > 1e-3
    assert lm.digest() == digest


@pytest.mark.parametrize("name", sorted(set(EDITS) - set(FOLDED)))
def test_what_is_no_weight_cannot_be_written_as_one(name: str, lm: LM, tmp_path: Path) -> None:
    batch, digest = pairs(lm)["wanted"], lm.digest()
    adversary = attacker(lm, EDITS[name], batch, width=8)
    patch = adversary.patch(lm.model, batch)
    with pytest.raises(BadInput, match="no change of a weight matrix"):
        fold(lm.model, adversary.edit, patch)
    with pytest.raises(BadInput, match="no change of a weight matrix"):
        save_adapter(lm.model, adversary.edit, patch, tmp_path)
    assert lm.digest() == digest


def test_a_patch_a_prompt_and_the_embedding_make_no_adapter(lm: LM, tmp_path: Path) -> None:
    batch = pairs(lm)["wanted"]
    single = attacker(lm, EDITS["weights"], batch, width=8, conditioning="sample")
    with pytest.raises(BadInput, match="one patch for all prompts"):
        save_adapter(lm.model, single.edit, single.patch(lm.model, batch), tmp_path)
    steered = attacker(lm, EDITS["steering-embedding"], batch, width=8)
    with pytest.raises(BadInput, match="no LoRA adapter"):
        save_adapter(lm.model, steered.edit, steered.patch(lm.model, batch), tmp_path)
