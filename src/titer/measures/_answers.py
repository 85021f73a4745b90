"""Reading a table of prompts and answers from a CSV or JSONL file that may be anything."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from titer.core.errors import BadInput, nearest
from titer.measures._refusal_text import LABELS, Label

__all__ = ["Answer", "read_answers"]

_REQUIRED: Final = ("prompt", "completion")
_LABEL: Final = "final_label"
_HARM: Final = "harmful"
_YES_NO: Final = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}
_SAVE: Final = "save it as 'CSV UTF-8 (comma delimited)'"
# The labels as they stand in XSTest, and without their numbers.
_KNOWN: Final[dict[str, Label]] = {
    "1_full_compliance": "full_compliance",
    "2_full_refusal": "full_refusal",
    "3_partial_refusal": "partial_refusal",
    **{label: label for label in LABELS},
}


@dataclass(frozen=True)
class Answer:
    """One prompt, the model's ``completion``, and what people said of it, if they did: the label of
    a refusal, and whether it is harmful."""

    prompt: str
    completion: str
    final_label: Label | None = None
    harmful: bool | None = None


def read_answers(path: str | Path) -> tuple[Answer, ...]:
    """Read the columns ``prompt``, ``completion`` and, if there, ``final_label`` and ``harmful`` of
    ``path``.

    ``path`` ends in ``.csv`` (a header row, RFC 4180 quoting, fields over several lines allowed)
    or ``.jsonl`` (one object a line; blank lines are skipped), in UTF-8 with or without a byte
    order mark. Other columns are ignored. An answer may be empty; a label may not, once any row
    has one. Raises `BadInput` for every fault, naming the file and the row or line.
    """
    path = Path(path)
    text = _text(path)
    rows = _csv_rows(path, text) if path.suffix.lower() == ".csv" else list(_json_rows(path, text))
    if not rows:
        raise BadInput(f"{path} holds no answers; give it at least one row below the header.")
    said = {
        name for name in (_LABEL, _HARM) if any(row.get(name) not in (None, "") for _, row in rows)
    }
    return tuple(_answer(path, where, row, said) for where, row in rows)


def _text(path: Path) -> str:
    if path.suffix.lower() not in {".csv", ".jsonl"}:
        raise BadInput(
            f"{path} ends in {path.suffix!r}; answers are read from a .csv or .jsonl file, so"
            " convert or rename it."
        )
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise BadInput(f"{path} does not exist; give the path of a .csv or .jsonl file.") from None
    except OSError as fault:
        reason = fault.strerror or "unknown fault"
        raise BadInput(f"{path} cannot be read ({reason}); give a readable file.") from None
    _refuse_other_encodings(path, raw)
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as fault:
        raise BadInput(
            f"{path} is not UTF-8 (byte {fault.start} is 0x{raw[fault.start]:02x}); it may be"
            f" Windows-1252, as Excel writes CSV, so {_SAVE}."
        ) from None
    if not text.strip():
        raise BadInput(f"{path} is empty; it needs the columns prompt and completion and a row.")
    return text


def _refuse_other_encodings(path: Path, raw: bytes) -> None:
    """A sentence for what office programs write under these names."""
    start = raw[:400]
    if start.startswith(b"PK\x03\x04"):
        raise BadInput(f"{path} is a workbook (.xlsx) by its content, not a text table; {_SAVE}.")
    if start.startswith((b"\xff\xfe", b"\xfe\xff")) or start.count(0) > len(start) // 4:
        raise BadInput(f"{path} is UTF-16, which Excel writes as 'Unicode Text'; {_SAVE}.")


def _check_separator(path: Path, text: str) -> None:
    """Refuse CSV of another dialect than RFC 4180's by what it is."""
    first = text.lstrip("\ufeff").split("\n", 1)[0].strip()
    if not first:
        raise BadInput(f"{path}: its first line is blank; delete it, the header stands first.")
    if first.lower().startswith("sep="):
        raise BadInput(
            f"{path}: its first line is {first[:8]!r}, which only Excel reads; delete that line and"
            " separate fields by commas."
        )
    for name, mark in (("semicolons", ";"), ("tabs", "\t"), ("bars", "|")):
        cells = {cell.strip().strip('"').lower() for cell in first.split(mark)}
        if cells.issuperset(_REQUIRED):
            raise BadInput(
                f"{path}: its fields are separated by {name}, as spreadsheets do where the comma is"
                f" a decimal mark; separate them by commas: {_SAVE}, or write it as .jsonl."
            )


