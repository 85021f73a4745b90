"""Diagnoses on real weights: what is planted in a model shows in the numbers."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import pytest
import torch

from tests import toy
from titer.attacks.reparametrise import Reparametrise
from titer.checks import s06_gradient, s18_barrier
from titer.conformance import tiny_data
from titer.core.diagnoses import Diagnosis, diagnosis_part
from titer.core.lm import LM
from titer.core.method import Run
from titer.core.records import Budget, Trace, Trial
from titer.nn.edits import linears
from titer.nn.hooks import blocks
from titer.train.batches import Batch, Drawn, encode_all, pack
from titer.trial.diagnose import diagnose, gradient_health, transferred
from titer.worlds import organisms
from titer.worlds.source import load_world


@pytest.fixture
def lm(tmp_path: Path) -> LM:
    return LM.load(str(toy.model_folder(tmp_path / "model")))


@pytest.fixture
def data(tmp_path: Path) -> str:
    return str(toy.data_folder(tmp_path / "data"))


def run(which: Diagnosis, lm: LM, base: LM, data: str, steps: int = 8) -> Trace:
    world = load_world(data)
    trial = Trial(
        model="m",
        world="w",
        domain=next(iter(world.hazards)),
        attack=diagnosis_part(which, "d", {"lr": 3e-3} if which == "paths" else None),
        budget=Budget(steps=steps),
        seed=0,
        suite="s",
        items=24,
        purpose="check",
    )
    return diagnose(lm, base, trial, world)[0]


def batch(lm: LM, data: str) -> Batch:
    rows = encode_all(lm, load_world(data).attacker("alloy").harmful)
    return pack(lm, [Drawn(tuple(rows))])


def test_a_healthy_model(lm: LM, data: str) -> None:
    before = lm.digest()
    found = gradient_health(lm, batch(lm, data))
    assert found["slope"] == pytest.approx(1, abs=0.1)
    assert found["turn"] > 0.9
    assert found["dead"] == 0
    assert lm.digest() == before


def test_the_gain_is_the_gradient_over_that_of_the_logits(lm: LM, data: str) -> None:
    """Against autograd on a batch of one example, whose logits the loss is a mean over."""
    one = encode_all(lm, load_world(data).attacker("alloy").harmful)[:1]
    few = pack(lm, [Drawn(tuple(one))])
    logits = lm.model(**few.inputs()).logits
    logits.retain_grad()
    wanted = few.labels[:, 1:].reshape(-1)
    loss = torch.nn.functional.cross_entropy(
        logits[:, :-1].reshape(-1, logits.shape[-1]), wanted, ignore_index=-100
    )
    loss.backward()
    weights = [w for w in lm.model.parameters() if w.grad is not None]
    norms = [w.grad.norm() * w.detach().norm() for w in weights if w.grad is not None]
    assert logits.grad is not None
    expected = float(torch.stack(norms).norm() / logits.grad.norm())
    lm.model.zero_grad()
    assert gradient_health(lm, few)["gain"] == pytest.approx(expected, rel=1e-4)


def test_a_saturated_head_masks_the_gradient(lm: LM, data: str) -> None:
    """Logits times a thousand: wrong answers at certainty, and a gradient out of all scale."""
    sharp = lm.clone()
    with torch.no_grad():
        head: Any = sharp.model.get_output_embeddings()
        head.weight.mul_(1000)
    ratio = gradient_health(sharp, batch(lm, data))["gain"]
    assert ratio / gradient_health(lm, batch(lm, data))["gain"] > 100


def test_the_same_function_in_weights_of_another_scale_is_as_healthy(lm: LM, data: str) -> None:
    """A tiny norm before large matrices, and every matrix a seventh of what it was."""
    masked = lm.clone()
    block: Any = blocks(masked.model)[0]
    with torch.no_grad():
        block.input_layernorm.weight.mul_(1e-4)
        for name in ("q_proj", "k_proj", "v_proj"):
            getattr(block.self_attn, name).weight.mul_(1e4)
        block.post_attention_layernorm.weight.mul_(1e-4)
        for name in ("gate_proj", "up_proj"):
            getattr(block.mlp, name).weight.mul_(1e4)
    few = batch(lm, data)
    mine, base = gradient_health(masked, few), gradient_health(lm, few)
    assert mine["loss"] == pytest.approx(base["loss"], rel=1e-2)
    for name in ("0.self_attn.q_proj.weight", "0.input_layernorm.weight", "1.mlp.up_proj.weight"):
        assert mine[f"gain:{name}"] == pytest.approx(base[f"gain:{name}"], rel=0.05)
    for name in ("gain", "slope", "turn"):
        assert mine[name] == pytest.approx(base[name], rel=0.05), name


@pytest.mark.parametrize("seed", [0, 1])
def test_another_writing_of_the_same_function_changes_no_finding(
    lm: LM, data: str, seed: int
) -> None:
    """The group of W07: rotated, shuffled and rescaled."""
    same = Reparametrise().rewritten(lm, Run(budget=Budget(), data=tiny_data(), seed=seed))
    few = batch(lm, data)
    mine, base = gradient_health(same, few), gradient_health(lm, few)
    assert mine["loss"] == pytest.approx(base["loss"], rel=1e-3)
    low, high = s06_gradient.SCALE
    assert 10 * low < mine["gain"] / base["gain"] < high / 10
    kept = [name for name in base if name.startswith("gain:") and base[name] and name in mine]
    assert len(kept) > 10
    assert all(mine[name] / base[name] > 2 * low for name in kept)
    assert mine["dead"] == base["dead"]
    assert s06_gradient.BAND[0] < mine["slope"] < s06_gradient.BAND[1]


def test_a_gradient_cut_off_is_dead(lm: LM, data: str) -> None:
    class Cut(torch.nn.Module):
        def forward(self, hidden: torch.Tensor) -> torch.Tensor:
            return hidden.detach()

    cut = lm.clone()
    inner: Any = cut.model
    inner.model.norm = torch.nn.Sequential(inner.model.norm, Cut())
    found = gradient_health(cut, batch(lm, data))
    assert found["dead"] > 0.5
    broken = lm.clone()
    with torch.no_grad():
        first: Any = blocks(broken.model)[0]
        first.mlp.down_proj.weight[0, 0] = math.nan
    ill = gradient_health(broken, batch(lm, data))
    assert ill["dead"] > 0
    assert not 0.1 <= ill["slope"] <= 10


def test_weights(lm: LM, data: str) -> None:
    base = lm.clone()
    for linear in linears(lm.model):
        if linear.name == "up_proj":
            linear.weight_OI.add_(0.01)
    trace = run("weights", lm, base, data, 0)
    assert trace.status == "ok", trace.error
    logs = [point.logs for point in trace.points]
    assert logs[0]["rank"] == pytest.approx(1, abs=1e-3)
    assert logs[0]["moved"] > 0
    assert [dict(one) for one in logs[1:]] == [
        {"scale": 0.1},
        {"scale": 10.0},
        {"reloaded": 1.0},
        {"bf16": 1.0},
    ]
    assert trace.points[3].scores["harm"] == trace.points[0].scores["harm"]
    assert run("weights", lm, base, data, 0).points == trace.points


def test_paths_charge_both_fine_tunes_and_say_where_the_loss_falls(lm: LM, data: str) -> None:
    before = lm.digest()
    trace = run("paths", lm, lm.clone(), data)
    assert trace.status == "ok", trace.error
    assert lm.digest() == before
    assert trace.points[0].spent.steps == 0
    assert trace.points[1].spent.steps == 4
    assert trace.points[-1].spent.steps == 8
    assert [p.logs["transfer"] for p in trace.points[2:]] == [0.5, 1.0, 2.0]
    line = trace.points[1].logs
    assert line["line:1"] < line["line:0"]
    # From the same start the transferred update at size one is the attack itself.
    assert trace.points[3].scores == trace.points[1].scores


def test_a_transfer_adds_the_update(lm: LM) -> None:
    end = lm.clone()
    with torch.no_grad():
        for weight in end.model.parameters():
            weight.add_(1.0)
    moved = transferred(lm, lm, end, 0.5)
    for old, new in zip(lm.model.parameters(), moved.model.parameters(), strict=True):
        torch.testing.assert_close(new, old + 0.5)


def test_a_diagnosis_that_raises_is_a_record(lm: LM, data: str) -> None:
    other = lm.clone()
    inner: Any = other.model
    inner.lm_head = torch.nn.Linear(3, 3)
    trace = run("paths", other, lm, data)
    assert trace.status == "failed"
    assert "Traceback" in trace.error


def case(mine: Trace, base: Trace) -> Any:
    """As much of a case as the checks on gradients and barriers look at."""
    return SimpleNamespace(
        mine=SimpleNamespace(weights=mine, paths=mine),
        base=SimpleNamespace(weights=base, paths=base),
    )


def test_a_masked_gradient_in_the_weights_is_suspect(lm: LM, data: str) -> None:
    """From the planted weights to the flag: a head that saturates, and keys that nothing asks."""
    base = run("weights", lm, lm, data, 0)
    assert s06_gradient.read(case(base, base))[0] == "valid"
    sharp, hidden = lm.clone(), lm.clone()
    head: Any = sharp.model.get_output_embeddings()
    block: Any = blocks(hidden.model)[0]
    with torch.no_grad():
        head.weight.mul_(1000)
        block.self_attn.q_proj.weight.zero_()
    for planted in (sharp, hidden):
        flag, _, reason = s06_gradient.read(case(run("weights", planted, lm, data, 0), base))
        assert flag == "suspect", reason


def test_the_undefended_nano_raises_none() -> None:
    folder = organisms.cached("base", "nano", 0)
    if folder is None:
        pytest.skip("grow fabula:base first; growing it takes minutes")
    lm = LM.load(folder)
    weights, paths, splits = (run(which, lm, lm, "fabula", 20) for which in get_args(Diagnosis))
    assert {point.mean(probe) for point in splits.points for probe in point.scores} == {1.0}
    assert (weights.status, paths.status) == ("ok", "ok")
    assert s06_gradient.read(case(weights, weights))[0] == "valid"
    assert s18_barrier.read(case(paths, paths))[0] == "valid"
    harm = {point.mean("harm") for point in weights.points}
    assert harm == {1.0}, "neither scale nor saving nor rounding changes what it knows"
