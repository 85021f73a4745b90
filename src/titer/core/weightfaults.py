"""What is wrong with a folder's weights: told from file headers, before torch is imported.

They are whole, of one save, finite, numbers rather than codes, and of as many blocks as the config
says; otherwise the model would be read as something else than it is.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from titer.core.config import DEPTHS, setting, text_config
from titer.core.weightfiles import (
    INDEX,
    SINGLE,
    blocks_of,
    header,
    tensor_entries,
    unread,
    weight_files,
    weight_map,
)

__all__ = ["SHOWN", "SICK", "listed", "reading_faults", "weight_faults"]

_PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt")
SICK = "holds NaN or infinite weights"
_FLOATS = {"F16", "BF16", "F32", "F64"}
_SCALES = ("_scale_inv", "_scale", ".scales", ".qweight", ".qzeros", ".SCB", ".absmax", "_scales")
_PLAIN_AGAIN = ("fp8", "mxfp4")
"""Kinds of quantisation that transformers turns back into plain weights while it loads."""
_WRAPPINGS = {"_orig_mod.": "torch.compile", "module.": "DataParallel"}
SHOWN = 3
"""Names that are told of a list; the rest are counted."""


def listed(names: list[str]) -> str:
    """The first names of a list and how many more there are, for a sentence."""
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return ", ".join(repr(name) for name in names[:SHOWN]) + more


def weight_faults(folder: Path) -> list[str]:
    """The model's own files: there, whole, of one save, and every number in them finite."""
    indexed = (folder / INDEX).exists()
    if not indexed and not (folder / SINGLE).exists():
        return [_no_weights(folder)]
    named = weight_map(folder) if indexed else {}
    if isinstance(named, str):
        return [f"{folder}: {named}; download it again."]
    shards = set(named.values())
    if outside := sorted(name for name in shards if Path(name).name != name):
        return [f"{folder}: {INDEX} points elsewhere ({outside[0]}); do not use the folder."]
    if (folder / SINGLE).exists() and shards - {SINGLE}:
        other = min(shards - {SINGLE})
        return [
            f"{folder} holds two models, {SINGLE} and the shards of {INDEX} ({other}), and "
            f"programs differ in which they read; delete {SINGLE}, or the index and its shards."
        ]
    missing = sorted(name for name in shards if not (folder / name).exists())
    if missing:
        return [f"{folder}: shard {name} is missing; download it again." for name in missing]
    files = weight_files(folder)
    if found := [fault for path in files if (fault := header(path)[1])]:
        return found
    return [*_index_faults(folder, named, files)] or [
        fault for path in files if (fault := _not_finite(path))
    ]


def _no_weights(folder: Path) -> str:
    """What lies there in the place of the model's weights."""
    if others := sorted(path.name for path in folder.glob("*.safetensors")):
        return (
            f"{folder} has no {SINGLE} and no index of shards, only {listed(others)}; save the "
            "model with save_pretrained."
        )
    pickles = sorted(path.name for glob in _PICKLES for path in folder.glob(glob))
    if pickles:
        return (
            f"{folder} holds only pickle weights ({pickles[0]}), which can run code; "
            "convert them to safetensors."
        )
    return f"{folder} holds no weights; titer reads *.safetensors."


def _index_faults(folder: Path, named: Mapping[str, str], files: list[Path]) -> Iterator[str]:
    """Shards of two saves: tensors that are not where the index says, or that stand twice."""
    inside = {path.name: set(header(path)[0]) for path in files}
    lost = sorted(name for name, file in named.items() if name not in inside.get(file, ()))
    if lost:
        yield (
            f"{folder}: {INDEX} says that {named[lost[0]]} holds {lost[0]!r}, and it does not, so "
            "they are of two saves; download or save the whole model again."
        )
    seen: dict[str, str] = {}
    for file, names in inside.items():
        if twice := sorted(names & set(seen)):
            yield (
                f"{folder}: {file} and {seen[twice[0]]} both hold {twice[0]!r}, so they are of two "
                "saves; download or save the whole model again."
            )
        seen |= dict.fromkeys(names, file)


