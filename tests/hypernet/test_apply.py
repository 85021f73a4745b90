"""An edit acts as its formula says, and leaves a model as it found it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from tests.hypernet.made import (
    EDITS,
    FOLDED,
    FROM_ZERO,
    batch_of,
    double,
    logits,
    pairs,
    stir,
    tensors,
)
from titer.conformance import ARCHITECTURES, tiny_data, tiny_lm
from titer.core.errors import BadInput
from titer.core.lm import LM
from titer.hypernet import LowRank, Patch, SoftPrompt, Steering, applied, attacker
from titer.hypernet.apply import Counted
from titer.hypernet.edits import ActivationEdit
from titer.hypernet.export import fold
from titer.hypernet.sites import at_linears
from titer.nn.hooks import blocks
from titer.nn.trainable import trainable


def hooks(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def stirred(lm: LM, name: str, **settings: Any) -> Any:
    adversary = attacker(lm, EDITS[name], pairs(lm)["wanted"], width=8, **settings)
    stir(adversary)
    return adversary


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("name", FROM_ZERO)
def test_it_starts_as_the_identity_bit_for_bit(name: str, architecture: Any) -> None:
    lm = tiny_lm(architecture)
    batch = pairs(lm)["wanted"]
    clean = logits(lm, batch)
    for conditioning in ("universal", "sample"):
        adversary = attacker(lm, EDITS[name], batch, width=8, conditioning=conditioning)
        with adversary.attacking(lm.model, batch):
            assert torch.equal(logits(lm, batch), clean)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("name", EDITS)
def test_afterwards_everything_is_as_it_was(name: str, architecture: Any) -> None:
    lm = tiny_lm(architecture)
    batch = pairs(lm)["wanted"]
    adversary = stirred(lm, name, conditioning="sample")
    digest, count, clean = lm.digest(), hooks(lm.model), logits(lm, batch)
    with adversary.attacking(lm.model, batch):
        assert hooks(lm.model) > count
        assert not torch.allclose(logits(lm, batch), clean, atol=1e-4)
    assert (lm.digest(), hooks(lm.model)) == (digest, count)
    assert torch.equal(logits(lm, batch), clean)


@pytest.mark.parametrize("name", EDITS)
def test_an_error_inside_leaves_nothing_either(name: str, lm: LM) -> None:
    batch = pairs(lm)["wanted"]
    adversary = stirred(lm, name)
    count, clean = hooks(lm.model), logits(lm, batch)

    def broken(*_: Any) -> None:
        raise RuntimeError("in the middle of a pass")

    handle = blocks(lm.model)[2].register_forward_pre_hook(broken)
    with pytest.raises(RuntimeError, match="in the middle"), adversary.attacking(lm.model, batch):
        logits(lm, batch)
    reading = stirred(tiny_lm(), name, conditioning="batch")
    with pytest.raises(RuntimeError, match="in the middle"):
        reading.patch(lm.model, batch)
    handle.remove()
    assert hooks(lm.model) == count
    assert torch.equal(logits(lm, batch), clean)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("name", FOLDED)
def test_hooks_and_dense_weights_agree(name: str, architecture: Any) -> None:
    """Factored against W + VU, (I − αQQᵀ)W and W(I − αQQᵀ) written into the weights."""
    lm = double(architecture)
    batch = pairs(lm)["wanted"]
    adversary = stirred(lm, name)
    patch = adversary.patch(lm.model, batch)
    with applied(lm.model, adversary.edit, patch):
        hooked = logits(lm, batch)
    out = lm.clone()
    fold(out.model, adversary.edit, patch)
    mask = batch.attention_mask[..., None]
    # A tied head adds one number to all logits where the embedding was steered.
    assert_close(hooked.log_softmax(-1) * mask, logits(out, batch).log_softmax(-1) * mask)
    assert not torch.allclose(hooked, logits(lm, batch), atol=1e-4)


@pytest.mark.parametrize("side", ["read", "write"])
def test_an_ablated_direction_is_gone_from_the_weights(side: Any, lm: LM) -> None:
    adversary = stirred(lm, f"ablation-{side}")
    patch = adversary.patch(lm.model, pairs(lm)["wanted"])
    full = {
        site: {"q": own["q"], "alpha": torch.ones_like(own["alpha"])} for site, own in patch.items()
    }
    fold(lm.model, adversary.edit, full)
    for site, own in full.items():
        weight = lm.model.get_submodule(site.path).weight
        q = own["q"][0]
        left = (q @ weight if side == "write" else weight @ q.mT).detach()
        assert float(left.abs().max()) < 1e-6
        assert site.kind.endswith(("o_proj", "down_proj")) == (side == "write")


def test_the_formulas_of_steering_and_loreft(lm: LM) -> None:
    h = torch.randn(2, 5, 24, generator=torch.Generator().manual_seed(0))
    module = nn.Identity()

    def run(edit: Any, tensors: dict[str, Tensor]) -> Tensor:
        handles = edit.attach(lm.model, module, tensors)
        out = module(h)
        for handle in handles:
            handle.remove()
        return out

    v = torch.randn(2, 1, 24)
    assert_close(run(Steering(), {"v": v}), h + v)
    r = torch.linalg.qr(torch.randn(24, 3))[0].mT
    a, b = torch.randn(3, 24), torch.randn(3)
    wanted = h + (h @ a.T + b - h @ r.T) @ r
    written = {"r": r[None], "d": (a - r)[None], "b": b[None, :, None]}
    assert_close(run(ActivationEdit(rank=3), written), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_soft_prompt_is_a_prefix_of_embeddings(architecture: Any) -> None:
    lm = double(architecture)
    batch = pairs(lm)["wanted"]
    words = torch.tensor([[7, 9]])
    table = lm.model.get_input_embeddings()
    site = SoftPrompt().sites(lm.model)[0]
    with applied(lm.model, SoftPrompt(tokens=2), {site: {"p": table(words).detach()}}):
        soft = logits(lm, batch)
    ids = torch.cat([words.expand(len(batch.input_ids), -1), batch.input_ids], 1)
    mask = nn.functional.pad(batch.attention_mask, (2, 0), value=1)
    with torch.no_grad():
        hard = lm.model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, 2:]
    assert_close(soft, hard * batch.attention_mask[..., None])


@pytest.mark.parametrize("name", EDITS)
def test_patches_of_single_rows_act_as_if_each_ran_alone(name: str) -> None:
    lm = double()
    examples = tiny_data().harmful[:3]
    batch = batch_of(lm, examples)
    adversary = attacker(lm, EDITS[name], batch, width=8, conditioning="sample")
    stir(adversary)
    with adversary.attacking(lm.model, batch):
        together = logits(lm, batch)
    for row, example in enumerate(examples):
        single = batch_of(lm, [example])
        with adversary.attacking(lm.model, single):
            alone = logits(lm, single)
        assert_close(together[row, : alone.shape[1]], alone[0])


def test_it_finds_its_layers_in_a_wrapped_model(lm: LM) -> None:
    batch = pairs(lm)["wanted"]
    adversary = stirred(lm, "weights", conditioning="batch")
    with torch.no_grad(), adversary.attacking(lm.model, batch):
        bare = logits(lm, batch)
    with trainable(lm.clone(), "lora") as ready, adversary.attacking(ready.lm.model, batch):
        assert_close(logits(ready.lm, batch), bare)


def test_a_patch_for_other_rows_or_another_model_is_refused(lm: LM) -> None:
    batch = pairs(lm)["wanted"]
    adversary = stirred(lm, "weights", conditioning="sample")
    patch = adversary.patch(lm.model, batch)
    fewer = batch_of(lm, tiny_data().harmful[:3])
    with (
        pytest.raises(BadInput, match="4 patches do not fit a batch of 3 rows"),
        applied(lm.model, adversary.edit, patch),
    ):
        logits(lm, fewer)
    with (
        pytest.raises(BadInput, match="make the adversary for the model"),
        applied(tiny_lm("gpt2").model, adversary.edit, patch),
    ):
        pass
    assert hooks(lm.model) == 0


def test_layers_are_chosen_by_name(lm: LM) -> None:
    sites = LowRank(modules=("self_attn.q_proj", "down_proj")).sites(lm.model)
    assert [site.kind for site in sites] == ["self_attn.q_proj", "mlp.down_proj"] * 4
    assert [site.depth for site in sites[::2]] == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert (sites[1].reads, sites[1].writes) == (40, 24)
    with pytest.raises(BadInput, match="no linear layer named proj; its blocks hold mlp"):
        at_linears(lm.model, ["proj"])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_counted_rows_are_copies_that_are_scaled_and_added(architecture: Any) -> None:
    lm = double(architecture)
    batch = pairs(lm)["wanted"]
    edit = LowRank(rank=2)
    adversary = attacker(lm, edit, batch, width=8)
    stir(adversary)
    patch = {
        site: {name: tensor.detach() for name, tensor in own.items()}
        for site, own in adversary.patch(lm.model, batch).items()
    }
    rows = len(batch.ids)
    weights = torch.randn(rows, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    counts = torch.zeros(rows, dtype=torch.float64)

    def back(seen: Patch) -> tuple[list[Tensor], list[Tensor], Tensor]:
        lm.model.zero_grad(set_to_none=True)
        with applied(lm.model, edit, seen):
            out = lm.model(**batch.inputs(), use_cache=False).logits
        counts.copy_(weights)  # in time for the backward pass, and not before
        (out * batch.attention_mask[..., None]).square().sum().backward()
        own = [weight.grad for weight in lm.model.parameters()]
        return tensors(seen), [grad for grad in own if grad is not None], out

    counted: Patch = {
        site: Counted({name: t.clone().requires_grad_() for name, t in own.items()}, counts)
        for site, own in patch.items()
    }
    copied: Patch = {
        site: {name: t.expand(rows, -1, -1).clone().requires_grad_() for name, t in own.items()}
        for site, own in patch.items()
    }
    seen, model, out = back(counted)
    slow, slow_model, slow_out = back(copied)
    torch.testing.assert_close(out, slow_out)
    torch.testing.assert_close(model, slow_model)
    for one, other in zip(seen, slow, strict=True):
        assert one.grad is not None
        assert other.grad is not None
        torch.testing.assert_close(
            one.grad, (other.grad * weights[:, None, None]).sum(0, keepdim=True)
        )
