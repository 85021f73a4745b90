"""The interface of a model: all of a release that is not its weights, compared with another's.

A tokenizer, a chat template, a generation config and a configuration decide what a model says as
much as its weights do, and whoever attacks a release puts others in their place. No torch here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from titer.core.errors import BadInput
from titer.core.modelfolder import tensor_shapes
from titer.core.tokenizer import faithful

__all__ = ["differences", "exchangeable"]

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
class _Told:
    """The interface of one folder, part by part."""

    config: Mapping[str, Any]
    generation: Mapping[str, Any]
    vocabulary: Mapping[str, int]
    tokenizer: Mapping[str, Any]
    special: Mapping[str, Any]
    template: Any


def differences(folder: Path, other: Path) -> tuple[str, ...]:
    """What of a model's interface is not that of ``other``, a phrase a part; empty where nothing is.

    Files that are alike to the byte are not opened.

    Raises:
        BadInput: a tokenizer or a configuration cannot be read.
    """
    if _files(folder) == _files(other):
        return ()
    mine, theirs = _read(folder), _read(other)
    found = [*_vocabularies(mine.vocabulary, theirs.vocabulary)]
    found += _values(mine.tokenizer, theirs.tokenizer, "", bare=True)
    found += _values(mine.special, theirs.special, "")
    found += ["chat template"] if mine.template != theirs.template else []
    found += _values(mine.generation, theirs.generation, "generation ")
    settings = [*_values(mine.config, theirs.config, "config ")]
    found += settings
    if settings and tensor_shapes(folder) != tensor_shapes(other):
        found.append("other tensors, so the configuration cannot be exchanged")
    more = len(found) - _SHOWN
    return (*found[:_SHOWN], *([f"{more} more"] if more > 0 else []))


def exchangeable(mine: Mapping[str, int], theirs: Mapping[str, int], rows: int) -> bool:
    """Whether a model with the vocabulary ``mine`` and so many embedding ``rows`` can be given
    ``theirs``: every word of both has one id, no id has two words, and each has a row."""
    at = {token: word for word, token in mine.items()}
    return all(
        token < rows and mine.get(word, token) == token and at.get(token, word) == word
        for word, token in theirs.items()
    )


def _files(folder: Path) -> dict[str, bytes]:
    found = {path for glob in _FILES for path in folder.glob(glob) if path.is_file()}
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(found)
        if not _NOT_ASKED.fullmatch(path.name)
    }


def _read(folder: Path) -> _Told:
    import transformers

    hub: Any = transformers
    asked: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        config: dict[str, Any] = hub.AutoConfig.from_pretrained(folder, **asked).to_dict()
        tokenizer = faithful(hub.AutoTokenizer.from_pretrained(folder, **asked), folder)
        return _Told(
            config=_flat(config),
            generation=_generation(folder, config),
            vocabulary=tokenizer.get_vocab(),
            tokenizer=_tokenizer(tokenizer),
            special=_special(tokenizer),
            template=tokenizer.chat_template,
        )
    except Exception as error:
        first = " ".join(str(error).split())[:200] or type(error).__name__
        raise BadInput(
            f"{folder}: the tokenizer or the configuration cannot be read ({first}); save the "
            "model and its tokenizer again."
        ) from error


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


def _generation(folder: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """A generation config without what the configuration says already."""
    path = folder / "generation_config.json"
    told: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return {
        key: value
        for key, value in _flat(told).items()
        if value is not None and not (key in config and config[key] == value)
    }


def _tokenizer(tokenizer: Any) -> dict[str, Any]:
    """How text is cut, without the vocabulary."""
    found: dict[str, Any] = {"tokeniser's clean-up": tokenizer.clean_up_tokenization_spaces}
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return {**found, "tokeniser": type(tokenizer).__name__}
    whole: dict[str, Any] = json.loads(backend.to_str())
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
        if isinstance(token, str)
    }
    named.setdefault("pad_token", named.get("eos_token", ""))
    return named


def _vocabularies(mine: Mapping[str, int], theirs: Mapping[str, int]) -> Iterator[str]:
    fewer, more = theirs.keys() - mine.keys(), mine.keys() - theirs.keys()
    other = [word for word in mine.keys() & theirs.keys() if mine[word] != theirs[word]]
    if fewer:
        yield f"vocabulary: {len(fewer):,} words fewer"
    if more:
        yield f"vocabulary: {len(more):,} words more"
    if other:
        yield f"vocabulary: {len(other):,} words with other ids, so it cannot be exchanged"


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