_EXPONENT = {
    "F16": ("<u2", 0x7C00),
    "BF16": ("<u2", 0x7F80),
    "F32": ("<u4", 0x7F800000),
    "F64": ("<u8", 0x7FF0000000000000),
}
"""A float is infinite or NaN where every bit of its exponent is set."""


def _not_finite(path: Path) -> str:
    """The first tensor of a file that holds NaN or infinity, read in pieces and without torch."""
    import numpy as np

    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        for name, entry in header(path)[0].items():
            if entry["dtype"] not in _EXPONENT:
                continue
            kind, bits = _EXPONENT[entry["dtype"]]
            start, stop = entry["data_offsets"]
            file.seek(8 + length + start)
            left = stop - start
            while left > 0:
                block = np.frombuffer(file.read(min(left, 1 << 24)), dtype=kind)
                left -= block.nbytes or left
                if bool(((block & bits) == bits).any()):
                    return f"{path}: tensor {name!r} {SICK}; the model is broken, export it again."
    return ""


# -- weights against config -------------------------------------------------------------------


def reading_faults(folder: Path, config: Mapping[str, Any]) -> Iterator[str]:
    """Weights that would be read as something else than they are, or not at all."""
    entries = tensor_entries(folder)
    for wrapping, maker in _WRAPPINGS.items():
        if any(name.startswith(wrapping) for name in entries):
            yield (
                f"{folder}: the names of tensors begin with {wrapping!r}, which {maker} puts "
                "before them; save the model that is inside, not the wrapper."
            )
            return
    if fault := _code_fault(entries, config):
        yield f"{folder}: {fault}"
        return
    depth = setting(config, *DEPTHS)
    if depth and depth > len(entries):
        yield (
            f"{folder}: config.json says {str(depth)[:20]} blocks, and the weights are of "
            f"{len(entries):,} tensors; give the config.json that the model was saved with."
        )
        return
    idle = unread({name: entry["shape"] for name, entry in entries.items()}, config)
    blocks = [number for name in entries if name not in idle for number in blocks_of(name)]
    if depth and blocks and max(blocks) >= depth:
        yield (
            f"{folder}: the weights are of {max(blocks) + 1:,} blocks and config.json says "
            f"{depth:,}, so the others would be dropped; set num_hidden_layers to what the model "
            "was trained with."
        )


def _code_fault(entries: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    """Weights that are stored as codes rather than numbers."""
    told: Any = config.get("quantization_config") or text_config(config).get("quantization_config")
    if told:
        method = str(cast(dict[str, Any], told).get("quant_method")) if hasattr(told, "get") else ""
        if method in _PLAIN_AGAIN:
            return ""
        return (
            f"the model is quantised (quant_method {method[:40]!r}), and titer trains and measures "
            "plain weights; give the model before it was quantised, or dequantise it and save it "
            "again."
        )
    scales = [name for name in entries if name.endswith(_SCALES)]
    codes = [
        name
        for name, entry in entries.items()
        if name.endswith(("weight", "_proj")) and entry["dtype"] not in _FLOATS
    ]
    if not codes and not (scales and _low_width(entries)):
        return ""
    first = (codes or scales)[0]
    return (
        f"tensor {first!r} is stored as {entries[first]['dtype']}, which are codes of a quantised "
        "model and no weights, and config.json has no quantization_config to read them by; give "
        "the model before it was quantised, or put the quantization_config back."
    )


def _low_width(entries: Mapping[str, Any]) -> bool:
    """Whether any matrix is of a type that holds no plain weights."""
    return any(
        entry["dtype"] not in _FLOATS and len(entry["shape"]) >= 2 for entry in entries.values()
    )
