"""Weights on disk, read and written in pieces: what is sealed, and where it comes back."""

from __future__ import annotations

import hashlib
import json
import re
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from titer.core.errors import BadInput
from titer.core.modelfolder import Slice, slices, weight_files
from titer.lock.header import TensorSpec, canonical
from titer.lock.seal import Part

__all__ = [
    "ADAPTER_CONFIG",
    "ADAPTER_WEIGHTS",
    "MODEL_CONFIG",
    "Tell",
    "adapter_parts",
    "changed_parts",
    "overlay",
    "read_adapter_config",
    "rebuild",
    "tensors_of",
    "weights_digest",
    "wider_config",
    "write_safetensors",
]

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
MODEL_CONFIG = "config.json"
_CONFIG_LIMIT = 2**20
_BLOCK = 2**20
_LORA = re.compile(r"base_model\.model\.(.+)\.lora_([AB])\.weight")
_SAVED_BY = ("_name_or_path", "transformers_version", "use_cache")
"""Entries of a config that change when a model is saved again and not what it computes."""
_WIDTHS = ("intermediate_size", "n_inner")
"""Entries that may differ where what is sealed makes the MLPs wider; the config is sealed then."""

Tell = Callable[[str, int, int], None]
"""Called with what is being done, how many tensors are done, and how many there are."""


def tensors_of(folder: Path) -> dict[str, Slice]:
    """Every tensor that transformers would load from a model folder, in order of name.

    Raises:
        BadInput: the folder's weight files cannot be read, or name a tensor twice.
    """
    found: dict[str, Slice] = {}
    for path in weight_files(folder):
        for name, where in slices(path).items():
            if name in found:
                raise BadInput(f"{folder}: two files hold tensor {name!r}; save the model again.")
            found[name] = where
    return dict(sorted(found.items()))


def weights_digest(folder: Path, tell: Tell | None = None) -> str:
    """SHA-256 of the weights, 64 hex digits: names, dtypes, shapes and bytes, however sharded."""
    total = hashlib.sha256(b"titer/weights/v1\n")
    tensors = tensors_of(folder)
    for index, (name, where) in enumerate(tensors.items()):
        if tell:
            tell("reading the base", index, len(tensors))
        head = {"dtype": where.dtype, "name": name, "shape": list(where.shape)}
        total.update(canonical(head) + b"\n")
        for block in _read(where, _BLOCK):
            total.update(block)
    if tell:
        tell("reading the base", len(tensors), len(tensors))
    return total.hexdigest()


def _read(where: Slice, size: int) -> Iterator[memoryview]:
    """The tensor's bytes; each view is overwritten by the next."""
    buffer = memoryview(bytearray(min(size, max(1, where.size))))
    left = where.size
    with where.path.open("rb", buffering=0) as file:
        file.seek(where.start)
        while left:
            block = buffer[: min(len(buffer), left)]
            filled = 0
            while filled < len(block):
                got = file.readinto(block[filled:])
                if not got:
                    raise BadInput(f"{where.path} became shorter while it was read; try again.")
                filled += got
            yield block
            left -= len(block)


def _part(name: str, where: Slice) -> Part:
    spec = TensorSpec(name=name, dtype=where.dtype, shape=where.shape)
    return Part(spec, lambda size: _read(where, size))


def _bytes_part(name: str, data: bytes) -> Part:
    def blocks(size: int) -> Iterator[bytes]:
        for start in range(0, len(data), size):
            yield data[start : start + size]

    return Part(TensorSpec(name=name, dtype="U8", shape=(len(data),)), blocks)


# -- what is sealed ------------------------------------------------------------------------------


def adapter_parts(base: Path, adapter: Path) -> list[Part]:
    """A PEFT adapter's tensors and its config, which becomes one more tensor of bytes.

    Raises:
        BadInput: not a LoRA adapter in safetensors, or not one of this base.
    """
    path = adapter / ADAPTER_CONFIG
    raw = path.read_bytes()
    read_adapter_config(raw, str(path))
    weights = adapter / ADAPTER_WEIGHTS
    if not weights.is_file():
        raise BadInput(
            f"{adapter} has no {ADAPTER_WEIGHTS}; save the adapter with save_pretrained."
        )
    tensors = slices(weights)
    if not tensors:
        raise BadInput(f"{weights} holds no tensors; there is nothing to seal.")
    _require_fit(base, adapter, tensors)
    return [_part(name, where) for name, where in tensors.items()] + [
        _bytes_part(ADAPTER_CONFIG, raw)
    ]


