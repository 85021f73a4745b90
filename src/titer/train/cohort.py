"""Many fine-tunes of one model at once: K members on one base, in one forward and one backward.

A single fine-tune is a cohort of one. K members, R rows a member, C tokens a row, S supervised
tokens a member, D width, V vocabulary.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from titer.core.config import text_config, vocab_size
from titer.core.lm import LM
from titer.nn.chance import seeded
from titer.nn.head import splits
from titer.nn.locked import is_locked
from titer.nn.stack import CannotStack, Stack, stacked
from titer.nn.trainable import cost, trainable
from titer.nn.weights import Parameters, Weights
from titer.train.batches import Drawn, pack
from titer.train.loop import Member, drive, fit
from titer.train.objectives import answer_losses

__all__ = ["Finetuning", "alone", "together"]

Ended = Callable[[int, LM | Exception], None]
"""Told which member ended, and its model or what went wrong."""


@dataclass(frozen=True, kw_only=True)
class Finetuning:
    """One fine-tune on answers, as a value that can be run alone or beside others.

    The recipe's ``flops_per_token`` is filled in. ``weights`` of a cohort must be of one kind.
    """

    weights: Weights
    member: Member[Drawn]


class _Cohort:
    """A stack of members as the loop's vehicle."""

    def __init__(self, stack: Stack) -> None:
        self.stack, self.lm = stack, stack.lm

    def weights(self, member: int) -> list[nn.Parameter]:
        return [self.stack.row(member)]

    def zero(self) -> None:
        self.stack.gradients().zero_()

    def backward(self, batches: dict[int, Drawn]) -> dict[int, float]:
        here = self.stack.members
        batch = pack(self.lm, [batches[member] for member in here])
        losses = answer_losses(self.lm.model, batch, len(here))
        losses.sum().backward()  # members share no weight that trains, so gradients do not mix
        return dict(zip(here, losses.detach().tolist(), strict=True))

    def scale(self, factor: float) -> None:
        self.stack.gradients().mul_(factor)

    def clip(self, limits: dict[int, float]) -> dict[int, float]:
        gradients, here = self.stack.gradients(), self.stack.members
        norms = torch.linalg.vector_norm(gradients, dim=1)
        bounds = torch.tensor([limits[member] for member in here]).to(norms)
        gradients.mul_((bounds / (norms + 1e-6)).clamp(max=1.0)[:, None])
        return dict(zip(here, norms.tolist(), strict=True))

    def order(self) -> list[int]:
        return list(self.stack.members)

    def alone(self, member: int) -> AbstractContextManager[LM]:
        return self.stack.alone(member)

    def drop(self, member: int) -> None:
        self.stack.drop(member)


def alone(lm: LM, one: Finetuning) -> LM:
    """Run one fine-tune; returns a new model, ``lm`` is untouched.

    Raises:
        Diverged: the loss, the gradient or the final weights are not finite.
    """
    found: list[LM | Exception] = []
    together(lm, [one], lambda _, result: found.append(result))
    if isinstance(found[0], Exception):
        raise found[0]
    return found[0]


def together(lm: LM, members: Sequence[Finetuning], ended: Ended) -> None:
    """Run several fine-tunes of ``lm``, in one stack where the model allows it and one after the
    other where not; ``lm`` is untouched.

    ``ended`` is told of each as it ends, early leavers first, with a model of its own.
    Results differ from those of a member that trains alone by rounding only.
    """
    if members[0].weights.which != "lora" and (len(members) == 1 or not _stacks(lm, members)):
        for number, one in enumerate(members):
            ended(number, _copy(lm, one))
    elif len(members) > 1 and not _stacks(lm, members):
        for number, one in enumerate(members):
            together(lm, [one], lambda _, result, number=number: ended(number, result))
    else:
        _stack(lm, members, ended)


