"""Other weights, the same function: what no defence may lean on.

Everything is in place and worked out in double precision. O output, I input, D residual width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from titer.core.config import attention_heads, hidden_size
from titer.core.errors import BadInput
from titer.core.lm import LM
from titer.nn.edits import Linear, embeddings, linears, untie, writers
from titer.nn.hooks import blocks

__all__ = [
    "Head",
    "by_path",
    "heads",
    "layout",
    "norms",
    "orthogonal",
    "plain_norms",
    "put",
    "rescale",
    "rescale_norms",
    "rotate_residual",
    "shuffle_hidden",
    "turn_heads",
]


@dataclass(frozen=True)
class Layout:
    """Names in a block: each norm with the matrices that read it, and the head of the model."""

    readers: dict[str, tuple[str, ...]]
    final: str
    values: str
    mixed: str
    up: tuple[str, ...]
    down: str


_LLAMA = Layout(
    readers={
        "input_layernorm": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
        "post_attention_layernorm": ("mlp.gate_proj", "mlp.up_proj"),
    },
    final="model.norm",
    values="self_attn.v_proj",
    mixed="self_attn.o_proj",
    up=("mlp.gate_proj", "mlp.up_proj"),
    down="mlp.down_proj",
)
_GPT2 = Layout(
    readers={"ln_1": ("attn.c_attn",), "ln_2": ("mlp.c_fc",)},
    final="transformer.ln_f",
    values="attn.c_attn",
    mixed="attn.c_proj",
    up=("mlp.c_fc",),
    down="mlp.c_proj",
)
_LAYOUTS = {"llama": _LLAMA, "mistral": _LLAMA, "qwen2": _LLAMA, "qwen3": _LLAMA, "gpt2": _GPT2}


def layout(lm: LM) -> Layout:
    kind = str(lm.model.config.model_type)
    if kind not in _LAYOUTS:
        raise BadInput(
            f"the weights of a {kind} model cannot be written otherwise yet; "
            f"known are {', '.join(_LAYOUTS)}."
        )
    return _LAYOUTS[kind]


def by_path(lm: LM) -> dict[str, Linear]:
    return {linear.path: linear for linear in linears(lm.model)}


def norms(lm: LM) -> list[tuple[Any, list[Tensor]]]:
    """Every norm with the weights (O, I) that read its output; the head reads the last."""
    names, maps = layout(lm), by_path(lm)
    untie(lm)
    found: list[tuple[Any, list[Tensor]]] = []
    for index, block in enumerate(blocks(lm.model)):
        for norm, readers in names.readers.items():
            reading = [maps[f"{index}.{reader}"].weight_OI for reader in readers]
            found.append((block.get_submodule(norm), reading))
    head = lm.model.get_output_embeddings().weight.detach()
    return [*found, (lm.model.get_submodule(names.final), [head])]


def put(target: Tensor, value: Tensor) -> None:
    target.copy_(value.to(target.dtype))


def rescale(norm: Any, reading: list[Tensor], scale_D: Tensor) -> None:
    """Multiply a norm's output by ``scale_D`` and divide its readers' columns by it."""
    for own in (norm.weight, getattr(norm, "bias", None)):
        if own is not None:
            put(own.detach(), own.detach().double() * scale_D)
    for weight_OI in reading:
        put(weight_OI, weight_OI.double() / scale_D)


def _normal(generator: torch.Generator, like: Tensor, *shape: int) -> Tensor:
    """Drawn on the CPU, so that one seed means one draw whatever the device."""
    draw = torch.randn(*shape, generator=generator, dtype=torch.float64)
    return draw.to(like.device)


def orthogonal(generator: torch.Generator, like: Tensor, size: int) -> Tensor:
    """A rotation or reflection drawn evenly from all of them."""
    q, r = torch.linalg.qr(_normal(generator, like, size, size))
    return q * r.diagonal().sign()


def rescale_norms(lm: LM, generator: torch.Generator, spread: float = 0.5) -> None:
    """Scale every norm's channels by ``exp(spread · N(0, 1))``, and its readers back."""
    for norm, reading in norms(lm):
        rescale(norm, reading, (spread * _normal(generator, reading[0], len(norm.weight))).exp())


def plain_norms(lm: LM) -> list[tuple[Any, list[Tensor]]]:
    """Set every norm's scale to 1, its readers multiplied by what it was; returns :func:`norms`.

    Raises:
        BadInput: an unknown architecture, or a norm with a bias at a channel of scale zero.
    """
    found = norms(lm)
    for norm, reading in found:
        scale = norm.weight.detach().double()
        if getattr(norm, "bias", None) is not None and bool((scale == 0).any()):
            raise BadInput("a norm has a channel of scale zero; it cannot be made plain.")
        if getattr(norm, "bias", None) is not None:
            rescale(norm, reading, 1 / scale)
        else:  # a channel of scale zero stays silent: its readers' column becomes zero
            for weight_OI in reading:
                put(weight_OI, weight_OI.double() * scale)
        norm.weight.detach().fill_(1)
    return found


