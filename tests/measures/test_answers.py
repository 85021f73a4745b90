"""Reading a table of answers: what is accepted, and a sentence for each fault."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from titer.core.errors import BadInput
from titer.measures._answers import Answer, read_answers


def write(folder: Path, name: str, content: str | bytes) -> Path:
    file = folder / name
    file.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
    return file


def test_csv_with_fields_over_lines_and_other_columns(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        "a.csv",
        '\ufeffid,prompt,completion\r\n1,"Say ""hi""","one,\r\n\r\ntwo"\r\n2,b,\r\n',
    )
    assert read_answers(file) == (Answer('Say "hi"', "one,\r\n\r\ntwo"), Answer("b", ""))


def test_jsonl_with_blank_lines_and_line_separators(tmp_path: Path) -> None:
    row = json.dumps({"prompt": "p", "completion": "a\u2028b"}, ensure_ascii=False)
    assert read_answers(write(tmp_path, "a.jsonl", f"\n{row}\r\n\n")) == (Answer("p", "a\u2028b"),)


def test_a_very_long_field_is_read(tmp_path: Path) -> None:
    file = write(tmp_path, "a.csv", "prompt,completion\np," + "x" * 200_000 + "\n")
    assert len(read_answers(str(file))[0].completion) == 200_000


@pytest.mark.parametrize("label", ["2_full_refusal", "full_refusal", " 2_full_refusal "])
def test_labels_with_and_without_numbers(tmp_path: Path, label: str) -> None:
    file = write(tmp_path, "a.csv", f"prompt,completion,final_label\np,c,{label}\n")
    assert read_answers(file)[0].final_label == "full_refusal"


def test_a_label_column_that_is_empty_throughout_counts_as_none(tmp_path: Path) -> None:
    file = write(tmp_path, "a.csv", "prompt,completion,final_label\np,c,\n")
    assert read_answers(file)[0].final_label is None


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.txt", "prompt,completion\na,b\n", r"'\.txt'.*\.csv or \.jsonl"),
        ("a.csv", "", "is empty"),
        ("a.jsonl", " \n\n", "is empty"),
        ("a.csv", "prompt,completion\n", "no answers"),
        ("a.csv", "prompt,completions\na,b\n", "no column 'completion'.*'completions'"),
        ("a.csv", "prompt,completion,prompt\na,b,c\n", "'prompt' stands twice"),
        ("a.csv", "prompt,completion\na\n", "line 2: 1 fields where the header has 2"),
        ("a.csv", 'prompt,completion\na,"b\n', "line 2: not valid CSV"),
        ("a.csv", b"prompt,completion\na,\xff\n", "not UTF-8.*0xff"),
        ("a.csv", "prompt,completion\na,it’s\n".encode("cp1252"), "Windows-1252.*CSV UTF-8"),
        ("a.csv", "prompt,completion\na,b\n".encode("utf-16"), "is UTF-16.*CSV UTF-8"),
        ("a.csv", "prompt,completion\na,b\n".encode("utf-16-le"), "is UTF-16"),
        ("a.jsonl", '{"prompt": "a", "completion": "b"}\n'.encode("utf-16-be"), "is UTF-16"),
        ("a.csv", b"PK\x03\x04\x14\x00\x06\x00", r"workbook \(.xlsx\)"),
        ("a.csv", "sep=;\nprompt;completion\na;b\n", "first line is 'sep=;'.*delete"),
        ("a.csv", '\ufeff"prompt";"completion"\na;b\n', "separated by semicolons.*commas"),
        ("a.csv", "id\tprompt\tcompletion\n1\ta\tb\n", "separated by tabs"),
        ("a.csv", "\nprompt,completion\na,b\n", "first line is blank; delete it"),
        (
            "a.jsonl",
            '[{"prompt": "a", "completion": "b"},\n {"prompt": "c", "completion": "d"}]\n',
            "one JSON array of 2.*each line",
        ),
        ("a.jsonl", '{"prompt": "a", "completion": "b"}\n{"prompt": \n', "line 2: not valid JSON"),
        ("a.jsonl", "[1]\n", "line 1: a JSON list"),
        ("a.jsonl", '{"prompt": "a", "answer": "b"}\n', "no column 'completion' in line 1"),
        ("a.jsonl", '{"prompt": "a", "completion": null}\n', "completion is null"),
        ("a.jsonl", '{"prompt": 3, "completion": "b"}\n', "prompt is int"),
        ("a.jsonl", "[" * 100_000 + "\n", "line 1: not valid JSON"),
        ("a.csv", "prompt,completion,final_label\na,b,refused\n", "final_label is 'refused'"),
        (
            "a.csv",
            "prompt,completion,final_label\na,b,2_full_refusal\nc,d,\n",
            "line 3: final_label is ''",
        ),
        (
            "a.jsonl",
            '{"prompt": "a", "completion": "b", "final_label": 2}\n',
            "final_label is 2",
        ),
    ],
)
def test_each_fault_is_one_sentence(
    tmp_path: Path, name: str, content: str | bytes, says: str
) -> None:
    with pytest.raises(BadInput, match=says) as caught:
        read_answers(write(tmp_path, name, content))
    assert "\n" not in str(caught.value)
    assert name in str(caught.value)


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="does not exist"):
        read_answers(tmp_path / "none.csv")
    folder = tmp_path / "folder.csv"
    folder.mkdir()
    with pytest.raises(BadInput, match="cannot be read"):
        read_answers(folder)