def _stack(lm: LM, members: Sequence[Finetuning], ended: Ended) -> None:
    splits(lm.model)  # asked now, while the model takes a single row
    with stacked(lm, [one.weights for one in members]) as stack:
        for number, one in enumerate(members):
            _bill(lm, one, stack.parameters(number))

        def left(number: int, error: Exception | None) -> None:
            ended(number, stack.export(number) if error is None else error)

        with warnings.catch_warnings():
            # Gradients gather in strided views of one buffer, and that costs nothing measurable.
            warnings.filterwarnings("ignore", message="grad and param do not obey")
            drive(_Cohort(stack), [one.member for one in members], left)


def _copy(lm: LM, one: Finetuning) -> LM | Exception:
    """Train a whole copy of the model by itself: no layer need be replaced."""
    out, knobs, member = lm.clone(), one.weights, one.member
    _bill(out, one, 0)

    def grad(_model: Any, drawn: Drawn) -> dict[str, float]:
        loss = answer_losses(out.model, pack(out, [drawn]))[0]
        loss.backward()
        return {"loss": float(loss.detach())}

    try:
        with trainable(out, knobs.which, modules=knobs.modules) as ready:
            fit(
                out,
                grad,
                member.batches,
                member.run,
                parameters=ready.weights,
                recipe=member.recipe,
                steps=member.steps,
            )
    except Exception as error:
        return error
    return out


def _bill(lm: LM, one: Finetuning, adapter: int) -> None:
    one.member.recipe = one.member.recipe.priced(cost(lm, one.weights, adapter))


def _stacks(lm: LM, members: Sequence[Finetuning]) -> bool:
    """Whether these members can share a pass: alike, no dropout, and layers that stack."""
    if len({(one.weights.which, one.weights.modules) for one in members}) > 1:
        return False
    if is_locked(lm.model):  # stacked layers would compute what these do, and hand gradients back
        return False
    # Members would draw their dropout from one generator, and alone they do not.
    if any(getattr(text_config(lm.model.config), name, 0) for name in _ATTENTION_DROPOUT):
        return False
    if any(isinstance(module, nn.Dropout) and module.p > 0 for module in lm.model.modules()):
        return False
    knobs = members[0].weights
    kind = (type(lm.model), lm.model.config.to_json_string(), lm.model.dtype, knobs.which)
    key = (*kind, knobs.modules)
    if key not in _KNOWN:
        _KNOWN[key] = _faithful(lm, knobs.which, knobs.modules)
    return _KNOWN[key]


_ATTENTION_DROPOUT = ("attention_dropout", "attn_pdrop", "attn_dropout", "attention_probs_dropout")
"""Attention drops out by a function, so no module shows it."""

_KNOWN: dict[tuple[object, ...], bool] = {}
"""Which kinds of model stack: class, config, precision, and what trains."""


def _faithful(lm: LM, which: Parameters, modules: tuple[str, ...]) -> bool:
    """Try two members that differ on a few tokens: each must say what it says alone, exported."""
    pair = [Weights(which=which, rank=2, seed=seed, modules=modules) for seed in (1, 2)]
    device = lm.device
    close = 1e-3 if lm.model.dtype in (torch.float32, torch.float64) else 0.1
    try:
        with seeded(0, device), stacked(lm, pair) as stack, torch.no_grad():
            stack.theta += 0.02 * torch.randn_like(stack.theta)
            ids = torch.randint(vocab_size(lm.model.config), (4, 6), device=device)
            inputs = {"input_ids": ids, "position_ids": torch.arange(6, device=device).expand(4, 6)}
            both = lm.model(**inputs, use_cache=False).logits
            for member in (0, 1):
                mine = slice(2 * member, 2 * member + 2)
                rows = {name: value[mine] for name, value in inputs.items()}
                one = stack.export(member).model(**rows, use_cache=False).logits
                if not torch.allclose(one, both[mine], rtol=close, atol=close * one.abs().max()):
                    return False
    except (CannotStack, RuntimeError, TypeError, ValueError):
        return False
    return True