def _csv_rows(path: Path, text: str) -> list[tuple[str, Mapping[str, object]]]:
    rows: list[tuple[str, Mapping[str, object]]] = []
    _check_separator(path, text)
    # Answers may be longer than the csv module's limit, which holds for the whole process.
    limit = csv.field_size_limit(max(csv.field_size_limit(), len(text)))
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = [name.strip() for name in next(reader)]
        _check_columns(path, header, "its header")
        for cells in reader:
            where = f"line {reader.line_num}"
            if not cells:
                continue
            if len(cells) != len(header):
                raise BadInput(
                    f"{path}, {where}: {len(cells)} fields where the header has {len(header)};"
                    " quote the fields that hold commas."
                )
            rows.append((where, dict(zip(header, cells, strict=True))))
    except csv.Error as fault:
        raise BadInput(
            f"{path}, line {reader.line_num}: not valid CSV ({fault}); quote the field as RFC 4180"
            " asks."
        ) from None
    finally:
        csv.field_size_limit(limit)
    return rows


def _refuse_an_array(path: Path, text: str) -> None:
    if not text.lstrip().startswith("["):
        return
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):
        return  # the line that is at fault is named by who reads line by line
    if any(isinstance(item, dict) for item in whole):
        raise BadInput(
            f"{path} is one JSON array of {len(whole)}; write one object on each line and no"
            " brackets around them (jq -c '.[]')."
        )


def _json_rows(path: Path, text: str) -> Iterator[tuple[str, Mapping[str, object]]]:
    _refuse_an_array(path, text)
    # Only \n ends a line of JSONL: a string may hold other characters that end a line of text.
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        where = f"line {number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as fault:
            reason = getattr(fault, "msg", "nested too deeply or a number too long")
            raise BadInput(
                f"{path}, {where}: not valid JSON ({reason}); write one object on each line."
            ) from None
        if not isinstance(row, dict):
            raise BadInput(
                f"{path}, {where}: a JSON {type(row).__name__} where an object with prompt and"
                " completion belongs; write one object on each line."
            )
        _check_columns(path, list(row), where)
        yield where, row


def _check_columns(path: Path, names: list[str], where: str) -> None:
    twice = sorted({name for name in (*_REQUIRED, _LABEL, _HARM) if names.count(name) > 1})
    if twice:
        raise BadInput(f"{path}: column {twice[0]!r} stands twice in {where}; keep one of them.")
    for wanted in _REQUIRED:
        if wanted not in names:
            near = nearest(wanted, [name for name in names if name not in _REQUIRED])
            raise BadInput(
                f"{path}: no column {wanted!r} in {where}; prompt and completion are needed, so"
                f" add or rename it.{near}"
            )


def _answer(path: Path, where: str, row: Mapping[str, object], said: set[str]) -> Answer:
    texts: dict[str, str] = {}
    for name in _REQUIRED:
        value = row[name]
        if not isinstance(value, str):
            kind = "null" if value is None else type(value).__name__
            raise BadInput(f"{path}, {where}: {name} is {kind}; it must be a string, so quote it.")
        texts[name] = value
    label = _label(path, where, row) if _LABEL in said else None
    harmful = _harmful(path, where, row) if _HARM in said else None
    return Answer(texts["prompt"], texts["completion"], label, harmful)


def _harmful(path: Path, where: str, row: Mapping[str, object]) -> bool:
    given = row.get(_HARM)
    found = _YES_NO.get(str(given).strip().lower())
    if found is None:
        raise BadInput(
            f"{path}, {where}: harmful is {repr(given)[:60]}; it must be yes or no (or true and "
            "false, 1 and 0) in every row or in none, so correct it."
        )
    return found


def _label(path: Path, where: str, row: Mapping[str, object]) -> Label:
    given = row.get(_LABEL)
    label = _KNOWN.get(given.strip()) if isinstance(given, str) else None
    if label is None:
        shown = repr(given)[:60]
        hint = nearest(given, _KNOWN) if isinstance(given, str) and len(given) < 60 else ""
        raise BadInput(
            f"{path}, {where}: final_label is {shown}; it must be 1_full_compliance,"
            f" 2_full_refusal or 3_partial_refusal in every row (or in none), so correct it.{hint}"
        )
    return label
