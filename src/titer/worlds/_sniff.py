"""What a file is that should be JSON lines and is not: told before its lines are read."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path

from titer.core.errors import BadInput

__all__ = ["require_lines", "require_own_shape"]

_HEAD = 4096
_MAGIC = (
    (b"\x1f\x8b", "is compressed (gzip)", "unpack it with gunzip"),
    (b"\x28\xb5\x2f\xfd", "is compressed (zstd)", "unpack it with unzstd"),
    (b"PK\x03\x04", "is a zip archive or an Excel workbook", "unpack it, or export JSON lines"),
    (b"PAR1", "is a Parquet file", "write it with pandas: read_parquet(...)" + "{lines}"),
    (b"ARROW1", "is an Arrow file", "write it with pandas: read_feather(...)" + "{lines}"),
    (b"version https://git-lfs", "is a git-lfs pointer and not the file", "run git lfs pull"),
    (b"\xff\xfe", "is UTF-16", "save it as UTF-8: iconv -f UTF-16 -t UTF-8"),
    (b"\xfe\xff", "is UTF-16", "save it as UTF-8: iconv -f UTF-16 -t UTF-8"),
    (b"<", "is a web page or XML", "download the file itself, or export JSON lines"),
)
_TO_LINES = ".to_json(out, orient='records', lines=True)"
_SHAPES = (
    ("WMDP or MMLU", {"question", "choices", "answer"}, "prompt: question, choices: choices, "
     "answer: answer"),
    ("BeaverTails", {"prompt", "response", "is_safe"}, "prompt: prompt, answer: response"),
    ("Alpaca", {"instruction", "output"}, "prompt: instruction, answer: output"),
    ("question and answer", {"question", "answer"}, "prompt: question, answer: answer"),
    ("prompt and completion", {"prompt", "completion"}, "prompt: prompt, answer: completion"),
    ("preference pairs", {"prompt", "chosen"}, "prompt: prompt, answer: chosen"),
)  # fmt: skip
_CHATS = ("messages", "conversations", "conversation")


def require_lines(path: Path, name: str) -> None:
    """Refuse a file that holds no JSON lines at all, by what it holds.

    Raises:
        BadInput: it is of a kind that can be told by its beginning.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD)
    for magic, what, todo in _MAGIC:
        if head.startswith(magic):
            raise BadInput(f"{name} {what}; {todo.replace('{lines}', _TO_LINES)}.")
    if b"\0" in head:
        raise BadInput(
            f"{name} holds zero bytes, as UTF-16 and binary files do; save it as JSON lines in "
            "UTF-8."
        )
    text = head.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace").lstrip()
    first = text.split("\n", 1)[0].strip()
    rest = text[1:].lstrip()
    if first.startswith("[") and rest.startswith("{"):
        raise BadInput(
            f"{name} is one JSON array, and titer reads an object a line; write it with "
            "jq -c '.[]' old > new."
        )
    if first == "{" and rest.startswith('"'):
        raise BadInput(
            f"{name} is JSON over several lines, and titer reads an object a line; write it with "
            "jq -c . old > new."
        )
    if columns := _columns(text):
        raise BadInput(
            f"{name} is a table (CSV with columns {', '.join(columns[:6])}), and titer reads JSON "
            f"lines; write it with pandas: read_csv(...){_TO_LINES}."
        )


def _columns(text: str) -> list[str]:
    """The heads of a table, where the text is one and no JSON."""
    lines = [line for line in text.splitlines() if line.strip()]
    if lines and lines[0].lower().startswith("sep="):  # Excel's own first line
        lines = lines[1:]
    if len(lines) < 2 or lines[0].lstrip().startswith(("{", '"{')) or _parses(lines[0]):
        return []
    for mark in (",", ";", "\t"):
        heads, row = (next(csv.reader([line], delimiter=mark)) for line in lines[:2])
        # A row that is not cut off by a quoted line break has a cell for each head.
        if len(heads) > 1 and (len(row) == len(heads) or '"' in lines[1]):
            return [head.strip()[:40] for head in heads]
    return []


def _parses(line: str) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def require_own_shape(
    content: Mapping[str, object], fields: Mapping[str, str], known: tuple[str, ...], place: str
) -> None:
    """Refuse a file by its first line where that is of a known data set, with what to do.

    ``fields`` maps titer's keys to the file's own, empty where they are titer's; ``known`` are
    titer's keys; ``place`` says which line of which file it is.

    Raises:
        BadInput: the keys are those of another format, or answers are places among the choices.
    """
    if not fields and any(key not in known for key in content):
        for what, keys, mapping in _SHAPES:
            if keys <= content.keys():
                raise BadInput(
                    f"{place}: it has the keys of {what} ({', '.join(list(content)[:6])}); say in "
                    f"data.yaml where titer's are, beside `file:`, by `fields: {{{mapping}}}`."
                )
        if chat := next((key for key in _CHATS if isinstance(content.get(key), list)), None):
            raise BadInput(
                f"{place}: it holds conversations ({chat!r}), and titer reads one prompt and one "
                "answer a line; write each first turn as prompt and the reply as answer."
            )
    answer = content.get(fields.get("answer", "answer"))
    choices = content.get(fields.get("choices", "choices"))
    if isinstance(choices, list) and _is_place(answer, choices):
        own, among = fields.get("answer", "answer"), fields.get("choices", "choices")
        fix = f"jq -c '.{own} = .{among}[.{own}]' old > new" if isinstance(answer, int) else ""
        raise BadInput(
            f"{place}: {own!r} is {answer!r}, the place of the right answer among {among!r}, as in "
            f"WMDP and MMLU; write out the answer itself{': ' * bool(fix)}{fix}."
        )
    for key, own in (fields or {key: key for key in known}).items():
        if isinstance(value := content.get(own), dict) and value:
            inner = ", ".join(map(repr, list(value)[:3]))
            raise BadInput(
                f"{place}: {own!r} is an object ({inner}, …), as the labels of BeaverTails are, "
                f"and titer's {key!r} is text; name another key, or write one of its entries there."
            )


def _is_place(answer: object, choices: list[object]) -> bool:
    """Whether an answer is the number or the letter of a choice rather than its text."""
    if isinstance(answer, str) and len(answer) == 1 and answer not in choices:
        return 0 <= ord(answer.upper()) - ord("A") < len(choices)
    if isinstance(answer, bool) or not isinstance(answer, int):
        return False
    return 0 <= answer < len(choices)
