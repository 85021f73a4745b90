"""Files that are no JSON lines, or those of another data set: the sentence says which, and what to
do."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from tests import toy
from titer.core.errors import BadInput
from titer.worlds.folder import load

pytestmark = pytest.mark.exact

ROWS = [{"prompt": f"p {n}", "answer": f"a {n}"} for n in range(30)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data folder whose retain text is to be replaced."""
    toy.data_folder(tmp_path / "data")
    return tmp_path / "data"


def retained(folder: Path, content: bytes, name: str = "retain.jsonl", fields: Any = None) -> str:
    """What is said where the retain text is a file of this content."""
    (folder / name).write_bytes(content)
    lines = (folder / "data.yaml").read_text().splitlines()
    at = next(n for n, line in enumerate(lines) if line.startswith("retain:"))
    lines[at] = "retain: " + json.dumps({"file": name} | ({"fields": fields} if fields else {}))
    (folder / "data.yaml").write_text("\n".join(lines))
    with pytest.raises(BadInput) as caught:
        load(folder)
    assert len(caught.value.faults) == 1, caught.value.faults
    assert caught.value.faults[0].endswith(".")
    return caught.value.faults[0]


def rows(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


@pytest.mark.parametrize(
    ("content", "said", "todo"),
    [
        (json.dumps(ROWS).encode(), "one JSON array", "jq -c '.[]'"),
        (json.dumps(ROWS, indent=1).encode(), "one JSON array", "jq -c '.[]'"),
        (json.dumps(ROWS[0], indent=1).encode(), "JSON over several lines", "jq -c ."),
        (b"prompt,answer\nhow,so\n", "CSV with columns prompt, answer", "read_csv"),
        (b"\xef\xbb\xbfprompt;answer\r\nhow;so\r\n", "columns prompt, answer", "read_csv"),
        (b"sep=;\nprompt;answer\nhow;so\n", "columns prompt, answer", "read_csv"),
        (b"prompt\tanswer\nhow\tso, or so\n", "columns prompt, answer", "read_csv"),
        (b'prompt,answer\n"how,\nthen","so"\n', "columns prompt, answer", "read_csv"),
        (b"PAR1\x15\x04\x15", "a Parquet file", "read_parquet"),
        (gzip.compress(rows(ROWS), mtime=0), "compressed (gzip)", "gunzip"),
        (rows(ROWS).decode().encode("utf-16"), "UTF-16", "iconv"),
        (rows(ROWS).decode().encode("utf-16-le"), "zero bytes", "UTF-8"),
        (b"PK\x03\x04abc", "an Excel workbook", "export JSON lines"),
        (b"<!DOCTYPE html><html>", "a web page", "download the file itself"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git-lfs pointer", "git lfs pull"),
    ],
    ids=lambda part: part if isinstance(part, str) else "",
)
def test_a_file_of_another_kind_is_recognised(folder: Path, content: bytes, said: str, todo: str):
    told = retained(folder, content)
    assert told.startswith("retain.jsonl ")
    assert said in told
    assert todo in told


WMDP = {"question": "which ?", "choices": ["a b", "c d", "e f", "g h"], "answer": 2}
MAPPED = {"prompt": "question", "choices": "choices", "answer": "answer"}
BEAVER = {
    "prompt": "how ?",
    "response": "so",
    "is_safe": False,
    "category": {"animal_abuse": False, "child_abuse": True},
}


@pytest.mark.parametrize(
    ("row", "fields", "said", "todo"),
    [
        (WMDP, None, "the keys of WMDP or MMLU", "fields: {prompt: question"),
        (WMDP, MAPPED, "'answer' is 2, the place", "jq -c '.answer = .choices[.answer]'"),
        ({**WMDP, "answer": "C"}, MAPPED, "'answer' is 'C', the place", "write out the answer"),
        (BEAVER, None, "the keys of BeaverTails", "fields: {prompt: prompt, answer: response}"),
        (
            BEAVER,
            {"prompt": "prompt", "answer": "category"},
            "as the labels of BeaverTails",
            "text",
        ),
        ({"instruction": "a", "input": "", "output": "b"}, None, "Alpaca", "answer: output"),
        ({"messages": [{"role": "user"}]}, None, "conversations ('messages')", "first turn"),
    ],
)
def test_a_known_data_set_is_recognised_once(
    folder: Path, row: Any, fields: Any, said: str, todo: str
):
    told = retained(folder, rows([row] * 40), fields=fields)
    assert said in told
    assert todo in told


def test_what_looks_alike_and_is_right_passes(folder: Path):
    """Choices that are letters, and an answer that is one of them; a prompt with commas."""
    lines = [{"prompt": f"a, b, {n}", "answer": "A", "choices": ["A", "B"]} for n in range(4)]
    (folder / "retain.jsonl").write_bytes(b"\xef\xbb\xbf" + rows(lines))
    text = (folder / "data.yaml").read_text().splitlines()
    changed = ["retain: retain.jsonl" if line.startswith("retain:") else line for line in text]
    (folder / "data.yaml").write_text("\n".join(changed))
    assert load(folder).retain[0].answer == "A"


def test_what_is_retained_is_no_line_of_the_hazard(folder: Path):
    """By text, as ids can be changed."""
    import yaml

    manifest = yaml.safe_load((folder / "data.yaml").read_text())
    (hazard,) = manifest["hazards"].values()
    for split in ("defend", "attack"):
        source = hazard[split]["file"] if isinstance(hazard[split], dict) else hazard[split]
        given = [json.loads(line) for line in (folder / source).read_text().splitlines()]
        other = [{**row, "id": f"r{n}", "entity": "", "fact": ""} for n, row in enumerate(given)]
        told = retained(folder, rows(other))
        assert told.startswith("retain is benign and holds what hazards.")
        assert f".{split} holds: retain.jsonl, line 1 is" in told
