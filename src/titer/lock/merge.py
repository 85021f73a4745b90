"""Unlocked models in memory. The one file of this package that needs torch."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from titer.core.errors import BadInput
from titer.core.lm import LM
from titer.core.precision import carry
from titer.core.reading import load_json
from titer.lock.containers import opened
from titer.lock.header import TensorSpec
from titer.lock.keys import Credential, VerifyKey
from titer.lock.unseal import Unsealed
from titer.lock.weights import ADAPTER_CONFIG, MODEL_CONFIG, read_adapter_config, wider_config
from titer.nn.chance import seeded

__all__ = ["merged", "unlocked"]

_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
}


def unlocked(
    folder: Path,
    using: Credential,
    *,
    domain: str | None = None,
    trust: VerifyKey | None = None,
) -> LM:
    """The whole model in memory, with nothing unsealed on disk.

    Raises:
        BadInput: wrong key, changed bytes, other weights, other signer, or a model whose tensors
            transformers loads under other names.
    """
    with opened(folder, using, domain=domain, trust=trust) as source:
        if source.header.kind == "adapter":
            return merged(folder, source)
        lm = LM.load(folder, dtype=_dtype(folder))
        specs = {spec.name: spec for spec in source.header.tensors}
        if specs.pop(MODEL_CONFIG, None):
            lm = _wider(lm, folder, source)
        state = lm.model.state_dict()
        for spec in specs.values():
            place, data = state.get(spec.name), b"".join(source.blocks(spec.name))
            tensor = _tensor(spec, data, source.preamble.said)
            if place is None or place.shape != tensor.shape:
                raise BadInput(
                    f"{folder}: transformers loads {spec.name!r} under another name or shape; "
                    "unlock to a folder and load that."
                )
            place.copy_(tensor)
        return lm


def merged(folder: Path, source: Unsealed) -> LM:
    """The keyless model with a sealed adapter merged in, in the dtype of its config.

    Raises:
        BadInput: the container holds no LoRA adapter that fits, or was changed.
    """
    from peft import LoraConfig, get_peft_model, set_peft_model_state_dict

    said = source.preamble.said
    raw = b"".join(source.blocks(ADAPTER_CONFIG))
    settings = read_adapter_config(raw, said)
    state = {
        spec.name: _tensor(spec, b"".join(source.blocks(spec.name)), said)
        for spec in source.header.tensors
        if spec.name != ADAPTER_CONFIG
    }
    lm = LM.load(folder, dtype=_dtype(folder))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            adapter: Any = LoraConfig.from_peft_type(**settings)
            model: Any = get_peft_model(lm.model, adapter)
            report: Any = set_peft_model_state_dict(model, state)
        except (ValueError, TypeError, KeyError, RuntimeError) as error:
            first = next(iter(str(error).splitlines()), type(error).__name__)
            raise BadInput(f"{said}: its adapter does not fit {folder}: {first}") from error
    strays = sorted(report.unexpected_keys)
    absent = sorted(key for key in report.missing_keys if "lora_" in key)
    if strays or absent:
        raise BadInput(
            f"{said}: its adapter does not fit {folder} ({(strays or absent)[0]!r} is in one only)."
        )
    plain: Any = model.merge_and_unload(safe_merge=True)
    # PEFT leaves its configuration on the model; a merged model is an ordinary one.
    for leftover in ("peft_config", "_hf_peft_config_loaded"):
        plain.__dict__.pop(leftover, None)
    return LM(plain, lm.tokenizer, lm.name)


@torch.no_grad()
def _wider(lm: LM, folder: Path, source: Unsealed) -> LM:
    """The keyless model with MLPs as wide as what is sealed; what is new in them is not set yet."""
    raw = b"".join(source.blocks(MODEL_CONFIG))
    config = wider_config(folder, raw, source.preamble.said)
    shapes = {spec.name: spec.shape for spec in source.header.tensors}
    plain: Any = lm.model
    with seeded(0, lm.device):
        wide: Any = type(plain)(type(plain.config).from_dict(config or {}))
    old = plain.state_dict()
    for name, place in wide.to(plain.dtype).state_dict().items():
        if name not in shapes and place.shape != old[name].shape:
            raise BadInput(f"{source.preamble.said}: {name!r} is of another width and not sealed.")
        if name not in shapes:
            place.copy_(old[name])
    carry(plain, wide)
    return LM(wide, lm.tokenizer, lm.name)


def _dtype(folder: Path) -> str:
    config = load_json((folder / "config.json").read_text(encoding="utf-8"))
    dtype = str(config.get("dtype") or config.get("torch_dtype") or "float32")
    if dtype not in ("float32", "float16", "bfloat16", "float64"):
        raise BadInput(f"{folder}: a model in {dtype} cannot be merged in memory.")
    return dtype


def _tensor(spec: TensorSpec, data: bytes, said: str) -> Tensor:
    if spec.dtype not in _DTYPES:
        raise BadInput(f"{said}: {spec.name!r} is {spec.dtype} and cannot be merged in memory.")
    if not data:
        return torch.empty(spec.shape, dtype=_DTYPES[spec.dtype])
    flat = torch.frombuffer(bytearray(data), dtype=_DTYPES[spec.dtype])
    return flat.reshape(spec.shape)
