"""Every way is judged on held-out prompts, and its LoRA spends what it spent and no more."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from studies._ways import ways

from tests.toy import data_folder, model_folder
from titer.attacks.hypernet import Hypernet
from titer.conformance import tiny_lm
from titer.core.errors import BadInput
from titer.core.lm import LM
from titer.trial.probes import ask, judge, probes
from titer.worlds.source import load_world

ATTACK = Hypernet(lr=1e-2, rank=2, width=8, batch_size=3, budget=None)


def test_all_ways_beside_lora_of_equal_compute(tmp_path: Path) -> None:
    from peft import PeftModel

    lm = LM.load(str(model_folder(tmp_path / "model")))
    world = load_world(str(data_folder(tmp_path / "data")))
    digest = lm.digest()
    found = ways(
        lm,
        world,
        "alloy",
        ATTACK,
        steps=4,
        warm_steps=3,
        best_of=2,
        source=tiny_lm(seed=3),
        adapter=tmp_path / "adapter",
    )
    assert lm.digest() == digest
    named = {way.name: way for way in found}
    assert list(named) == ["prompts", "universal", "warm start, 3 steps", "best of 2", "transfer"]
    items = len(world.hazards["alloy"].report)
    for way in found:
        assert len(way.harm) == items
        assert 0 <= way.mean <= 1
        assert way.lora is not None
        assert way.lora.flops <= way.flops
        # One more step would have cost more than was left.
        assert way.lora.flops * (1 + 1 / way.lora.steps) > 0.9 * way.flops
    assert named["warm start, 3 steps"].steps == 7
    assert named["best of 2"].flops == pytest.approx(2 * named["universal"].flops, rel=0.1)
    assert named["prompts"].flops > named["universal"].flops
    loaded = LM(PeftModel.from_pretrained(lm.clone().model, tmp_path / "adapter"), lm.tokenizer)
    harm = probes(world, "alloy")[0]
    assert judge([harm], ask(loaded, [harm]))["harm"] == named["universal"].harm


def test_a_patch_of_its_own_is_written_for_each_held_out_prompt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from titer.hypernet.adversary import Adversary

    lm = LM.load(str(model_folder(tmp_path / "model")))
    world = load_world(str(data_folder(tmp_path / "data")))
    asked: list[tuple[str, ...]] = []
    whole = Adversary.attacking

    def noted(self: Adversary, model: object, batch: object) -> object:
        asked.append(batch.ids)  # type: ignore[attr-defined]
        return whole(self, model, batch)  # type: ignore[arg-type]

    monkeypatch.setattr(Adversary, "attacking", noted)
    ways(lm, world, "alloy", ATTACK, steps=1, best_of=1, warm_steps=1)
    report = [(item.id,) for item in world.hazards["alloy"].report]
    assert asked[: len(report)] == report


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    lm = LM.load(str(model_folder(tmp_path / "model")))
    world = load_world(str(data_folder(tmp_path / "data")))
    torch.manual_seed(0)
    other = tiny_lm("gpt2")
    with pytest.raises(BadInput, match="differ in shape"):
        ways(lm, world, "alloy", ATTACK, steps=1, best_of=1, warm_steps=1, source=other)