def rotate_residual(lm: LM, generator: torch.Generator) -> None:
    """Turn the basis of the residual stream by a random orthogonal matrix.

    Norms are first made plain (their scale goes into their readers, the head among them, which is
    untied). The rotation leaves the mean over channels alone where norms subtract it.

    Source: the invariance is that of Ashkboos et al. 2024, arXiv:2401.15024 (SliceGPT).

    Raises:
        BadInput: an unknown architecture, or a norm with a bias at a channel of scale zero.
    """
    found = plain_norms(lm)
    like = found[-1][1][0]
    width = hidden_size(lm.model.config)
    if getattr(found[-1][0], "bias", None) is None:
        turn = orthogonal(generator, like, width)
    else:
        start = _normal(generator, like, width, width)
        start[:, 0] = 1  # the first axis of the frame is the mean over channels
        frame, _ = torch.linalg.qr(start)
        inner = torch.eye(width, dtype=torch.float64, device=like.device)
        inner[1:, 1:] = orthogonal(generator, like, width - 1)
        turn = frame @ inner @ frame.T
    for table in embeddings(lm.model):
        put(table.weight.detach(), table.weight.detach().double() @ turn)
    for writer in writers(lm.model):
        put(writer.weight_OI, turn.T @ writer.weight_OI.double())
        if writer.bias_O is not None:
            put(writer.bias_O, writer.bias_O.double() @ turn)
    for norm, reading in found:
        for weight_OI in reading:
            put(weight_OI, weight_OI.double() @ turn)
        if getattr(norm, "bias", None) is not None:
            put(norm.bias.detach(), norm.bias.detach().double() @ turn)


def shuffle_hidden(lm: LM, generator: torch.Generator, spread: float = 0.5) -> None:
    """Reorder the MLPs' hidden units; gated ones are scaled too, which their product allows."""
    names, maps = layout(lm), by_path(lm)
    for layer in range(len(blocks(lm.model))):
        down = maps[f"{layer}.{names.down}"]
        count = down.weight_OI.shape[1]
        order = torch.randperm(count, generator=generator).to(down.weight_OI.device)
        scale = (spread * _normal(generator, down.weight_OI, count)).exp()
        gated = len(names.up) > 1
        for place, name in enumerate(names.up):
            linear = maps[f"{layer}.{name}"]
            for own in (linear.weight_OI, linear.bias_O):
                if own is not None:
                    moved = own.double()[order]
                    if gated and place == 1:
                        moved = moved * (scale if own.dim() == 1 else scale[:, None])
                    put(own, moved)
        moved = down.weight_OI.double()[:, order]
        put(down.weight_OI, moved / scale if gated else moved)


@dataclass(frozen=True)
class Head:
    """What one head of keys and values carries, as views without gradient: edits reach the model.

    ``values`` is (H, D), its bias (H,); ``mixed`` holds (D, H) for each query head that reads it.
    """

    layer: int
    values: Tensor
    bias: Tensor | None
    mixed: tuple[Tensor, ...]


def heads(lm: LM) -> list[Head]:
    """Every head of keys and values, first block to last. H is a head's width."""
    names, maps = layout(lm), by_path(lm)
    config = lm.model.config
    count = attention_heads(config)
    groups = int(getattr(config, "num_key_value_heads", None) or count)
    found: list[Head] = []
    for layer in range(len(blocks(lm.model))):
        values, mixed = maps[f"{layer}.{names.values}"], maps[f"{layer}.{names.mixed}"]
        size = mixed.weight_OI.shape[1] // count
        first = values.weight_OI.shape[0] - groups * size  # queries and keys stand before, or none
        for group in range(groups):
            rows = slice(first + group * size, first + (group + 1) * size)
            readers = range(group * count // groups, (group + 1) * count // groups)
            found.append(
                Head(
                    layer,
                    values.weight_OI[rows],
                    None if values.bias_O is None else values.bias_O[rows],
                    tuple(mixed.weight_OI[:, at * size : (at + 1) * size] for at in readers),
                )
            )
    return found


def turn_heads(lm: LM, generator: torch.Generator) -> None:
    """Rotate what each attention head carries, and turn it back where it is written."""
    for head in heads(lm):
        turn = orthogonal(generator, head.values, len(head.values))
        put(head.values, turn @ head.values.double())
        if head.bias is not None:
            put(head.bias, turn @ head.bias.double())
        for columns in head.mixed:
            put(columns, columns.double() @ turn.T)
