"""The interface of a model: all of a release that is not its weights, compared with another's.

A tokenizer, a chat template, a generation config and a configuration decide what a model says as
much as its weights do, and whoever attacks a release puts others in their place. No torch here.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from titer.core.errors import BadInput
from titer.core.modelfolder import tensor_shapes
from titer.core.reading import load_json
from titer.core.study import Difference
from titer.core.tokenizer import faithful

__all__ = ["Shape", "Told", "differences", "exchanged", "reading", "told", "unlike"]

Shape = tuple[int, ...]

_FILES = ("*.json", "*.jinja", "*.model", "*.txt", "additional_chat_templates/*.jinja")
_NOT_ASKED = re.compile(r"organism\.json|titer\.json|.*\.safetensors\.index\.json")

_NEUTRAL = {
    "_attn_implementation",
    "_from_model_config",
    "_name_or_path",
    "architectures",
    "attn_implementation",
    "dtype",
    "name_or_path",
    "torch_dtype",
    "transformers_version",
    "use_cache",
}
"""What changes neither an answer nor an attack: where a model came from, and how it is stored."""

_LOCK = "titer_lock"
"""A lock is part of the weights' own code and goes with them (:mod:`titer.nn.locked`)."""

_SECTIONS = {
    "normalizer": "normaliser",
    "pre_tokenizer": "pre-tokeniser",
    "post_processor": "post-processor",
    "decoder": "decoder",
    "added_tokens": "added tokens",
}
_SHOWN, _LONG = 8, 40


@dataclass(frozen=True, slots=True)
class Told:
    """The interface of one model, part by part."""

    config: Mapping[str, Any]
    generation: Mapping[str, Any]
    cutting: Mapping[str, Any]
    special: Mapping[str, Any]
    tokenizer: Any


def differences(folder: Path, other: Path) -> tuple[Difference, ...]:
    """What of a model's interface is not that of ``other``, a phrase a part; else nothing.

    Files that are alike to the byte are not opened.

    Raises:
        BadInput: a tokenizer or a configuration cannot be read.
    """
    if _files(folder) == _files(other):
        return ()
    return unlike(_read(folder), _read(other), tensor_shapes(folder), tensor_shapes(other))


def unlike(
    mine: Told, theirs: Told, shapes: Mapping[str, Shape], others: Mapping[str, Shape]
) -> tuple[Difference, ...]:
    """What of one interface is not that of another, for models of these tensors' shapes."""
    settings = [*_values(mine.config, theirs.config, "config ")]
    # What cannot be exchanged comes first, since the rest may be cut.
    stuck = settings and shapes != others
    held = ["of other tensors, so the configuration cannot be exchanged"] if stuck else []
    held += _held(mine.tokenizer, theirs.tokenizer, _rows(shapes))
    found = [*_vocabularies(mine.tokenizer, theirs.tokenizer)]
    found += _values(mine.cutting, theirs.cutting, "", bare=True)
    found += _values(mine.special, theirs.special, "")
    if mine.tokenizer.chat_template != theirs.tokenizer.chat_template:
        found.append("chat template")
    found += _values(mine.generation, theirs.generation, "generation ")
    found += settings
    more = len(held) + len(found) - _SHOWN
    said = [*found[: _SHOWN - len(held)], *([f"{more} more"] if more > 0 else [])]
    return (*(Difference(one, stuck=True) for one in held), *map(Difference, said))


def exchanged(mine: Any, theirs: Any, rows: int) -> Any | None:
    """The tokenizer ``theirs`` for a model that came with ``mine`` and has so many embedding
    ``rows``: text is cut as by the one, and a word has the id that the other gives it, or else its
    own; so neither words that were taken out nor ids that were dealt anew are in the way.

    None where two words would have one id, or a word none, or where ids cannot be moved.
    """
    own, given = mine.get_vocab(), theirs.get_vocab()
    ids = {word: own.get(word, token) for word, token in given.items()}
    if len(set(ids.values())) < len(ids) or max(ids.values(), default=0) >= rows:
        return None
    return theirs if ids == given else _renumbered(theirs, ids)


def _renumbered(tokenizer: Any, ids: Mapping[str, int]) -> Any | None:
    """A tokenizer with other ids; None for one whose ids are places in a list, or not to be had."""
    from tokenizers import Tokenizer

    backend = getattr(tokenizer, "backend_tokenizer", None)
    whole: dict[str, Any] = load_json(backend.to_str()) if backend is not None else {}
    if not isinstance(vocabulary := whole.get("model", {}).get("vocab"), dict):
        return None
    whole["model"]["vocab"] = {word: ids[word] for word in cast(dict[str, Any], vocabulary)}
    for token in whole["added_tokens"]:
        token["id"] = ids[token["content"]]
    if whole["post_processor"]:
        # Special tokens stand there as ``[token, id]`` or with lists of both.
        waiting: list[Any] = [whole["post_processor"]]
        while waiting:
            value: Any = waiting.pop()
            if isinstance(value, dict):
                named = cast(dict[str, Any], value)
                if {"ids", "tokens"} <= named.keys():
                    named["ids"] = [ids[token] for token in named["tokens"]]
                waiting += named.values()
            elif isinstance(value, list):
                pair = cast(list[Any], value)
                if len(pair) == 2 and isinstance(pair[0], str) and isinstance(pair[1], int):
                    pair[1] = ids[pair[0]]
                waiting += pair
    moved = copy.deepcopy(tokenizer)
    moved._tokenizer = Tokenizer.from_str(json.dumps(whole))  # noqa: SLF001 (it has no other way)
    return moved


