"""Checks of a model folder that need no torch: made before any work starts.

A folder from outside is hostile until it has passed: safetensors only, sizes that add up, no
custom code. And it is read as it is or not at all: files that are there, one model in them, weights
that are numbers, and as many blocks as the config says.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from titer.core.errors import BadInput, NotFinite
from titer.core.tokenfaults import match_faults, tokenizer_faults
from titer.core.weightfaults import SICK, listed, reading_faults, weight_faults
from titer.core.weightfiles import (
    DTYPE_BYTES,
    SINGLE,
    Slice,
    read_json,
    slices,
    strays,
    tensor_entries,
    tensor_shapes,
    unread,
    weight_files,
    weight_map,
)

__all__ = [
    "DTYPE_BYTES",
    "Slice",
    "faults",
    "folder_digest",
    "notes",
    "require",
    "slices",
    "small_files",
    "tensor_shapes",
    "weight_files",
]

_NOTES = {"titer.json", "organism.json"}
_KEPT = {".safetensors", ".json", ".jinja", ".model", ".txt"}
_CONFIGS = ("config.json", "tokenizer_config.json", "generation_config.json")
_POINTER = b"version https://git-lfs"


def require(folder: Path) -> None:
    """Raise :class:`BadInput` with every fault of a model folder.

    Raises:
        NotFinite: weights that are not finite are all that is wrong with it.
        BadInput: anything else.
    """
    if found := faults(folder):
        raise (NotFinite if all(SICK in fault for fault in found) else BadInput)(*found)


def faults(folder: Path) -> list[str]:
    """One sentence for each thing that is wrong with a model folder; none if it can be loaded."""
    if not folder.is_dir():
        return [f"{folder} is no folder; give a Hugging Face folder, a hub id or fabula:NAME."]
    if found := list(_absent(folder)):
        return found
    if (folder / "adapter_config.json").exists():
        # transformers would load the adapter unasked, and its base model from wherever it names.
        return [f"{folder} holds an adapter (adapter_config.json); merge it into its base model."]
    config = read_json(folder / "config.json")
    if isinstance(config, str):
        return [f"{folder}: {config}; a model needs the config.json that save_pretrained writes."]
    if found := [fault for name in _CONFIGS for fault in _code_faults(folder / name)]:
        return found
    if not config.get("model_type"):
        return [f"{folder}: config.json names no model_type; save the model with save_pretrained."]
    found = weight_faults(folder)
    found += tokenizer_faults(folder)
    return found or [*reading_faults(folder, config), *match_faults(folder, config)]


def notes(folder: Path) -> list[str]:
    """One sentence for each thing that lies in a sound folder and is no part of the model."""
    found = [
        f"{path.name} is no part of the model and is not read ({path.stat().st_size:,} bytes)."
        for path in strays(folder)
    ]
    config = read_json(folder / "config.json")
    shapes = {name: entry["shape"] for name, entry in tensor_entries(folder).items()}
    idle = unread(shapes, config if isinstance(config, dict) else {})
    for kind in dict.fromkeys(idle.values()):
        names = [name for name in idle if idle[name] == kind]
        found.append(
            f"{len(names):,} tensors are no part of the language model and not counted ({kind}): "
            f"{listed(names)}."
        )
    return found


# -- files ------------------------------------------------------------------------------------


def _absent(folder: Path) -> Iterator[str]:
    """Files that are named and not there: links to nowhere, pointers in the place of content."""
    looked_at = _looked_at(folder)
    for path in sorted(set(folder.iterdir()) - set(looked_at)):
        if path.exists() and not path.is_file() and not path.is_dir():
            yield f"{path} is a device, a pipe or a socket and no file; take it away."
    for path in looked_at:
        if path.is_symlink() and not path.exists():
            yield (
                f"{path} is a link to a file that is not there; download the model again, or copy "
                "the folder with its links followed (cp -rL)."
            )
        elif path.exists() and not path.is_file():
            yield f"{path} is no file; download or save it again."
        elif path.is_file():
            try:
                with path.open("rb") as file:
                    first = file.read(len(_POINTER))
            except OSError as error:
                yield f"{path} cannot be read ({error.strerror}); change its permissions."
                continue
            if first == _POINTER:
                yield f"{path} is a git-lfs pointer and not the file; fetch it with `git lfs pull`."


def _looked_at(folder: Path) -> list[Path]:
    """What may be read of a folder; of weights those that belong to the model, as far as that can
    be told before anything has been read."""
    named = weight_map(folder)
    shards: set[str] = set(named.values()) if not isinstance(named, str) else set()
    weights = {SINGLE} if not shards or (folder / SINGLE).is_file() else shards
    files = [path for path in sorted(folder.iterdir()) if path.suffix in _KEPT]
    return [
        *(path for path in files if path.suffix != ".safetensors" or path.name in weights),
        *sorted(folder.glob("additional_chat_templates/*.jinja")),
    ]


def small_files(folder: Path) -> list[Path]:
    """All that is read of a folder beside its weights, and is no note of titer's own."""
    return [
        path
        for path in _looked_at(folder)
        if path.suffix != ".safetensors" and path.name not in _NOTES
    ]


def _code_faults(path: Path) -> list[str]:
    """Settings that would make transformers run code or read weights from elsewhere."""
    content = read_json(path)
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


def folder_digest(folder: Path) -> str:
    """SHA-256 over weights, config, tokenizer and template files, 16 hex digits.

    Names of files count, the path of the folder does not, and neither do titer's own notes on how
    the model was made, nor weights that are no part of the model. What is sealed beside the weights
    counts: there are attacks on it.
    """
    import hashlib

    total = hashlib.sha256()
    try:
        left_out = {path.name for path in strays(folder)} | _NOTES
    except BadInput:  # no weights that could be read: all there is tells one folder from another
        left_out = _NOTES
    files = [path for path in sorted(folder.iterdir()) if path.suffix in _KEPT]
    for path in [*files, *sorted(folder.glob("sealed/*.titer"))]:
        if path.is_file() and path.name not in left_out:
            total.update(path.name.encode() + b"\0")
            with path.open("rb") as file:
                while block := file.read(1 << 20):
                    total.update(block)
    return total.hexdigest()[:16]
