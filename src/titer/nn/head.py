"""Logits only where they are needed. B rows, T tokens, D width, V vocabulary."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from titer.core.errors import BadInput
from titer.nn.hooks import blocks, residual_stream

__all__ = ["final_norm", "hidden_states", "splits"]


def splits(model: Any) -> bool:
    """Whether the model's logits are its head applied to its last hidden states and nothing else.

    Some models scale, cap or cast what the head gives or is given, or have no head of their own. A
    few tokens tell. The answer is a model's for good: it hangs on what is done around the head, not
    on how large the weights make the logits.
    """
    if model not in _KNOWN:
        _KNOWN[model] = _splits(model)
    return _KNOWN[model]


_KNOWN: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()


@torch.no_grad()
def _splits(model: Any) -> bool:
    head, body = model.get_output_embeddings(), getattr(model, "base_model", model)
    if head is None or body is model:
        return False
    given: list[Tensor] = []
    put: list[Tensor] = []

    def replaced(_head: nn.Module, inputs: tuple[Tensor, ...], out: Tensor) -> Tensor:
        # In place of the logits come others, some far larger, so that a cap shows on any weights.
        given.append(inputs[0])
        steps = torch.linspace(-1e3, 1e3, out.numel(), device=out.device)
        put.append(steps.to(out.dtype).view_as(out))
        return put[-1]

    training = model.training
    model.eval()
    hook = head.register_forward_hook(replaced)
    try:
        ids = torch.arange(4, device=next(model.parameters()).device)[None]
        hidden = getattr(body(input_ids=ids, use_cache=False), "last_hidden_state", None)
        whole = model(input_ids=ids, use_cache=False).logits
    finally:
        hook.remove()
        model.train(training)
    if hidden is None or len(given) != 1:  # a wrapper, or a head that is not called as a module
        return False
    return _same(given[0], hidden) and whole.dtype == put[0].dtype and torch.equal(whole, put[0])


def _same(first: Tensor, second: Tensor) -> bool:
    """Whether both are one tensor but for rounding; what is all zero tells nothing."""
    if first.shape != second.shape or first.dtype != second.dtype:
        return False
    size = float(second.abs().max())
    return size > 0 and torch.allclose(first, second, rtol=1e-3, atol=1e-4 * size)


def hidden_states(model: Any, inputs: dict[str, Tensor]) -> Tensor:
    """What the head would be given, (B, T, D)."""
    return model.base_model(**inputs, use_cache=False).last_hidden_state


@torch.no_grad()
def final_norm(model: Any) -> nn.Module:
    """The norm between the last block and the head, known by what it does and not by its name.

    Raises:
        BadInput: no module beside the blocks turns what leaves the last of them into what the head
            is given, or logits are more than the head's.
    """
    training = model.training
    model.eval()
    try:
        found = _between(model) if splits(model) else None
    finally:
        model.train(training)
    if found is not None:
        return found
    raise BadInput(
        f"{type(model).__name__} has no single norm between its blocks and its head; "
        "a logit lens needs one."
    )


def _between(model: nn.Module) -> nn.Module | None:
    """The module beside the blocks that gives what the head is given, tried on a few tokens."""
    ids = torch.arange(4, device=next(model.parameters()).device)[None]
    with residual_stream(model) as stream:
        given = hidden_states(model, {"input_ids": ids})
    last = blocks(model)
    homes = [home for home in model.modules() if last in home.children()]
    for module in (module for home in homes for module in home.children()):
        if isinstance(module, nn.Embedding | nn.ModuleList):
            continue
        try:
            found = module(stream[-1])
        except Exception:  # a module of another kind takes other things
            continue
        if isinstance(found, Tensor) and torch.equal(found, given):
            return module
    return None