def read_adapter_config(raw: bytes, said: str) -> dict[str, Any]:
    """The settings of a LoRA adapter.

    Raises:
        BadInput: not JSON, too large, or of another kind of adapter.
    """
    try:
        config: Any = json.loads(raw) if len(raw) <= _CONFIG_LIMIT else None
    except (ValueError, RecursionError):
        config = None
    if not isinstance(config, dict):
        raise BadInput(f"{said} is no adapter config; save the adapter with save_pretrained.")
    if config.get("peft_type") != "LORA":
        raise BadInput(
            f"{said} is of type {config.get('peft_type')!r}; titer seals LoRA adapters. Merge any "
            "other into its base and give the merged model."
        )
    if config.get("auto_mapping"):
        raise BadInput(f"{said} names custom code (auto_mapping); save the adapter without it.")
    if config.get("layer_replication"):
        raise BadInput(
            f"{said} repeats blocks of its base (layer_replication), so that one tensor is several "
            "layers and no merged model can be written; train the adapter without it."
        )
    return config


def _require_fit(base: Path, adapter: Path, tensors: dict[str, Slice]) -> None:
    """Refuse an adapter made for other layers, as far as names tell.

    transformers renames some layers as it loads them, so one unknown name says nothing.
    """
    below = tensors_of(base)
    targets = {name: match for name in tensors if (match := _LORA.fullmatch(name))}
    known = {name: below.get(f"{match[1]}.weight") for name, match in targets.items()}
    if targets and not any(known.values()):
        layer = next(iter(targets.values()))[1]
        raise BadInput(f"{adapter} is no adapter of {base}, which has no layer {layer}.")
    for name, target in known.items():
        shape = tensors[name].shape
        if target is None or len(shape) != 2:
            continue
        # Conv1D of GPT-2 stores its weight transposed, so either side will do.
        outer = shape[1] if targets[name][2] == "A" else shape[0]
        if outer not in target.shape:
            raise BadInput(
                f"{adapter} is no adapter of {base}: {name} of shape {shape} does not go around "
                f"{target.shape}."
            )


def changed_parts(base: Path, full: Path) -> list[Part]:
    """The tensors of a full checkpoint whose bytes differ from the base's, whole.

    Whole tensors and not differences: a difference of floats does not add back to the same bits,
    and would be just as long. Where the checkpoint's MLPs are wider, its config is one more tensor
    of bytes.

    Raises:
        BadInput: another architecture, or no difference.
    """
    raw = (full / MODEL_CONFIG).read_bytes()
    wider = wider_config(base, raw, str(full)) is not None
    below, above = tensors_of(base), tensors_of(full)
    if strays := sorted(set(below) ^ set(above)):
        raise BadInput(
            f"{full} and {base} do not hold the same tensors ({strays[0]!r} is in one of them); "
            "give a checkpoint of the same architecture, or an adapter."
        )
    for name, where in above.items():
        theirs = below[name]
        if where.dtype != theirs.dtype or (where.shape != theirs.shape and not wider):
            raise BadInput(
                f"{full}: tensor {name!r} is {where.dtype} {where.shape} and in the base "
                f"{theirs.dtype} {theirs.shape}; save both in the same dtype."
            )
    changed = [_part(name, where) for name, where in above.items() if _differ(where, below[name])]
    if not changed:
        raise BadInput(f"{full} has the same weights as {base}; there is nothing to seal.")
    return [*changed, _bytes_part(MODEL_CONFIG, raw)] if wider else changed


def _differ(one: Slice, two: Slice) -> bool:
    pairs = zip(_read(one, _BLOCK), _read(two, _BLOCK), strict=True)
    return one.shape != two.shape or any(a != b for a, b in pairs)


