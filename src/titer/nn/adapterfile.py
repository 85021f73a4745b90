"""Changes of weights of low rank as a PEFT adapter folder; a sealed part as one, and back."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from titer.core.errors import BadInput
from titer.core.lm import LM
from titer.core.reading import load_json
from titer.nn.sealed import Layout, LowRank, Sealed
from titer.nn.stacked import is_conv1d

__all__ = ["Factors", "load_adapter", "save_adapter", "write_adapter"]

_CONFIG, _WEIGHTS = "adapter_config.json", "adapter_model.safetensors"

Factors = Mapping[str, tuple[Tensor, Tensor]]
"""By a layer's path: A (R, I), which reads its input, and B (O, R), which writes its output."""


def write_adapter(
    model: Any, factors: Factors, alpha: float, folder: str | os.PathLike[str], base: str = ""
) -> None:
    """Write the changes ``alpha / R * (B @ A)`` of a model's layers as the two files of an adapter.

    ``PeftModel.from_pretrained(model, folder)`` loads it. The same changes give the same bytes.

    Args:
        model: A Hugging Face model; only the kinds of its layers are read.
        factors: One or more, all of one rank R. A layer may be linear or an embedding.
        alpha: LoRA's scale; R leaves the factors as they are.
        folder: Is made where it is missing.
        base: The name of the model that the adapter belongs to, if it is to be told.
    """
    from peft import LoraConfig

    tensors: dict[str, Tensor] = {}
    transposed = False
    for path, (first, second) in factors.items():
        module = model.get_submodule(path)
        transposed |= is_conv1d(module)
        # PEFT looks a token up in A and multiplies by B: our B and A, each turned.
        pair = (second.T, first.T) if isinstance(module, nn.Embedding) else (first, second)
        for name, values in zip(_names(path, module), pair, strict=True):
            tensors[name] = values.detach().cpu().contiguous()
    scale: Any = alpha
    config = LoraConfig(
        r=next(iter(factors.values()))[0].shape[0],
        lora_alpha=scale,
        target_modules=sorted(factors),
        fan_in_fan_out=transposed,
        task_type="CAUSAL_LM",
        inference_mode=True,
        base_model_name_or_path=base or None,
    )
    at = Path(folder)
    at.mkdir(parents=True, exist_ok=True)
    config.save_pretrained(str(at))
    settings = load_json((at / _CONFIG).read_text(encoding="utf-8"))
    # A set, which comes in another order in every process.
    settings["target_modules"] = sorted(settings["target_modules"])
    (at / _CONFIG).write_text(json.dumps(settings, indent=2, sort_keys=True), encoding="utf-8")
    save_file(tensors, at / _WEIGHTS, metadata={"format": "pt"})


def _factors(part: Sealed) -> dict[str, tuple[LowRank, nn.Module]]:
    """Every piece with its layer, by path.

    Raises:
        BadInput: a part that PEFT has no form for.
    """
    found: dict[str, tuple[LowRank, nn.Module]] = {}
    for piece in part.pieces:
        if not isinstance(piece, LowRank):
            raise BadInput(
                f"a {part.layout.form} part is no adapter; save Sealed.merged() and seal that."
            )
        if len(piece.readers) > 1:
            raise BadInput(
                f"{' and '.join(piece.paths)} share a weight, and an adapter would part them; "
                "save Sealed.merged() and seal that."
            )
        ((path, module),) = piece.readers.items()
        found[path] = (piece, module)
    return found


def _names(path: str, module: nn.Module) -> tuple[str, str]:
    stem = f"base_model.model.{path}"
    if isinstance(module, nn.Embedding):
        return f"{stem}.lora_embedding_A", f"{stem}.lora_embedding_B"
    return f"{stem}.lora_A.weight", f"{stem}.lora_B.weight"


def save_adapter(part: Sealed, folder: str | os.PathLike[str]) -> None:
    """Write a low-rank part as an adapter.

    Raises:
        BadInput: the part is not low-rank, or goes beside a weight that is used twice.
    """
    factors = {path: (piece.a_RI, piece.b_OR) for path, (piece, _) in _factors(part).items()}
    write_adapter(part.lm.model, factors, part.layout.alpha, folder)


@torch.no_grad()
def load_adapter(lm: LM, folder: str | os.PathLike[str]) -> Sealed:
    """A part saved by :func:`save_adapter`, on the model it belongs to, to be trained further.

    Raises:
        BadInput: the adapter is not of this model, or PEFT options were used that a sealed part
            does not know.
    """
    at = Path(folder)
    try:
        settings: dict[str, Any] = load_json((at / _CONFIG).read_text(encoding="utf-8"))
        tensors = load_file(at / _WEIGHTS)
        targets = [str(path) for path in settings["target_modules"]]
        rank, alpha = int(settings["r"]), float(settings["lora_alpha"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(
            f"{at} is no adapter that can be read ({type(error).__name__}); "
            "give the folder that titer unlock wrote."
        ) from error
    odd = [name for name in ("use_rslora", "use_dora", "rank_pattern", "alpha_pattern") if
           settings.get(name)]  # fmt: skip
    known = dict(lm.model.named_modules())
    absent = sorted(set(targets) - set(known))
    if odd or absent:
        raise BadInput(
            f"{at} does not fit {lm.name}: "
            + (f"it uses {', '.join(odd)}." if odd else f"the model has no layer {absent[0]}.")
        )
    ends = (lm.model.get_input_embeddings(), lm.model.get_output_embeddings())
    tables = any(known[path] is end for path in targets for end in ends)
    inner = tuple(path for path in targets if not any(known[path] is end for end in ends))
    layout = Layout(rank=rank, alpha=alpha, embeddings=tables, modules=inner)
    part = Sealed(lm, layout)
    for path, (piece, module) in _factors(part).items():
        first, second = (tensors.pop(name, None) for name in _names(path, module))
        if isinstance(module, nn.Embedding):
            first, second = (_turned(second), _turned(first))
        for own, values in ((piece.a_RI, first), (piece.b_OR, second)):
            if values is None or values.shape != own.shape:
                raise BadInput(f"{at} does not fit {lm.name} at {path}; it is of another model.")
            own.copy_(values)
    if tensors:
        raise BadInput(f"{at} holds {next(iter(tensors))!r}, which a sealed part does not know.")
    return part


def _turned(values: Tensor | None) -> Tensor | None:
    return None if values is None else values.T
