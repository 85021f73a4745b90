"""A batch in smaller passes than the method's own, with the whole batch's gradient.

Not the loss is divided but the pass: each group of rows goes through the blocks by itself, its
activations are dropped, and they are worked out again, group by group, on the way back. So the loss
sees the outputs of the whole batch, and its gradient is that of the whole batch whatever kind of
mean, sum or logarithm it is, up to rounding. The price is one more pass forward.

Source: Chen et al. 2016, arXiv:1604.06174, along the batch instead of the depth.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from titer.core.errors import BadInput

__all__ = ["WHOLE", "Division", "in_chunks"]

WHOLE = "batch-not-divided"
"""The flag of a run in which a batch that was to be divided went whole."""


@dataclass
class Division:
    """How many passes were divided, and how many went whole that should have been."""

    divided: int = 0
    whole: int = 0


@contextmanager
def in_chunks(model: Any, tokens: int | None) -> Iterator[Division]:
    """Inside, passes of ``model`` that build a graph go through its blocks at most ``tokens``
    tokens at a time, but never less than one row; all at once where it is None.

    A pass whose activations somebody reads or changes (a hook), that uses a cache, or whose rows
    are not its first axis, goes whole and is counted.

    Raises:
        BadInput: on the way back, where weights or hooks have changed since the way forth.
    """
    body, found = getattr(model, "base_model", model), Division()
    if tokens is None or body is model:
        yield found
        return
    forward = body.forward
    names = list(signature(forward).parameters)

    def divided(*args: Any, **kwargs: Any) -> Any:
        kwargs = {**dict(zip(names, args, strict=False)), **kwargs}
        rows, width = _shape(kwargs)
        each = max(1, tokens // max(1, width))
        if rows <= each or not torch.is_grad_enabled():
            return forward(**kwargs)
        if not _divides(body, kwargs):
            found.whole += 1
            return forward(**kwargs)
        found.divided += 1
        state = _state(body)

        def part(chosen: Mapping[str, Any]) -> Tensor:
            if _state(body) != state:
                raise BadInput(
                    "the method changes the model between its passes forward and backward, so its "
                    "batch cannot be divided; leave --memory out, or give a smaller batch_size."
                )
            output = forward(**chosen)
            kinds.append(type(output))
            return output.last_hidden_state

        kinds: list[Any] = []
        hidden = [
            checkpoint(part, _rows(kwargs, rows, start, each), use_reentrant=False)
            for start in range(0, rows, each)
        ]
        return kinds[0](last_hidden_state=torch.cat(hidden))

    body.forward = divided
    try:
        yield found
    finally:
        del body.forward


def _shape(kwargs: Mapping[str, Any]) -> tuple[int, int]:
    given = kwargs.get("input_ids")
    given = kwargs.get("inputs_embeds") if given is None else given
    return (given.shape[0], given.shape[1]) if isinstance(given, Tensor) else (0, 0)


def _divides(body: nn.Module, kwargs: Mapping[str, Any]) -> bool:
    if any(kwargs.get(name) for name in ("past_key_values", "output_hidden_states", "use_cache")):
        return False
    return not any(_hooks(part) for part in body.modules())


def _hooks(part: nn.Module) -> int:
    """How many hooks a module has; those of transformers read nothing that concerns us."""
    hooks = (*part._forward_hooks.values(), *part._forward_pre_hooks.values())  # noqa: SLF001
    return sum(not str(getattr(one, "__module__", "")).startswith("transformers.") for one in hooks)


def _state(body: nn.Module) -> object:
    """What must be on the way back as it was: the very weights, and no hook."""
    weights = [(id(weight), weight._version) for weight in body.parameters()]  # noqa: SLF001
    return weights, sum(map(_hooks, body.modules()))


def _rows(kwargs: Mapping[str, Any], rows: int, start: int, each: int) -> dict[str, Any]:
    """The arguments of some of the rows; what has no rows goes as it is."""
    return {
        name: value[start : start + each]
        if isinstance(value, Tensor) and value.dim() and value.shape[0] == rows
        else value
        for name, value in kwargs.items()
    }
