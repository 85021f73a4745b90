"""Which files of a folder hold the model's weights, and what their headers say.

There is one answer: the files that transformers would load. Everything that counts, reads, checks
or digests weights asks here. No torch is needed.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from titer.core.config import DEPTHS, setting
from titer.core.errors import BadInput
from titer.core.reading import load_json

__all__ = [
    "DTYPE_BYTES",
    "INDEX",
    "SINGLE",
    "Slice",
    "blocks_of",
    "header",
    "read_json",
    "slices",
    "strays",
    "tensor_entries",
    "tensor_shapes",
    "unread",
    "weight_files",
    "weight_map",
]

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
_MAX_HEADER = 100 * 2**20
_MAX_JSON = 256 * 2**20
_MAX_TENSORS = 300_000
"""Of one file; the largest models that are published have half of it in all their files."""
_MAX_VALUES = 10_000_000
"""Entries of a JSON file: four times those of the largest tokenizer, and a gigabyte in Python."""
DTYPE_BYTES = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 1),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 2),
    **dict.fromkeys(("I32", "U32", "F32"), 4),
    **dict.fromkeys(("I64", "U64", "F64"), 8),
}
"""Bytes an element, by the name that safetensors has for its type."""

_AHEAD = re.compile(r"(^|\.)mtp[._]")
_OTHER = re.compile(
    r"(^|\.)(vision_model|vision_tower|vision_embed_tokens|visual|audio_tower|embed_vision|"
    r"embed_audio|multi_modal_projector)\."
)
_BUFFERS = re.compile(r"(^|\.)(rotary_emb\.inv_freq|position_ids|masked_bias)$")
_MASK = re.compile(r"(^|\.)(attn|attention)\.bias$")
_BLOCK = re.compile(r"(?:^|\.)(?:layers|h|blocks|block)\.(\d+)\.")


@dataclass(frozen=True, slots=True)
class Slice:
    """Where a tensor's bytes lie in a safetensors file; ``dtype`` as the file names it."""

    path: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    size: int


# -- which files ------------------------------------------------------------------------------


def weight_files(folder: Path) -> list[Path]:
    """The weight files that transformers would load, in order of name; strays are left out.

    Raises:
        BadInput: there is neither an index nor a ``model.safetensors``.
    """
    if (single := folder / SINGLE).is_file():
        return [single]
    named = weight_map(folder)
    if isinstance(named, str):
        raise BadInput(
            f"{folder} has no {SINGLE} and no index of shards; save the model with save_pretrained."
        )
    return [folder / name for name in sorted(set(named.values()))]


def weight_map(folder: Path) -> dict[str, str] | str:
    """The shard of every tensor as the index has it, or what is wrong with the index."""
    content = read_json(folder / INDEX)
    if isinstance(content, str):
        return content
    named: Any = content.get("weight_map")
    if not isinstance(named, dict):
        return f"{INDEX} has no weight_map"
    return {str(key): str(name) for key, name in cast(dict[Any, Any], named).items()}


def strays(folder: Path) -> list[Path]:
    """Safetensors files in the folder that are no part of the model and are never read: shards of
    an earlier save, or the same weights once more under names of another program."""
    ours = set(weight_files(folder))
    return [path for path in sorted(folder.glob("*.safetensors")) if path not in ours]