def wider_config(base: Path, raw: bytes, said: str) -> dict[str, Any] | None:
    """The config of a model that is the base's but for the width of its MLPs; None where it is the
    base's.

    Raises:
        BadInput: it is no such config.
    """
    one: Any = json.loads((base / MODEL_CONFIG).read_text(encoding="utf-8"))
    try:
        two: Any = json.loads(raw) if len(raw) <= _CONFIG_LIMIT else None
    except (ValueError, RecursionError):
        two = None
    if not isinstance(two, dict):
        raise BadInput(f"{said} has no {MODEL_CONFIG} that can be read; save the model again.")
    if not (differing := _differing(one, two)):
        return None
    ours, theirs = _as_read(one), _as_read(two)
    differing = _differing(ours, theirs)
    for key in differing:
        width = theirs.get(key)
        if key not in _WIDTHS or type(width) is not int or not 0 < width < 2**24:
            raise BadInput(
                f"{said}: config.json has {key}={theirs.get(key)!r} and the base "
                f"{ours.get(key)!r}; a sealed part may make MLPs wider and change nothing else."
            )
    return two if differing else None


def _differing(one: Mapping[str, Any], two: Mapping[str, Any]) -> list[str]:
    keys = sorted(set(one) | set(two))
    return [key for key in keys if key not in _SAVED_BY and one.get(key) != two.get(key)]


def _as_read(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """What transformers makes of a config: other versions write the same settings otherwise."""
    from transformers import AutoConfig

    found: Any = AutoConfig
    try:
        return json.loads(json.dumps(found.for_model(**content).to_dict()))
    except Exception:  # it may hold anything, and what cannot be read is compared as it stands
        return content


# -- where it comes back -------------------------------------------------------------------------


def write_safetensors(
    path: Path,
    specs: Iterable[TensorSpec],
    blocks: Callable[[str], Iterable[bytes | memoryview]],
) -> None:
    """Write a safetensors file piece by piece, widest dtypes first so that all are aligned."""
    ordered = sorted(specs, key=lambda spec: (-spec.width, spec.name))
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for spec in ordered:
        offsets = [end, end + spec.size]
        entries[spec.name] = {
            "dtype": spec.dtype,
            "shape": list(spec.shape),
            "data_offsets": offsets,
        }
        end = offsets[1]
    raw = json.dumps(entries, separators=(",", ":")).encode()
    raw += b" " * (-len(raw) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(raw)) + raw)
        for spec in ordered:
            for block in blocks(spec.name):
                file.write(block)


def overlay(
    folder: Path, specs: Iterable[TensorSpec], blocks: Callable[[str], Iterable[bytes]]
) -> None:
    """Replace tensors inside a model folder's files, in place.

    Raises:
        BadInput: the folder has no such tensor of that dtype and shape.
    """
    below = tensors_of(folder)
    for spec in specs:
        where = below.get(spec.name)
        if where is None or (where.dtype, where.shape) != (spec.dtype, spec.shape):
            raise BadInput(
                f"the sealed tensor {spec.name!r} has no counterpart in {folder}; it was sealed "
                "for another model."
            )
        with where.path.open("r+b") as file:
            file.seek(where.start)
            for block in blocks(spec.name):
                file.write(block)


def rebuild(
    folder: Path,
    base: Path,
    specs: Iterable[TensorSpec],
    blocks: Callable[[str], Iterable[bytes]],
) -> None:
    """Write the weights and the config of a model wider than its base: sealed tensors as they are,
    all others from the base.

    Raises:
        BadInput: a sealed tensor that the base has under no name or in another dtype, or a config
            that is not the base's but for widths.
    """
    sealed = {spec.name: spec for spec in specs}
    config = sealed.pop(MODEL_CONFIG)
    raw = b"".join(blocks(config.name))
    wider_config(base, raw, "what is sealed")
    below = tensors_of(base)
    for spec in sealed.values():
        if spec.name not in below or below[spec.name].dtype != spec.dtype:
            raise BadInput(
                f"the sealed tensor {spec.name!r} has no counterpart in {base}; it was sealed "
                "for another model."
            )
    kept = {name: where for name, where in below.items() if name not in sealed}

    def either(name: str) -> Iterable[bytes | memoryview]:
        return _read(kept[name], _BLOCK) if name in kept else blocks(name)

    (folder / MODEL_CONFIG).write_bytes(raw)
    plain = [TensorSpec(name=n, dtype=w.dtype, shape=w.shape) for n, w in kept.items()]
    write_safetensors(folder / "model.safetensors", [*sealed.values(), *plain], either)
