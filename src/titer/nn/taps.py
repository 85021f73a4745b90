"""What attention, the MLP or a block hands on: read, pushed, and what its matrices were given.

B rows, T tokens, D width, N tokens of a batch, I input, O output.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Literal

from torch import Tensor, nn

from titer.core.errors import BadInput
from titer.nn.edits import Linear, writers
from titer.nn.hooks import Enough, blocks
from titer.nn.stacked import AdaptedBlock

__all__ = ["Site", "factors", "outputs", "pushed", "sites", "stream_to", "tapped"]

Site = Literal["block", "attention", "mlp"]


def sites(model: nn.Module, site: Site) -> list[str]:
    """Where the output is that is meant, as a name in each block: the block's own, or that of its
    child which holds the first (``attention``) or the last (``mlp``) matrix that writes to the
    residual stream. Ask the model without adapters.

    Raises:
        BadInput: some block has no output of a known name.
    """
    if site == "block":
        return [""] * len(blocks(model))
    wanted: dict[int, Linear] = {}
    for writer in writers(model):
        if site == "mlp" or writer.layer not in wanted:
            wanted[writer.layer] = writer
    return [wanted[layer].path.split(".")[1] for layer in sorted(wanted)]


def tapped(model: nn.Module, names: Sequence[str]) -> list[nn.Module]:
    """The modules at these names, one a block, adapters or not."""
    return [
        (block.inner if name and isinstance(block, AdaptedBlock) else block).get_submodule(name)
        for block, name in zip(blocks(model), names, strict=True)
    ]


def _first(output: Any) -> Tensor:
    return output[0] if isinstance(output, tuple) else output


@contextmanager
def outputs(modules: Sequence[nn.Module]) -> Iterator[list[Tensor]]:
    """Inside, the outputs (B, T, D) of the last forward pass, in its order."""
    seen: list[Tensor] = []

    def keep(module: nn.Module, _inputs: Any, output: Any) -> None:
        if module is modules[0]:
            seen.clear()
        seen.append(_first(output))

    handles = [module.register_forward_hook(keep) for module in modules]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def pushed(modules: Sequence[nn.Module], by: Sequence[Tensor]) -> Iterator[None]:
    """Inside, each module's output is what it is plus its push (B, T, D); tokens beyond those of a
    push are left as they are, and of a longer push only the first count."""

    def add(push: Tensor) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> Any:
            state = _first(output)
            more = state.shape[1] - push.shape[1]
            moved = state + nn.functional.pad(push, (0, 0, 0, more)).to(state)
            return (moved, *output[1:]) if isinstance(output, tuple) else moved

        return hook

    handles = [
        module.register_forward_hook(add(push)) for module, push in zip(modules, by, strict=True)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def stream_to(model: Any, inputs: dict[str, Tensor], last: int) -> list[Tensor]:
    """The residual stream (B, T, D) after blocks 0 to ``last``; later ones are not computed."""
    chosen = list(blocks(model))[: last + 1]

    def enough(_module: nn.Module, _inputs: Any, _output: Any) -> None:
        raise Enough

    with outputs(chosen) as seen:
        handle = chosen[-1].register_forward_hook(enough)
        try:
            with suppress(Enough):
                model(**inputs, use_cache=False)
        finally:
            handle.remove()
        return list(seen)


@contextmanager
def factors(maps: Sequence[Linear]) -> Iterator[dict[str, tuple[Tensor, Tensor]]]:
    """Inside, of each map by its path, what the last forward and backward pass gave and took: its
    inputs (B, T, I) and the gradient by its outputs (B, T, O). The gradient of its matrix is
    ``Σ g aᵀ`` over the tokens.

    Raises:
        BadInput: a map is no layer of its own, as experts are not.
    """
    for linear in maps:
        if linear.expert is not None or linear.module.weight is not linear.weight:
            raise BadInput(
                f"{linear.path} is no layer of its own, so that what it is given cannot be seen "
                "token by token; name other matrices."
            )
    seen: dict[str, tuple[Tensor, Tensor]] = {}

    def watch(linear: Linear) -> Any:
        def forward(_module: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> None:
            inputs = given[0].detach()
            if output.requires_grad:
                output.register_hook(
                    lambda grad: seen.__setitem__(linear.path, (inputs, grad.detach()))
                )

        return forward

    handles = [linear.module.register_forward_hook(watch(linear)) for linear in maps]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()
