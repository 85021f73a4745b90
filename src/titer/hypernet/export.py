"""A patch for all prompts as an ordinary model, or as an adapter that PEFT loads."""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor, nn

from titer.core.errors import BadInput
from titer.hypernet.apply import Patch
from titer.hypernet.edits import Edit
from titer.hypernet.sites import located, matrix
from titer.nn.adapterfile import write_adapter

__all__ = ["fold", "low_rank", "save_adapter"]


@torch.no_grad()
def low_rank(model: Any, edit: Edit, patch: Patch) -> dict[str, tuple[Tensor, Tensor]]:
    """The patch as changes of weights, by module path: an (O, R) and an (R, I) factor.

    Raises:
        BadInput: the edit is no change of weights, or there is a patch for each of several rows.
    """
    found: dict[str, tuple[Tensor, Tensor]] = {}
    for (site, tensors), module in zip(patch.items(), located(model, list(patch)), strict=True):
        if any(len(tensor) != 1 for tensor in tensors.values()):
            raise BadInput("only one patch for all prompts can be exported; conditioning=sample.")
        found[site.path] = edit.factors(module, tensors)
    return found


@torch.no_grad()
def fold(model: Any, edit: Edit, patch: Patch) -> None:
    """Write the patch into the weights of ``model``, for good.

    Raises:
        BadInput: as :func:`low_rank`.
    """
    for path, (left_OR, right_RI) in low_rank(model, edit, patch).items():
        module = model.get_submodule(path)
        weight = module.weight if isinstance(module, nn.Embedding) else matrix(module)
        assert weight is not None  # `low_rank` has read it
        weight += (left_OR.to(weight.dtype) @ right_RI.to(weight.dtype)).to(weight.device)


def save_adapter(model: Any, edit: Edit, patch: Patch, folder: str | os.PathLike[str]) -> None:
    """Write the patch as a LoRA adapter; ``PeftModel.from_pretrained(model, folder)`` loads it.

    Alpha equals the rank, so that PEFT's scale is 1 and the budget that was kept is what is loaded.

    Raises:
        BadInput: as :func:`low_rank`, or the edit is at the embedding.
    """
    factors = low_rank(model, edit, patch)
    if any(isinstance(model.get_submodule(path), nn.Embedding) for path in factors):
        raise BadInput("an edit of the embedding is no LoRA adapter; fold it into the weights.")
    turned = {path: (right_RI, left_OR) for path, (left_OR, right_RI) in factors.items()}
    rank = next(iter(turned.values()))[0].shape[0]
    write_adapter(model, turned, rank, folder, str(getattr(model.config, "_name_or_path", "")))
