"""Other weights, the same function: what no defence may lean on.

Everything is in place and worked out in double precision. O output, I input, D residual width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from titer.core.errors import BadInput
from titer.core.lm import LM
from titer.nn.edits import Linear, embeddings, linears, untie, writers
from titer.nn.hooks import blocks

__all__ = ["rescale_norms", "rotate_residual", "shuffle_hidden", "turn_heads"]


@dataclass(frozen=True)
class _Layout:
    """Names in a block: each norm with the matrices that read it, and the head of the model."""

    readers: dict[str, tuple[str, ...]]
    final: str
    values: str
    mixed: str
    up: tuple[str, ...]
    down: str


_LLAMA = _Layout(
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
_GPT2 = _Layout(
    readers={"ln_1": ("attn.c_attn",), "ln_2": ("mlp.c_fc",)},
    final="transformer.ln_f",
    values="attn.c_attn",
    mixed="attn.c_proj",
    up=("mlp.c_fc",),
    down="mlp.c_proj",
)
_LAYOUTS = {"llama": _LLAMA, "mistral": _LLAMA, "qwen2": _LLAMA, "qwen3": _LLAMA, "gpt2": _GPT2}


def _layout(lm: LM) -> _Layout:
    kind = str(lm.model.config.model_type)
    if kind not in _LAYOUTS:
        raise BadInput(
            f"the weights of a {kind} model cannot be written otherwise yet; "
            f"known are {', '.join(_LAYOUTS)}."
        )
    return _LAYOUTS[kind]


def _by_path(lm: LM) -> dict[str, Linear]:
    return {linear.path: linear for linear in linears(lm.model)}


def _norms(lm: LM) -> list[tuple[Any, list[Tensor]]]:
    """Every norm with the weights (O, I) that read its output; the head reads the last."""
    layout, maps = _layout(lm), _by_path(lm)
    untie(lm)
    found: list[tuple[Any, list[Tensor]]] = []
    for index, block in enumerate(blocks(lm.model)):
        for norm, readers in layout.readers.items():
            reading = [maps[f"{index}.{reader}"].weight_OI for reader in readers]
            found.append((block.get_submodule(norm), reading))
    head = lm.model.get_output_embeddings().weight.detach()
    return [*found, (lm.model.get_submodule(layout.final), [head])]


def _put(target: Tensor, value: Tensor) -> None:
    target.copy_(value.to(target.dtype))


def _rescale(norm: Any, reading: list[Tensor], scale_D: Tensor) -> None:
    """Multiply a norm's output by ``scale_D`` and divide its readers' columns by it."""
    for own in (norm.weight, getattr(norm, "bias", None)):
        if own is not None:
            _put(own.detach(), own.detach().double() * scale_D)
    for weight_OI in reading:
        _put(weight_OI, weight_OI.double() / scale_D)


def _normal(generator: torch.Generator, like: Tensor, *shape: int) -> Tensor:
    """Drawn on the CPU, so that one seed means one draw whatever the device."""
    draw = torch.randn(*shape, generator=generator, dtype=torch.float64)
    return draw.to(like.device)


def _orthogonal(generator: torch.Generator, like: Tensor, size: int) -> Tensor:
    """A rotation or reflection drawn evenly from all of them."""
    q, r = torch.linalg.qr(_normal(generator, like, size, size))
    return q * r.diagonal().sign()


def rescale_norms(lm: LM, generator: torch.Generator, spread: float = 0.5) -> None:
    """Scale every norm's channels by ``exp(spread · N(0, 1))``, and its readers back."""
    for norm, reading in _norms(lm):
        _rescale(norm, reading, (spread * _normal(generator, reading[0], len(norm.weight))).exp())


