"""From lines of text to examples: every line is checked, and every fault says where it is."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, cast

from titer.core.data import Example
from titer.core.errors import BadInput, nearest
from titer.worlds import hub
from titer.worlds._schema import Source
from titer.worlds._sniff import require_lines, require_own_shape

__all__ = ["Needs", "Row", "confined", "read_source"]

KEYS = tuple(spec.name for spec in fields(Example))
LISTS = ("choices", "steps")
_MAX_LINE = 2**20
_MAX_LINES = 1_000_000
_SHOWN = 20
"""Faults that are told of one file; the rest are counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What a role asks of a line beyond its prompt: ``keys`` that must be there and not empty."""

    keys: tuple[str, ...] = ("answer",)
    why: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """An example and where it stands. ``file`` is as ``data.yaml`` names it, ``line`` from 1."""

    example: Example
    file: str
    line: int

    @property
    def place(self) -> str:
        """Where, for a sentence."""
        return f"{self.file}, line {self.line}"


def read_source(folder: Path, source: Source, needs: Needs, faults: list[str]) -> list[Row]:
    """The examples of one source. What is wrong is added to ``faults``, one sentence each."""
    found: list[Row] = []
    wrong: list[str] = []
    if unknown := [key for key in source.fields if key not in KEYS]:
        faults.extend(
            f"data.yaml: fields of {source.file} name {key!r}, which titer does not have."
            f"{nearest(key, KEYS)} It has {', '.join(KEYS)}."
            for key in unknown
        )
        return found
    try:
        for index, (line, raw) in enumerate(_records(folder, source)):
            if index == 0 and isinstance(raw, Mapping):
                first = cast(Mapping[str, object], raw)
                require_own_shape(first, source.fields, KEYS, f"{source.file}, line {line}")
            example = _example(raw, f"{source.file}, line {line}", source, line, needs, wrong)
            if example is not None:
                found.append(Row(example, source.file, line))
    except BadInput as error:
        faults.extend(error.faults)
        return found
    if not found and not wrong:
        faults.append(f"{source.file} is empty; give it at least one line.")
    faults.extend(wrong[:_SHOWN])
    if len(wrong) > _SHOWN:
        faults.append(f"{source.file} has {len(wrong) - _SHOWN:,} further faults of such kinds.")
    return found


def confined(folder: Path, name: str) -> Path:
    """The file ``name`` of a data folder.

    Raises:
        BadInput: an absolute path, one that climbs out by ``..`` or by a link, or no such file.
    """
    posix, windows = PurePosixPath(name), PureWindowsPath(name)
    absolute = posix.is_absolute() or windows.drive or windows.root
    if absolute or ".." in windows.parts or "\0" in name:
        raise BadInput(f"{name!r} in data.yaml leaves the data folder; name a file inside it.")
    path = folder / name
    try:
        inside = path.resolve().is_relative_to(folder.resolve())
        there = path.is_file()
    except (OSError, RuntimeError) as error:
        raise BadInput(f"{name!r} in data.yaml cannot be followed ({error}).") from error
    if not inside:
        raise BadInput(f"{name!r} in data.yaml is a link out of the data folder; copy the file in.")
    if not there:
        near = sorted(item.relative_to(folder).as_posix() for item in folder.rglob("*.jsonl"))
        raise BadInput(f"data.yaml names {name!r}, which is no file there.{nearest(name, near)}")
    return path


def _records(folder: Path, source: Source) -> Iterator[tuple[int, object]]:
    """Parsed records, or what is wrong with them, with line numbers; no more than the limit."""
    if source.file.startswith("hub:"):
        yield from enumerate(hub.dataset_rows(source.file, source.limit), start=1)
        return
    path = confined(folder, source.file)
    require_lines(path, source.file)
    count = 0
    with path.open("rb") as file:
        for number, data in enumerate(iter(lambda: file.readline(_MAX_LINE + 1), b""), start=1):
            if len(data) > _MAX_LINE:
                raise BadInput(f"{source.file}, line {number}: longer than {_MAX_LINE:,} bytes.")
            if number == 1:
                data = data.removeprefix(b"\xef\xbb\xbf")
            if not data.strip():
                continue
            if count == source.limit:
                return
            count += 1
            if count > _MAX_LINES:
                raise BadInput(
                    f"{source.file} has more than {_MAX_LINES:,} lines; set a limit for it."
                )
            yield number, _parse(data)


def _parse(data: bytes) -> object:
    try:
        return json.loads(data.decode("utf-8"), object_pairs_hook=_unique)
    except UnicodeDecodeError:
        return ValueError("it is not UTF-8 (if it comes from Windows: iconv -f CP1252 -t UTF-8)")
    except json.JSONDecodeError as error:
        return ValueError(f"it is not valid JSON ({error.msg} at column {error.colno})")
    except (ValueError, RecursionError) as error:
        return ValueError(f"it is not valid JSON ({error})")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        (twice, _), *_ = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"the key {twice!r} stands twice")
    return content


def _example(
    raw: object, place: str, source: Source, line: int, needs: Needs, faults: list[str]
) -> Example | None:
    if not isinstance(raw, Mapping):
        fault = raw if isinstance(raw, ValueError) else f"it holds {_kind(raw)}, not an object"
        faults.append(f"{place}: {fault}.")
        return None
    content = cast(Mapping[str, Any], raw)
    wrong: list[str] = []
    required = ("prompt", *needs.keys)
    if source.fields:
        named = dict(source.fields)
        values = {key: content[own] for key, own in named.items() if own in content}
    else:
        named = {key: key for key in KEYS}
        values = {key: content[key] for key in KEYS if key in content}
        wrong += _strays(content, required)
    read = {key: _value(key, named[key], value, wrong) for key, value in values.items()}
    guessed = " ".join(wrong)
    for key in required:
        if key not in values and f"mean {key!r}" not in guessed:
            wrong.append(_missing(key, source.fields, content, needs))
        elif key in values and read[key] in ("", ()):
            wrong.append(f"its {named[key]!r} is empty")
    if not wrong:
        wrong += _choice_faults(read)
    faults.extend(f"{place}: {fault}{'' if fault[-1] in '?.' else '.'}" for fault in wrong)
    if wrong:
        return None
    read.setdefault("answer", "")
    return Example(**{**read, "id": read.get("id") or f"{source.file}:{line}"})


def _strays(content: Mapping[str, Any], required: Iterable[str]) -> list[str]:
    absent = [key for key in required if key not in content]
    return [
        f"it has an unknown key {key!r}."
        + (nearest(key, absent) or nearest(key, KEYS) or f" Known are {', '.join(KEYS)}.")
        for key in content
        if key not in KEYS
    ]


def _missing(key: str, mapped: Mapping[str, str], content: Mapping[str, Any], needs: Needs) -> str:
    why = f", which {needs.why}" if needs.why and key in LISTS else ""
    if key in mapped:
        own = mapped[key]
        return f"it has no key {own!r}, which data.yaml gives as {key!r}.{nearest(own, content)}"
    return f"it has no key {key!r}{why}"


def _value(key: str, own: str, value: object, faults: list[str]) -> Any:
    """The value under a key as :class:`Example` wants it, or a fault."""
    if key in LISTS:
        items = cast(list[object], value) if isinstance(value, list) else [None]
        texts = tuple(item for item in items if isinstance(item, str))
        if len(texts) < len(items):
            faults.append(f"its {own!r} must be a list of strings")
        elif any(not text.strip() for text in texts):
            faults.append(f"its {own!r} holds an empty string")
        read: tuple[str, ...] | str = texts
    elif key == "id" and isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    elif isinstance(value, str):
        texts, read = (value,), value if value.strip() else ""
    else:
        faults.append(f"its {own!r} must be a string, not {_kind(value)}")
        return " "
    if any("\ud800" <= letter <= "\udfff" for text in texts for letter in text):
        # A lone surrogate has no UTF-8, so neither hash nor file could hold it.
        faults.append(f"its {own!r} holds half a character (a lone surrogate)")
    return read


def _choice_faults(read: Mapping[str, Any]) -> list[str]:
    choices: tuple[str, ...] = read.get("choices", ())
    if not choices:
        return []
    if len(choices) < 2 or len(set(choices)) < len(choices):
        return ["its 'choices' must be two or more different strings"]
    if "answer" in read and read["answer"] not in choices:
        hint = nearest(read["answer"], choices)
        return [f"its answer {read['answer'][:60]!r} is not among its choices.{hint}"]
    return []


def _kind(value: object) -> str:
    words = {
        dict: "an object", list: "a list", str: "a string", bool: "true or false", int: "a number",
        float: "a number", type(None): "null",
    }  # fmt: skip
    return words.get(type(value), type(value).__name__)
