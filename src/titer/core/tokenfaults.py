"""What is wrong with a folder's tokenizer: that it cannot be read, or knows tokens that the model
has no row for."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from titer.core.weightfaults import SHOWN
from titer.core.weightfiles import read_json, tensor_shapes

__all__ = ["match_faults", "tokenizer_faults"]

_EMBEDDINGS = (
    "embed_tokens.weight",
    "wte.weight",
    "embed_in.weight",
    "word_embeddings.weight",
    "backbone.embeddings.weight",
)


def tokenizer_faults(folder: Path) -> list[str]:
    """What is wrong with a model folder's tokenizer files, a sentence each; none where they can be
    read."""
    if (folder / "tokenizer.json").exists():
        return []
    pieces = next(
        (name for name in ("tokenizer.model", "spiece.model") if (folder / name).exists()), ""
    )
    lacking = [
        name
        for name, module in (("sentencepiece", "sentencepiece"), ("protobuf", "google.protobuf"))
        if not _installed(module)
    ]
    if pieces and lacking:
        return [
            f"{folder} has its tokenizer only as sentencepiece ({pieces}) and no tokenizer.json; "
            f"`pip install {' '.join(lacking)}` so that it can be converted, or save the tokenizer "
            "with save_pretrained where they are installed."
        ]
    if not (folder / "tokenizer_config.json").exists():
        return [f"{folder} has no tokenizer.json; save the tokenizer beside the model."]
    return []


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def match_faults(folder: Path, config: Mapping[str, Any]) -> list[str]:
    """Tokens that the embedding has no row for, whoever names them."""
    rows = next(
        (
            shape[0]
            for name, shape in tensor_shapes(folder, config).items()
            if len(shape) == 2 and name.endswith(_EMBEDDINGS)
        ),
        None,
    )
    if rows is None:
        return []
    found: list[str] = []
    for name in ("config.json", "generation_config.json"):
        content = read_json(folder / name)
        if isinstance(content, dict):
            found += [f"{folder}: {name} {fault}" for fault in _id_faults(content, rows)]
    tokenizer = folder / "tokenizer.json"
    if not tokenizer.exists():
        return found
    content = read_json(tokenizer)
    if isinstance(content, str):
        return [*found, f"{folder}: {content}; save the tokenizer again."]
    tokens = _tokens(content)
    if tokens and max(tokens) >= rows:
        beyond = sorted(number for number in tokens if number >= rows)
        shown = ", ".join(f"{tokens[number][:40]!r} ({number:,})" for number in beyond[:SHOWN])
        found.append(
            f"{folder}: the tokenizer has ids up to {max(tokens):,} but the embedding only "
            f"{rows:,} rows, so {shown} cannot be read; use the tokenizer the model was trained "
            "with, or give each added token a row (model.resize_token_embeddings) and save both."
        )
    return found


def _id_faults(content: Mapping[str, Any], rows: int) -> Iterator[str]:
    """Special tokens of a config without a row in the embedding; -1 is an old way to say none."""
    for key in ("bos_token_id", "eos_token_id", "pad_token_id"):
        value: Any = content.get(key)
        for number in cast(list[Any], value) if isinstance(value, list) else [value]:
            if number is None or number == -1:
                continue
            if isinstance(number, bool) or not isinstance(number, int):
                yield f"has {key} {str(number)[:40]!r}; it must be a token's number."
            elif not 0 <= number < rows:
                yield (
                    f"has {key} {number:,}, and the embedding only {rows:,} rows; name a token of "
                    "the model, or null."
                )


def _tokens(tokenizer: dict[str, Any]) -> dict[int, str]:
    """Every token of a tokenizer.json by its number."""
    model: Any = tokenizer.get("model")
    vocabulary: Any = cast(dict[str, Any], model).get("vocab") if isinstance(model, dict) else None
    found: dict[Any, str] = {}
    if isinstance(vocabulary, dict):
        found |= {number: str(text) for text, number in _hashable(vocabulary)}
    elif isinstance(vocabulary, list):
        found |= {n: str(entry)[:60] for n, entry in enumerate(cast(list[Any], vocabulary))}
    added: Any = tokenizer.get("added_tokens")
    for entry in cast(list[Any], added) if isinstance(added, list) else []:
        if isinstance(entry, dict):
            one = cast(dict[str, Any], entry)
            if type(one.get("id")) is int:
                found[one["id"]] = str(one.get("content"))
    return found


def _hashable(vocabulary: Any) -> Iterator[tuple[Any, int]]:
    for text, number in cast(dict[str, Any], vocabulary).items():
        if type(number) is int:
            yield text, number