def rotate_residual(lm: LM, generator: torch.Generator) -> None:
    """Turn the basis of the residual stream by a random orthogonal matrix.

    Norms are first made plain (their scale goes into their readers, the head among them, which is
    untied). The rotation leaves the mean over channels alone where norms subtract it.

    Source: the invariance is that of Ashkboos et al. 2024, arXiv:2401.15024 (SliceGPT).

    Raises:
        BadInput: an unknown architecture, or a norm with a bias at a channel of scale zero.
    """
    norms = _norms(lm)
    for norm, reading in norms:
        scale = norm.weight.detach().double()
        if getattr(norm, "bias", None) is not None and bool((scale == 0).any()):
            raise BadInput("a norm has a channel of scale zero; its basis cannot be rotated.")
        if getattr(norm, "bias", None) is not None:
            _rescale(norm, reading, 1 / scale)
        else:  # a channel of scale zero stays silent: its readers' column becomes zero
            for weight_OI in reading:
                _put(weight_OI, weight_OI.double() * scale)
        norm.weight.detach().fill_(1)
    like = norms[-1][1][0]
    width = int(lm.model.config.hidden_size)
    if getattr(norms[-1][0], "bias", None) is None:
        turn = _orthogonal(generator, like, width)
    else:
        start = _normal(generator, like, width, width)
        start[:, 0] = 1  # the first axis of the frame is the mean over channels
        frame, _ = torch.linalg.qr(start)
        inner = torch.eye(width, dtype=torch.float64, device=like.device)
        inner[1:, 1:] = _orthogonal(generator, like, width - 1)
        turn = frame @ inner @ frame.T
    for table in embeddings(lm.model):
        _put(table.weight.detach(), table.weight.detach().double() @ turn)
    for writer in writers(lm.model):
        _put(writer.weight_OI, turn.T @ writer.weight_OI.double())
        if writer.bias_O is not None:
            _put(writer.bias_O, writer.bias_O.double() @ turn)
    for norm, reading in norms:
        for weight_OI in reading:
            _put(weight_OI, weight_OI.double() @ turn)
        if getattr(norm, "bias", None) is not None:
            _put(norm.bias.detach(), norm.bias.detach().double() @ turn)


def shuffle_hidden(lm: LM, generator: torch.Generator, spread: float = 0.5) -> None:
    """Reorder the MLPs' hidden units; gated ones are scaled too, which their product allows."""
    layout, maps = _layout(lm), _by_path(lm)
    for layer in range(len(blocks(lm.model))):
        down = maps[f"{layer}.{layout.down}"]
        count = down.weight_OI.shape[1]
        order = torch.randperm(count, generator=generator).to(down.weight_OI.device)
        scale = (spread * _normal(generator, down.weight_OI, count)).exp()
        gated = len(layout.up) > 1
        for place, name in enumerate(layout.up):
            linear = maps[f"{layer}.{name}"]
            for own in (linear.weight_OI, linear.bias_O):
                if own is not None:
                    moved = own.double()[order]
                    if gated and place == 1:
                        moved = moved * (scale if own.dim() == 1 else scale[:, None])
                    _put(own, moved)
        moved = down.weight_OI.double()[:, order]
        _put(down.weight_OI, moved / scale if gated else moved)


def turn_heads(lm: LM, generator: torch.Generator) -> None:
    """Rotate what each attention head carries, and turn it back where it is written."""
    layout, maps = _layout(lm), _by_path(lm)
    config = lm.model.config
    heads = int(config.num_attention_heads)
    groups = int(getattr(config, "num_key_value_heads", None) or heads)
    for layer in range(len(blocks(lm.model))):
        values, mixed = maps[f"{layer}.{layout.values}"], maps[f"{layer}.{layout.mixed}"]
        size = mixed.weight_OI.shape[1] // heads
        first = values.weight_OI.shape[0] - groups * size  # queries and keys stand before, or none
        for group in range(groups):
            turn = _orthogonal(generator, values.weight_OI, size)
            rows = slice(first + group * size, first + (group + 1) * size)
            for own in (values.weight_OI, values.bias_O):
                if own is not None:
                    _put(own[rows], turn @ own[rows].double())
            for head in range(group * heads // groups, (group + 1) * heads // groups):
                columns = mixed.weight_OI[:, head * size : (head + 1) * size]
                _put(columns, columns.double() @ turn.T)
