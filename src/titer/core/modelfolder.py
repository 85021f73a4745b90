"""Checks of a model folder that need no torch: made before any work starts.

A folder from outside is hostile until it has passed: safetensors only, sizes that add up, no
custom code.
"""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from titer.core.errors import BadInput, NotFinite

__all__ = [
    "DTYPE_BYTES",
    "Slice",
    "faults",
    "folder_digest",
    "require",
    "slices",
    "tensor_shapes",
    "weight_files",
]

_PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt")
_SICK = "holds NaN or infinite weights"
_NOTES = {"titer.json", "organism.json"}
_MAX_HEADER = 100 * 2**20
_MAX_JSON = 256 * 2**20
_CONFIGS = ("config.json", "tokenizer_config.json", "generation_config.json")
_EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "embed_in.weight")
DTYPE_BYTES = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2"), 1),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 2),
    **dict.fromkeys(("I32", "U32", "F32"), 4),
    **dict.fromkeys(("I64", "U64", "F64"), 8),
}
"""Bytes an element, by the name that safetensors has for its type."""


def require(folder: Path) -> None:
    """Raise :class:`BadInput` with every fault of a model folder.

    Raises:
        NotFinite: weights that are not finite are all that is wrong with it.
        BadInput: anything else.
    """
    if found := faults(folder):
        raise (NotFinite if all(_SICK in fault for fault in found) else BadInput)(*found)


def faults(folder: Path) -> list[str]:
    """One sentence for each thing that is wrong with a model folder; none if it can be loaded."""
    if not folder.is_dir():
        return [f"{folder} is no folder; give a Hugging Face folder, a hub id or fabula:NAME."]
    config = _read_json(folder / "config.json")
    if isinstance(config, str):
        return [f"{folder}: {config}; a model needs the config.json that save_pretrained writes."]
    if (folder / "adapter_config.json").exists():
        # transformers would load the adapter unasked, and its base model from wherever it names.
        return [f"{folder} holds an adapter (adapter_config.json); merge it into its base model."]
    if found := [fault for name in _CONFIGS for fault in _code_faults(folder / name)]:
        return found
    if not config.get("model_type"):
        return [f"{folder}: config.json names no model_type; save the model with save_pretrained."]
    found = _weight_faults(folder)
    if not any((folder / name).exists() for name in ("tokenizer.json", "tokenizer_config.json")):
        found.append(f"{folder} has no tokenizer.json; save the tokenizer beside the model.")
    return found or _match_faults(folder)


def _read_json(path: Path) -> dict[str, Any] | str:
    if not path.is_file():
        return f"there is no {path.name}"
    if path.stat().st_size > _MAX_JSON:
        return f"{path.name} is larger than {_MAX_JSON:,} bytes"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        return f"{path.name} is not valid JSON ({error})"
    if not isinstance(content, dict):
        return f"{path.name} is no object"
    return cast(dict[str, Any], content)


def _code_faults(path: Path) -> list[str]:
    """Settings that would make transformers run code or read weights from elsewhere."""
    content = _read_json(path)
    if isinstance(content, str):
        return [f"{path.parent}: {content}; save it again."] if path.exists() else []
    found: list[str] = []
    waiting: list[Any] = [content]
    while waiting:
        value: Any = waiting.pop()
        if isinstance(value, list):
            waiting += cast(list[Any], value)
        elif isinstance(value, dict):
            settings = cast(dict[str, Any], value)
            waiting += settings.values()
            found += [
                f"{path.parent}: {path.name} asks for {what} ({key}), which titer never runs; "
                "export the model to a stock architecture."
                for key in settings
                if (what := _asked(key, settings[key]))
            ]
    return found


def _asked(key: str, value: Any) -> str:
    if key == "auto_map":
        return "custom code"
    if key == "transformers_weights":
        return "weights of another name"
    # A name with a slash is a repository of compiled kernels, which transformers would fetch.
    implementation = key.strip("_").startswith(("attn_implementation", "experts_implementation"))
    if implementation and "/" in str(value):
        return "a kernel from the hub"
    return ""


def _weight_faults(folder: Path) -> list[str]:
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        pickles = sorted(path.name for glob in _PICKLES for path in folder.glob(glob))
        if pickles:
            return [
                f"{folder} holds only pickle weights ({pickles[0]}), which can run code; "
                "convert them to safetensors."
            ]
        return [f"{folder} holds no weights; titer reads *.safetensors."]
    found = [fault for path in files if (fault := _header(path)[1])]
    if not found:
        found = [fault for path in files if (fault := _not_finite(path))]
    index = folder / "model.safetensors.index.json"
    if index.exists():
        content = _read_json(index)
        if isinstance(content, str):
            return [f"{folder}: {content}; download it again."]
        raw: Any = content.get("weight_map")
        if not isinstance(raw, dict):
            return [f"{folder}: {index.name} has no weight_map; download it again."]
        named = {str(name) for name in cast(dict[str, Any], raw).values()}
        if strays := sorted(name for name in named if Path(name).name != name):
            return [
                f"{folder}: {index.name} points elsewhere ({strays[0]}); do not use the folder."
            ]
        missing = sorted(named - {path.name for path in files})
        found += [f"{folder}: shard {name} is missing; download it again." for name in missing]
    return found


