"""What a terminal shows: how wide, in which colours, how far a run is, and what is only tried."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests import toy
from tests.cli.conftest import Run
from titer.cli import progress
from titer.cli.cards import RATES
from titer.cli.output import wrapped
from titer.core import catalogue
from titer.core.method import Step
from titer.trial.presets import FAMILIES


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("terminal")
    toy.model_folder(root / "llama")
    toy.data_folder(root / "data")
    return root


@pytest.mark.parametrize("what", ["attacks", "defences", "presets", "models", "worlds", ""])
@pytest.mark.parametrize("columns", [80, 60])
def test_a_pipe_is_as_wide_as_columns_says(
    titer: Run, monkeypatch: pytest.MonkeyPatch, what: str, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    code, out, _ = titer("list", *([what] if what else []))
    assert code == 0
    assert max(map(len, out.splitlines())) <= columns


def _fits(text: str, columns: int) -> bool:
    """Whether no line is longer, unless a single word is."""
    lines = text.splitlines()
    return bool(lines) and all(len(line) <= columns or " " not in line.strip() for line in lines)


@pytest.mark.parametrize("columns", [None, 60])
def test_sentences_wrap_in_a_pipe_at_80_or_at_columns(
    titer: Run, monkeypatch: pytest.MonkeyPatch, place: Path, tmp_path: Path, columns: int | None
) -> None:
    monkeypatch.delenv("COLUMNS")
    if columns:
        monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.chdir(tmp_path)
    for words in (
        ("bench", "fabula:base#3", "--seeds", "0", "--defence", "npoo", "--out", "r"),
        ("attack", "S0", "fabula:base", "--out", "r"),
        ("list", "nothing"),
    ):
        code, out, err = titer(*words)
        assert (code, out) == (2, "")
        assert len(err.splitlines()) > 1
        assert _fits(err, columns or 80), err
    for words in (("list", "suites"), ("card", "S03"), ("card", "npo"), ("doctor",)):
        assert _fits(titer(*words)[1], columns or 80), words


def test_what_is_said_and_what_is_wrapped_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    said = "titer: there is no model in /a/path/that/is/longer/than/the/terminal/is/wide; give one."
    assert wrapped(said).split() == said.split()
    assert wrapped("a\n\n  b") == "a\n\n  b"
    assert wrapped("  " + "word " * 20).splitlines()[1].startswith("    word")


def test_no_color_gives_no_escape_codes(titer: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[" in titer("list", "attacks")[1], "a terminal shows its heads in bold"
    monkeypatch.setenv("NO_COLOR", "1")
    for words in (("list", "attacks"), ("card", "S03"), ("list", "nothing"), ("-h",)):
        _, out, err = titer(*words)
        assert "\x1b" not in out + err, words


# -- cards say what will be used -------------------------------------------------------------------


def test_the_card_of_a_row_says_rate_and_steps_in_words(titer: Run) -> None:
    out = titer("card", "S04")[1]
    assert "2 times the reference rate of AdamW on all weights" in out
    assert "0.002 below 50 million weights, 4e-05 from there up" in out
    assert "steps: 300 below 50 million weights, 1,000 from there up" in out
    assert "batch_size: 32" in out
    out = titer("card", "npo")[1]
    assert "below 50 million weights it takes the settings of npo-testbed" in out


@pytest.mark.slow
def test_no_card_names_an_internal_field(titer: Run) -> None:
    assert set(RATES) == set(FAMILIES)
    for kind in ("attack", "defence"):
        for name in catalogue.presets(kind):
            code, out, err = titer("card", name)
            assert code == 0, err
            for internal in ("lr_scale", "star", "domain:", "full-adamw", ": kr"):
                assert internal not in out, f"{name}: {internal}"


def test_a_list_without_a_kind_lists_the_kinds(titer: Run) -> None:
    kinds = [row["name"] for row in json.loads(titer("list", "--json")[1])]
    assert "attacks" in kinds
    for kind in kinds:
        assert titer("list", kind)[0] == 0


def test_small_words(titer: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert titer("version")[1] == titer("--version")[1] != ""
    assert titer("bench", "-h")[1] == titer("bench", "--help")[1] != ""
    assert "--install-completion" in titer("-h")[1]
    # A test may have no shell above it, so the shell is named and not looked for.
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")
    code, out, _ = titer("--show-completion", "bash")
    assert code == 0
    assert "complete" in out


@pytest.mark.slow
def test_a_run_says_its_rate_into_a_pipe_and_each_checkpoint_where_it_is_asked_to(
    titer: Run, place: Path, tmp_path: Path
) -> None:
    words = ("attack", "P05", place / "llama", "--data", place / "data", "--steps", "4")
    assert titer(*words, "--out", tmp_path / "a", "--quiet")[2] == ""
    (rate,) = titer(*words, "--out", tmp_path / "c")[2].splitlines()
    assert rate.startswith("P05: learning rate ")
    code, _, err = titer(*words, "--out", tmp_path / "b", "-v")
    assert code == 0
    first, *lines = err.splitlines()
    assert first == rate
    assert [re.search(r"step (\d) of 4, loss \d+\.\d+, rate ", line)[1] for line in lines] == [  # type: ignore[index]
        "1",
        "3",
        "4",
    ]
    assert "s left" in lines[1]
    words = ("immunise", "npo", place / "llama", "--data", place / "data", "--steps", "3")
    plain = titer(*words, "--out", tmp_path / "m")[2].splitlines()
    assert plain[0].startswith("npo: learning rate ")
    told = titer(*words, "--out", tmp_path / "n", "--verbose")[2].splitlines()
    assert [line for line in told if ": step " not in line] == plain
    assert len(told) == len(plain) + 2
    one, other = ((tmp_path / name / "titer.json").read_text() for name in "mn")
    assert json.loads(one)["weights"] == json.loads(other)["weights"]


def test_a_terminal_shows_step_loss_and_rate(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "120")
    with progress.stepping("npo on m", quiet=False, verbose=False) as watch:
        assert watch is not None
        watch(Step(number=7, of=30, loss=1.25, rate=1e-3))
    assert "npo on m: step 7 of 30, loss 1.250, rate 0.001" in capsys.readouterr().err
    with progress.stepping("npo on m", quiet=True, verbose=False) as watch:
        assert watch is None, "a run that nobody watches costs nothing"


def test_the_demo_can_be_rehearsed(
    titer: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = titer("demo", "--dry-run", "--json")
    assert code == 0, err
    assert json.loads(out)["immunisations"] == 2
    assert list(tmp_path.iterdir()) == []