def read_json(path: Path) -> dict[str, Any] | str:
    """The object in a JSON file, or what is wrong with the file."""
    if not path.is_file():
        return f"there is no {path.name}"
    if path.stat().st_size > _MAX_JSON:
        return f"{path.name} is larger than {_MAX_JSON:,} bytes"
    try:
        text = path.read_bytes()
        if _too_many(text):
            return f"{path.name} holds more than {_MAX_VALUES:,} values"
        content = load_json(text.decode("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        return f"{path.name} is not valid JSON ({error})"
    if not isinstance(content, dict):
        return f"{path.name} is no object"
    return cast(dict[str, Any], content)


def _too_many(text: bytes) -> bool:
    """Whether a JSON text could hold so many values that reading it would fill the memory."""
    return sum(text.count(mark) for mark in (b",", b"[", b"{")) > _MAX_VALUES


# -- what their headers say -------------------------------------------------------------------


def header(path: Path) -> tuple[dict[str, Any], str]:
    """The header of a safetensors file and what is wrong with the file, if anything."""
    advice = "download or save it again."
    if not path.is_file():
        return {}, f"{path} is no file; {advice}"
    size = path.stat().st_size
    if size < 8:
        return {}, f"{path} is truncated ({size} bytes); {advice}"
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > min(size - 8, _MAX_HEADER):
            said = f"truncated or not safetensors (header of {length:,} bytes)"
            return {}, f"{path} is {said}; {advice}"
        text = file.read(length)
        if _too_many(text):
            return {}, f"{path} holds more than {_MAX_VALUES:,} values in its header; {advice}"
        try:
            read: Any = load_json(text)
        except (ValueError, RecursionError):
            return {}, f"{path} is corrupted (its header is not JSON); {advice}"
    if not isinstance(read, dict):
        return {}, f"{path} is corrupted (its header is no object); {advice}"
    tensors = cast(dict[str, Any], read)
    tensors.pop("__metadata__", None)
    if len(tensors) > _MAX_TENSORS:
        said = f"{len(tensors):,} tensors, and {_MAX_TENSORS:,} are read"
        return {}, f"{path} holds {said}; save the model in shards, or as a stock architecture."
    end = 0
    for name, entry in tensors.items():
        if fault := _entry_fault(entry):
            return {}, f"{path} is corrupted (tensor {name!r}: {fault}); {advice}"
        end = max(end, entry["data_offsets"][1])
    if end != size - 8 - length:
        return {}, f"{path} is truncated ({size - 8 - length:,} of {end:,} bytes of data); {advice}"
    return tensors, ""


def _entry_fault(entry: Any) -> str:
    try:
        start, stop = entry["data_offsets"]
        shape = list(entry["shape"])
        width = DTYPE_BYTES.get(entry["dtype"])
    except (KeyError, TypeError, ValueError):
        return "a malformed entry"
    if any(type(number) is not int or number < 0 for number in (start, stop, *shape)):
        return "a malformed entry"
    if start > stop:
        return "offsets that run backwards"
    if width is not None and math.prod(shape) * width != stop - start:
        return "a size that does not fit its shape"
    return ""


def slices(path: Path) -> dict[str, Slice]:
    """Every tensor of one safetensors file, from its header alone.

    Raises:
        BadInput: the file is not safetensors, or its header does not add up.
    """
    entries, fault = header(path)
    if fault:
        raise BadInput(fault)
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
    found: dict[str, Slice] = {}
    for name, entry in entries.items():
        begin, end = entry["data_offsets"]
        shape = tuple(entry["shape"])
        found[name] = Slice(path, str(entry["dtype"]), shape, 8 + length + begin, end - begin)
    return found


def tensor_entries(folder: Path) -> dict[str, Any]:
    """The header's entry of every tensor in the model's files; files that are broken have none."""
    try:
        files = weight_files(folder)
    except BadInput:
        return {}
    return {name: entry for path in files for name, entry in header(path)[0].items()}


def tensor_shapes(
    folder: Path, config: Mapping[str, Any] | None = None
) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor of the language model, from the file headers alone.

    What else lies in the files (see :func:`unread`) must choose no budget. ``config`` is the
    content of ``config.json``, read where it is not given.
    """
    entries = tensor_entries(folder)
    known = read_json(folder / "config.json") if config is None else config
    content = {} if isinstance(known, str) else known
    idle = unread({name: entry["shape"] for name, entry in entries.items()}, content)
    return {name: tuple(entry["shape"]) for name, entry in entries.items() if name not in idle}


# -- what of them is the language model -------------------------------------------------------


def unread(shapes: Mapping[str, Iterable[int]], config: Mapping[str, Any]) -> dict[str, str]:
    """Tensors that may lie in a model's files though they are no part of its language model, and
    what they are. This is the whole list: any other tensor that is not read refuses the model.
    """
    depth = setting(config, *DEPTHS)
    ahead = setting(config, "num_nextn_predict_layers", "num_mtp_layers") or 0
    found: dict[str, str] = {}
    for name, shape in shapes.items():
        place = blocks_of(name)
        if _AHEAD.search(name) or (depth and place and depth <= place[0] < depth + ahead):
            found[name] = "heads that predict several tokens ahead"
        elif _OTHER.search(name):
            found[name] = "towers for pictures or sound"
        elif _BUFFERS.search(name) or (_MASK.search(name) and len(tuple(shape)) == 4):
            found[name] = "tables of positions and masks, which are computed"
    return found


def blocks_of(name: str) -> tuple[int, ...]:
    """The number of the transformer block that a tensor belongs to; empty where it is in none."""
    inside = None if _OTHER.search(name) else _BLOCK.search(name)
    # A number of thousands of digits is no block, and takes Python a while to read.
    return (int(inside[1]),) if inside and len(inside[1]) < 10 else ()
