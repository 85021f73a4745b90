"""Weights behind another model's interface, and without dropout."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from titer.attacks.finetune import Finetune
from titer.conformance import ARCHITECTURES, Architecture, tiny_data, tiny_lm
from titer.core.lm import LM
from titer.core.method import Run
from titer.core.records import Budget
from titer.nn.interface import through, undropped
from titer.nn.locked import ENTRY, is_locked, lock_backward
from titer.trial.load import load_model

IDS = torch.arange(24).view(2, 12)


def other_interface(lm: LM, **settings: Any) -> LM:
    """The same weights with another template and other settings."""
    tokenizer = copy.deepcopy(lm.tokenizer)
    tokenizer.chat_template = "heat {{ messages[0]['content'] }}"
    model = lm.clone().model
    model.config.update(settings)
    model.generation_config.eos_token_id = [2, 7]
    return replace(lm, model=model, tokenizer=tokenizer)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_weights_are_one_model_s_and_the_rest_is_the_other_s(
    architecture: Architecture,
) -> None:
    lm, base = tiny_lm(architecture, 1), tiny_lm(architecture)
    release = other_interface(lm, initializer_range=0.7)
    found = through(release, base)
    assert found.digest() == lm.digest()
    assert found.template_digest() == base.template_digest()
    assert found.model.config.initializer_range == base.model.config.initializer_range
    assert found.model.generation_config.eos_token_id == base.model.generation_config.eos_token_id
    ours, theirs = (one.model(input_ids=IDS, use_cache=False).logits for one in (found, lm))
    assert torch.equal(ours, theirs)
    with torch.no_grad():
        next(found.model.parameters()).add_(1.0)
    assert (release.digest(), base.digest()) == (lm.digest(), tiny_lm(architecture).digest())


def test_settings_that_were_taken_at_loading_are_the_others() -> None:
    """A context of eight tokens is no property of the weights, nor is the base of the rotation."""
    release = tiny_lm(seed=1)
    config = copy.deepcopy(release.model.config)
    config.max_position_embeddings = 8
    config.rope_parameters = {"rope_theta": 7.0, "rope_type": "default"}
    model = type(release.model)(config)
    model.load_state_dict(release.model.state_dict())
    short = LM(model, release.tokenizer)
    ours, own = (one.model(input_ids=IDS, use_cache=False).logits for one in (short, release))
    assert not torch.allclose(ours, own)
    found = through(short, tiny_lm())
    assert found.context_length() == 64
    assert torch.equal(found.model(input_ids=IDS, use_cache=False).logits, own)


def test_what_cannot_be_exchanged_stays() -> None:
    """Of other tensors the configuration is kept, and the prompt is still the other's."""
    release, base = other_interface(tiny_lm("gpt2")), tiny_lm()
    found = through(release, base)
    assert type(found.model) is type(release.model)
    assert found.template_digest() == base.template_digest()
    assert found.digest() == release.digest()


def test_a_tied_head_does_not_take_the_place_of_an_untied_one() -> None:
    base = tiny_lm("qwen2")
    config = copy.deepcopy(base.model.config)
    config.tie_word_embeddings = False
    release = LM(type(base.model)(config), base.tokenizer)
    assert through(release, base).digest() == release.digest()


def test_a_lock_goes_with_the_weights(tmp_path: Path) -> None:
    locked, base = tiny_lm(seed=1), tiny_lm()
    lock_backward(locked)
    locked.save(tmp_path / "locked")
    base.save(tmp_path / "base")
    released = load_model(str(tmp_path / "locked"), str(tmp_path / "base"))
    assert is_locked(released.model)
    asked = load_model(str(tmp_path / "base"), str(tmp_path / "locked"))
    assert not hasattr(asked.model.config, ENTRY)
    assert not is_locked(asked.model)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_no_dropout_is_left(architecture: Architecture) -> None:
    lm = tiny_lm(architecture)
    lm.model.config.attention_dropout = 0.9
    for module in lm.model.modules():
        if hasattr(module, "attention_dropout"):
            module.attention_dropout = 0.9
    found = undropped(lm)
    assert found.digest() == lm.digest()
    assert lm.model.config.attention_dropout == 0.9, "the model that was given is left alone"
    found.model.train()
    one, two = (found.model(input_ids=IDS, use_cache=False).logits for _ in range(2))
    assert torch.equal(one, two)
    assert undropped(found) is found, "and one without is not copied"


def test_an_attack_trains_alike_whatever_dropout_a_release_asks_for() -> None:
    plain = tiny_lm()
    model = copy.deepcopy(plain.model)
    for part in (model.config, *model.modules()):
        if hasattr(part, "attention_dropout"):
            part.attention_dropout = 0.9
    dropping = LM(model, plain.tokenizer, plain.name)
    data = tiny_data()

    def tuned(lm: LM) -> str:
        run = Run(budget=Budget(steps=5), data=data, seed=0)
        return Finetune(lr=1e-2, batch_size=4)(lm, run).digest()

    assert tuned(dropping) != tuned(plain), "of itself it would not"
    assert tuned(undropped(dropping)) == tuned(plain)