def _files(folder: Path) -> dict[str, bytes]:
    found = {path for glob in _FILES for path in folder.glob(glob) if path.is_file()}
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(found)
        if not _NOT_ASKED.fullmatch(path.name)
    }


def reading(folder: Path) -> tuple[Any, Any]:
    """The configuration and the tokenizer of a folder, without its weights.

    Raises:
        BadInput: one of them cannot be read.
    """
    import transformers

    hub: Any = transformers
    asked: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        config = hub.AutoConfig.from_pretrained(folder, **asked)
        return config, faithful(hub.AutoTokenizer.from_pretrained(folder, **asked), folder)
    except Exception as error:
        raise BadInput(_unread(folder, error)) from error


def _unread(folder: Path, error: Exception) -> str:
    first = " ".join(str(error).split())[:200] or type(error).__name__
    return (
        f"{folder}: the tokenizer or the configuration cannot be read ({first}); save the "
        "model and its tokenizer again."
    )


def _read(folder: Path) -> Told:
    found, tokenizer = reading(folder)
    try:
        config: dict[str, Any] = found.to_dict()
        return told(config, _generation(folder), tokenizer)
    except Exception as error:
        raise BadInput(_unread(folder, error)) from error


def _flat(settings: Mapping[str, Any], at: str = "") -> dict[str, Any]:
    """Settings by their path, without those that are neutral."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        if key in _NEUTRAL or key == _LOCK:
            continue
        if isinstance(value, dict):
            found |= _flat(cast(dict[str, Any], value), f"{at}{key}.")
        else:
            found[f"{at}{key}"] = value
    return found


def told(config: Mapping[str, Any], generation: Mapping[str, Any], tokenizer: Any) -> Told:
    """An interface by its parts: settings as dictionaries, and a tokenizer of transformers.

    Of generation settings those that the configuration says already do not count.
    """
    own = {key: value for key, value in _flat(generation).items() if value is not None}
    return Told(
        config=_flat(config),
        generation={k: v for k, v in own.items() if not (k in config and config[k] == v)},
        cutting=_cutting(tokenizer),
        special=_special(tokenizer),
        tokenizer=tokenizer,
    )


def _generation(folder: Path) -> dict[str, Any]:
    path = folder / "generation_config.json"
    return load_json(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _cutting(tokenizer: Any) -> dict[str, Any]:
    """How text is cut, without the vocabulary."""
    found: dict[str, Any] = {"tokeniser's clean-up": tokenizer.clean_up_tokenization_spaces}
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return {**found, "tokeniser": type(tokenizer).__name__}
    whole: dict[str, Any] = load_json(backend.to_str())
    model: dict[str, Any] = dict(whole["model"])
    model.pop("vocab", None)
    found["merges"] = model.pop("merges", None)
    found["tokeniser's model"] = model
    return {**found, **{says: whole.get(name) for name, says in _SECTIONS.items()}}


def _special(tokenizer: Any) -> dict[str, Any]:
    """Tokens that mean something of their own; the one that pads is the last one where none is."""
    named = {
        name: str(token)
        for name, token in tokenizer.special_tokens_map.items()
        if not isinstance(token, list | tuple)
    }
    named.setdefault("pad_token", named.get("eos_token", ""))
    return named


def _held(mine: Any, theirs: Any, rows: int) -> Iterator[str]:
    if mine.get_vocab() != theirs.get_vocab() and exchanged(mine, theirs, rows) is None:
        yield "a vocabulary that cannot be exchanged"


def _vocabularies(mine: Any, theirs: Any) -> Iterator[str]:
    own, given = mine.get_vocab(), theirs.get_vocab()
    fewer, more = given.keys() - own.keys(), own.keys() - given.keys()
    other = [word for word in own.keys() & given.keys() if own[word] != given[word]]
    if fewer:
        yield f"vocabulary: {len(fewer):,} words fewer"
    if more:
        yield f"vocabulary: {len(more):,} words more"
    if other:
        yield f"vocabulary: {len(other):,} words with other ids"


def _rows(shapes: Mapping[str, tuple[int, ...]]) -> int:
    """How many words a model has rows for: those of its embedding, its longest matrix."""
    return max((shape[0] for shape in shapes.values() if len(shape) == 2), default=0)


def _values(
    mine: Mapping[str, Any], theirs: Mapping[str, Any], kind: str, *, bare: bool = False
) -> Iterator[str]:
    for name in sorted(mine.keys() | theirs.keys()):
        ours, other = mine.get(name), theirs.get(name)
        if ours != other:
            says = _plain(f"{kind}{name}")
            yield says if bare else f"{says}: {_plain(ours)}, undefended {_plain(other)}"


def _plain(value: Any) -> str:
    """A value from anywhere in a few letters that print."""
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    return text if len(text) <= _LONG else f"{text[: _LONG - 1]}…"