_EXPONENT = {"F16": ("<u2", 0x7C00), "BF16": ("<u2", 0x7F80), "F32": ("<u4", 0x7F800000)}
"""A float is infinite or NaN where every bit of its exponent is set."""


def _not_finite(path: Path) -> str:
    """The first tensor of a file that holds NaN or infinity, read in pieces and without torch."""
    import numpy as np

    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        for name, entry in _header(path)[0].items():
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
                    return f"{path}: tensor {name!r} {_SICK}; the model is broken, export it again."
    return ""


def _header(path: Path) -> tuple[dict[str, Any], str]:
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
        try:
            header: Any = json.loads(file.read(length))
        except (ValueError, RecursionError):
            return {}, f"{path} is corrupted (its header is not JSON); {advice}"
    if not isinstance(header, dict):
        return {}, f"{path} is corrupted (its header is no object); {advice}"
    tensors = cast(dict[str, Any], header)
    tensors.pop("__metadata__", None)
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


def tensor_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Every tensor's shape, from the file headers alone."""
    return {
        name: tuple(entry["shape"])
        for path in sorted(folder.glob("*.safetensors"))
        for name, entry in _header(path)[0].items()
    }


@dataclass(frozen=True, slots=True)
class Slice:
    """Where a tensor's bytes lie in a safetensors file; ``dtype`` as the file names it."""

    path: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    size: int


def slices(path: Path) -> dict[str, Slice]:
    """Every tensor of one safetensors file, from its header alone.

    Raises:
        BadInput: the file is not safetensors, or its header does not add up.
    """
    entries, fault = _header(path)
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


def weight_files(folder: Path) -> list[Path]:
    """The weight files that transformers would load, in order of name; strays are left out.

    Raises:
        BadInput: there is neither an index nor a ``model.safetensors``.
    """
    index = folder / "model.safetensors.index.json"
    single = folder / "model.safetensors"
    if single.is_file():
        return [single]
    content = _read_json(index)
    named: Any = content if isinstance(content, str) else content.get("weight_map")
    if not isinstance(named, dict):
        raise BadInput(
            f"{folder} has no model.safetensors and no index of shards; save the model with "
            "save_pretrained."
        )
    return [folder / str(name) for name in sorted(set(cast(dict[str, Any], named).values()))]


def _match_faults(folder: Path) -> list[str]:
    """A tokenizer that can emit ids the embedding does not have."""
    embedding = [
        shape[0]
        for name, shape in tensor_shapes(folder).items()
        if len(shape) == 2 and name.endswith(_EMBEDDINGS)
    ]
    tokenizer = folder / "tokenizer.json"
    if not embedding or not tokenizer.exists():
        return []
    content = _read_json(tokenizer)
    if isinstance(content, str):
        return [f"{folder}: {content}; save the tokenizer again."]
    largest = _largest_id(content)
    if largest >= embedding[0]:
        return [
            f"{folder}: the tokenizer has ids up to {largest:,} but the embedding only "
            f"{embedding[0]:,} rows; use the tokenizer the model was trained with."
        ]
    return []


def _largest_id(tokenizer: dict[str, Any]) -> int:
    model: Any = tokenizer.get("model")
    vocabulary: Any = cast(dict[str, Any], model).get("vocab") if isinstance(model, dict) else None
    ids: list[Any] = []
    if isinstance(vocabulary, dict):
        ids += cast(dict[str, Any], vocabulary).values()
    elif isinstance(vocabulary, list):
        ids.append(len(cast(list[Any], vocabulary)) - 1)
    added: Any = tokenizer.get("added_tokens")
    if isinstance(added, list):
        for entry in cast(list[Any], added):
            ids.append(cast(dict[str, Any], entry).get("id") if isinstance(entry, dict) else None)
    return max((number for number in ids if type(number) is int), default=-1)


def folder_digest(folder: Path) -> str:
    """SHA-256 over weights, config, tokenizer and template files, 16 hex digits.

    Names of files count, the path of the folder does not, and neither do titer's own notes on how
    the model was made. What is sealed beside the weights counts: there are attacks on it.
    """
    import hashlib

    total = hashlib.sha256()
    kept = {".safetensors", ".json", ".jinja", ".model", ".txt"}
    files = [path for path in sorted(folder.iterdir()) if path.suffix in kept]
    for path in [*files, *sorted(folder.glob("sealed/*.titer"))]:
        if path.is_file() and path.name not in _NOTES:
            total.update(path.name.encode() + b"\0")
            with path.open("rb") as file:
                while block := file.read(1 << 20):
                    total.update(block)
    return total.hexdigest()[:16]
