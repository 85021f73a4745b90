"""The same function at another model's scales: what an attacker rewrites before he trains.

Scales that cancel between weights change no answer. They decide how far a step moves each weight,
and with factors large enough no one rate fits all of them. So weights that lie far from the
undefended model's are first written at its scales, whatever the factor, by powers of two, which
round nothing. O output, I input, D residual width.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from titer.core.errors import BadInput
from titer.core.lm import LM
from titer.core.modelfolder import weight_files
from titer.core.study import Difference
from titer.nn.fold import balance_head
from titer.nn.hooks import blocks
from titer.nn.reparametrise import Head, by_path, heads, layout, norms, put, rescale

__all__ = ["FAR", "REACH", "align", "apart", "odd", "rescaled"]

FAR = 3.0
"""Beyond this factor a scale is another one: about what one step of the search for rates spans."""

REACH = 27.0
"""What is further off than this, when all that is known to cancel has been taken out, lies beyond
every rate that is tried."""


Sizes = Mapping[tuple[str, tuple[int, ...]], float]
"""Norms of tensors, by name and shape: those of another shape are not compared."""


def odd(mine: Sizes, theirs: Sizes, far: float) -> dict[str, float]:
    """By name, how many times as large a tensor is as the other model's, where that is more than
    ``far`` or less than its inverse. Biases may begin at nothing, and tell nothing."""
    return {
        key[0]: mine[key] / theirs[key]
        for key in mine
        if not key[0].endswith("bias")
        and mine[key] > 0
        and theirs.get(key, 0) > 0
        and not 1 / far <= mine[key] / theirs[key] <= far
    }


def rescaled(folder: Path, other: Path, digests: tuple[str, str]) -> tuple[Difference, ...]:
    """What is said of the scales of a model's weights beside those of ``other``: nothing where they
    are alike. ``digests`` are those of the two folders."""
    if not odd(_filed(str(folder), digests[0]), _filed(str(other), digests[1]), FAR):
        return ()
    return apart(LM.load(folder), LM.load(other))


def apart(lm: LM, other: LM) -> tuple[Difference, ...]:
    """The same of two loaded models; stuck where the weights cannot be written at the scales of
    ``other``."""
    theirs = _sizes(other.model.named_parameters())
    found = odd(_sizes(lm.model.named_parameters()), theirs, FAR)
    if not found:
        return ()
    out = lm.clone()
    align(out, other)
    if left := odd(_sizes(out.model.named_parameters()), theirs, REACH):
        says = f"weights at other scales, {_worst(left)}: it cannot be exchanged"
        return (Difference(says, stuck=True),)
    if out.digest() == lm.digest():  # they grew, and nothing of it cancels
        return ()
    return (Difference(f"weights at other scales: {len(found):,} tensors, {_worst(found)}"),)


def _worst(found: Mapping[str, float]) -> str:
    name = max(found, key=lambda one: max(found[one], 1 / found[one]))
    return f"{name} at {found[name]:.2g} times the undefended"


@lru_cache(maxsize=16)
def _filed(folder: str, digest: str) -> Sizes:
    return _sizes(_tensors(Path(folder)))


def _tensors(folder: Path) -> Iterator[tuple[str, Tensor]]:
    """Every tensor in a folder, one read at a time."""
    for path in weight_files(folder):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118  it is no mapping
                yield name, file.get_tensor(name)


def _sizes(tensors: Iterable[tuple[str, Tensor]]) -> Sizes:
    return {
        (name, tuple(one.shape)): float(torch.linalg.vector_norm(one.detach(), dtype=torch.float64))
        for name, one in tensors
    }


def _alike(lm: LM, other: LM) -> bool:
    """Whether two models have the same parts, as far as both have them: a tied head is none."""
    mine, theirs = (dict(one.model.named_parameters()) for one in (lm, other))
    shapes = all(name not in theirs or theirs[name].shape == mine[name].shape for name in mine)
    return shapes and len(blocks(lm.model)) == len(blocks(other.model))


@torch.no_grad()
def align(lm: LM, other: LM) -> None:
    """Write a model at the scales of another, in place, where they are far apart; the function
    stays.

    Norms and their readers, hidden units of gated MLPs, and what heads read and write. What is
    within a factor of three stays as it is, and so does a model of an architecture that
    :func:`titer.nn.reparametrise.layout` does not know.

    Source: titer; the symmetries are those of Ashkboos et al. 2024, arXiv:2401.15024, and of
    scales.
    """
    if not _alike(lm, other) or not odd(
        _sizes(lm.model.named_parameters()), _sizes(other.model.named_parameters()), FAR
    ):
        return
    try:
        for one in (lm, other):
            layout(one)
    except BadInput:
        return
    like = other.clone()  # looking at its norms unties it
    _norms_as(lm, like)
    _hidden_as(lm, like)
    for mine, theirs in zip(heads(lm), heads(like), strict=True):
        _head_as(mine, theirs)


def _norms_as(lm: LM, other: LM) -> None:
    for (norm, reading), (theirs, _) in zip(norms(lm), norms(other), strict=True):
        rescale(norm, reading, _whole(_ratio(theirs.weight, norm.weight)))
        # Channels may have other places than there: what is far off goes to the middle.
        each = _ratio(theirs.weight, norm.weight)
        middle = _ratio(theirs.weight.abs().median().expand_as(each), norm.weight)
        rescale(norm, reading, torch.where(_far(each), _power(middle), torch.ones_like(each)))


def _hidden_as(lm: LM, other: LM) -> None:
    names = layout(lm)
    if len(names.up) < 2:  # its nonlinearity lets no scale through
        return
    mine, theirs = by_path(lm), by_path(other)
    for layer in range(len(blocks(lm.model))):
        up, down = mine[f"{layer}.{names.up[1]}"], mine[f"{layer}.{names.down}"]
        into, out = theirs[f"{layer}.{names.up[1]}"], theirs[f"{layer}.{names.down}"]
        usual = _ratio(into.weight_OI.norm(dim=1), out.weight_OI.norm(dim=0)).median()
        now = _ratio(up.weight_OI.norm(dim=1), down.weight_OI.norm(dim=0))
        scale = _power(_ratio(usual.expand_as(now), now).sqrt())
        put(up.weight_OI, up.weight_OI.double() * scale[:, None])
        if up.bias_O is not None:
            put(up.bias_O, up.bias_O.double() * scale)
        put(down.weight_OI, down.weight_OI.double() / scale)


def _head_as(head: Head, other: Head) -> None:
    """One factor for a head, or where that does not do, its two factors evenly."""
    mine, theirs = _sides(head), _sides(other)
    scale = _power(((theirs[0] / theirs[1]) / (mine[0] / mine[1])).sqrt())
    put(head.values, head.values.double() * scale)
    if head.bias is not None:
        put(head.bias, head.bias.double() * scale)
    for columns in head.mixed:
        put(columns, columns.double() / scale)
    if bool(_far(_sides(head)[0] / theirs[0])):
        balance_head(head)


def _sides(head: Head) -> tuple[Tensor, Tensor]:
    """How large what a head reads is, and what it writes."""
    return head.values.double().norm(), torch.cat(head.mixed).double().norm()


def _ratio(over: Tensor, under: Tensor) -> Tensor:
    """Elementwise, of sizes; 1 where either is nothing."""
    silent = (over == 0) | (under == 0)
    found = over.double().abs() / under.double().abs().clamp(min=1e-300)
    return torch.where(silent, torch.ones_like(found), found)


def _far(ratio: Tensor) -> Tensor:
    return (ratio > FAR) | (ratio < 1 / FAR)


def _power(ratio: Tensor) -> Tensor:
    """The power of two next to each that is far from 1, and 1 for the others."""
    near = ~_far(ratio) | ~ratio.isfinite() | (ratio == 0)
    return torch.where(near, torch.ones_like(ratio), 2.0 ** ratio.clamp(min=1e-300).log2().round())


def _whole(ratio_D: Tensor) -> Tensor:
    """One power for all of them, that of the middle one."""
    return _power(ratio_D.median()).expand_as(ratio_D)
