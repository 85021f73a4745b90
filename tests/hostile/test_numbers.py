"""Numbers that are none, or would stop the machine: refused at once, by every command."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.hostile.commands import Given, given
from titer.core.bounds import BOUNDS, require_number
from titer.core.errors import BadInput
from titer.core.study import Study

pytestmark = pytest.mark.exact

VALUES = (
    "nan",
    "inf",
    "-inf",
    "-1",
    "0",
    "1e400",
    "1000000000",
    "1" + "0" * 30,
    "9" * 5000,
    "x",
    "",
)
NUMBERS = [one for one in given() if one.argument.kind is not Path]


def _allowed(one: Given, value: str) -> bool:
    try:
        return one.argument.kind(value) in BOUNDS[one.argument.name]
    except ValueError:
        return False


@pytest.mark.parametrize("value", VALUES, ids=lambda text: text[:12] or "empty")
@pytest.mark.parametrize("one", NUMBERS, ids=str)
def test_a_number_out_of_range_is_one_sentence(titer: Run, one: Given, value: str) -> None:
    if _allowed(one, value):
        require_number(one.argument.name, one.argument.kind(value))
        return
    code, out, err = titer(*one.words(value))
    assert (code, out) == (2, ""), err
    assert all(line.startswith("titer: ") and len(line) <= 620 for line in err.splitlines())
    # A study says all its faults at once, and the model of this one may be among them.
    assert one.command == ("bench",) or len(err.splitlines()) == 1


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e400", "NaN", "Infinity"])
@pytest.mark.parametrize(
    "words",
    [
        ["immunise", "npo", "fabula:base", "--set", "lr={}"],
        ["immunise", "npo", "fabula:base", "--set", "beta={}"],
        ["immunise", "npo+rmu", "fabula:base", "--set", "npo.lr={}"],
        ["attack", "S02", "fabula:base", "--set", "lr={}"],
        ["attack", "noise", "fabula:base", "--set", "scale={}"],
        ["bench", "fabula:base", "--defence", "npo", "--set", "lr={}"],
        ["race", "fabula:base", "--set", "lr={}"],
    ],
    ids=lambda words: "-".join(words[::4]),
)
def test_a_setting_that_is_no_number_is_refused(
    titer: Run, tmp_path: Path, words: list[str], value: str
) -> None:
    out = tmp_path / "out"
    code, _, err = titer(*(word.format(value) for word in words), "--out", out)
    assert code == 2, err
    assert not out.exists()


@pytest.mark.parametrize("text", ["nan", "inf", "-1", "0", "1000000000", "'x'", "[1]", "1" * 5000])
@pytest.mark.parametrize("name", ["seeds", "cap"])
def test_a_study_from_a_file_is_held_to_the_same(
    titer: Run, tmp_path: Path, name: str, text: str
) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(f"models: [fabula:base]\n{name}: {text}\nout: {tmp_path / 'out'}\n")
    code, out, err = titer("bench", path)
    assert (code, out) == (2, ""), err
    assert not (tmp_path / "out").exists()


def test_a_number_in_range_passes_and_nan_is_in_none() -> None:
    for name, allowed in BOUNDS.items():
        require_number(name, allowed.high)
        for value in (float("nan"), float("inf"), float("-inf"), allowed.high * 2 + 1, -1):
            with pytest.raises(BadInput, match=f"--{name}"):
                require_number(name, value)
    assert Study().seeds in BOUNDS["seeds"]
