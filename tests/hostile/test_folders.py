"""Run folders that are torn, of the wrong kind or made to do harm: a sentence from every reader."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.cli.conftest import Run
from titer.core.errors import BadInput
from titer.core.reading import UNREADABLE, load_json, load_yaml
from titer.report.export import export
from titer.report.load import read_verdict
from titer.run.store import Store
from titer.verify.findings import findings

pytestmark = [pytest.mark.exact, pytest.mark.xdist_group("hostile-folders")]

RECORDED = Path(__file__).parents[1] / "data" / "recorded"
WRONG = (
    "",
    "null",
    "true",
    "0",
    "-1",
    "1.5",
    "NaN",
    "-Infinity",
    "1e400",
    "9" * 400,
    "9" * 5000,
    '"text"',
    '"\\ud800"',
    '"\\u001b[31m"',
    "[]",
    "{}",
    "[[[]]]",
    "[" * 100_000,
    '{"a":' * 20_000,
    "{",
    "\0",
)
FILES = ("plan.json", "config.yaml", "status.json", "trial.json", "scores.jsonl")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(RECORDED, tmp_path_factory.mktemp("run") / "run"))


def _path(run: Path, name: str) -> Path:
    if name in ("plan.json", "config.yaml"):
        return run / name
    return run / "trials" / sorted(p.name for p in (run / "trials").iterdir())[3] / name


class _Spoilt:
    """A file of the run with another content, until the block ends."""

    def __init__(self, path: Path, text: str) -> None:
        self.path, self.text, self.before = path, text, path.read_bytes()

    def __enter__(self) -> None:
        self.path.write_text(self.text, encoding="utf-8", errors="surrogatepass")

    def __exit__(self, *_: object) -> None:
        self.path.write_bytes(self.before)


def _told(run: Path) -> None:
    """Both ways of reading end, and what they refuse is short sentences."""
    said: list[str] = []
    try:
        read_verdict(run)
    except BadInput as error:
        said += error.faults
    try:
        said += [one.line() for one in findings(run)]
    except BadInput as error:
        said += error.faults
    for line in said:
        assert len(line) <= 2000, line[:200]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("text", WRONG, ids=lambda text: ascii(text)[1:13])
def test_a_file_of_another_kind_is_a_sentence(run: Path, name: str, text: str) -> None:
    with _Spoilt(_path(run, name), text):
        if (name, text) != ("plan.json", "[]"):  # a study that is just begun
            with pytest.raises(BadInput):
                read_verdict(run)
        if name != "config.yaml":
            assert [one for one in findings(run) if one.kind == "fault"]


@pytest.mark.slow
@pytest.mark.parametrize("command", ["report", "export", "validate", "verify", "reproduce"])
@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, '{"status": "o', "\0", '"words"', "\x1b[31m"],
    ids=lambda text: ascii(text)[1:13],
)
def test_every_command_that_reads_a_run_says_it(
    titer: Run, run: Path, tmp_path: Path, command: str, name: str, text: str
) -> None:
    more = {"export": ["--to", tmp_path / "to"], "reproduce": ["--run", run]}.get(command, [])
    words = ["0", *more] if command == "reproduce" else [run, *more]
    with _Spoilt(_path(run, name), text):
        code, out, err = titer(command, *words)
    assert code == (1 if command == "validate" and name != "config.yaml" else 2), err
    assert "\x1b" not in out + err
    assert all(len(line) <= 620 for line in err.splitlines())
    assert not (tmp_path / "to").exists()


# -- property-based ------------------------------------------------------------------------------


def _places(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every value of a JSON content by its way there; of a list the first three."""
    entries: list[Any] = []
    if isinstance(content, dict):
        entries = list(content.items())
    elif isinstance(content, list):
        entries = list(enumerate(content[:3]))
    for key, value in entries:
        yield (*path, key)
        yield from _places(value, (*path, key))


def _with(text: str, place: int, value: str) -> str:
    """A JSON file, or the first line of one, with one value changed."""
    first, sep, rest = text.partition("\n") if text.count("\n{") else (text, "", "")
    content = json.loads(first)
    places = list(_places(content))
    *way, last = places[place % len(places)]
    at = content
    for key in way:
        at = at[key]
    at[last] = "\x00mark"
    return json.dumps(content).replace(json.dumps("\x00mark"), value or "null") + sep + rest


def _mutated(name: str, text: str, kind: str, where: int, value: str) -> str:
    if kind == "torn":
        return text[: where % len(text)]
    if kind == "byte":
        at = where % len(text)
        return text[:at] + (value[:1] or " ") + text[at + 1 :]
    if name.endswith(".yaml"):
        lines = text.splitlines()
        at = where % len(lines)
        lines[at] = f"{lines[at].partition(':')[0]}: {value}"
        return "\n".join(lines)
    return _with(text, where, value)


MUTATIONS = {
    "name": st.sampled_from(FILES),
    "kind": st.sampled_from(["torn", "byte", "value", "value"]),
    "where": st.integers(0, 1_000_000),
    "value": st.sampled_from(WRONG),
}
QUIET = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


def with_value(path: Path, kind: str, where: int, value: str) -> _Spoilt:
    """The file torn, with another byte or another value at a place, until the block ends."""
    return _Spoilt(path, _mutated(path.name, path.read_text(), kind, where, value))


def _holds(run: Path, name: str, kind: str, where: int, value: str) -> None:
    with with_value(_path(run, name), kind, where, value):
        _told(run)


@settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=QUIET)
@given(**MUTATIONS)
def test_a_mutated_run_is_read_or_refused(
    run: Path, name: str, kind: str, where: int, value: str
) -> None:
    _holds(run, name, kind, where, value)


@pytest.mark.slow
@settings(max_examples=120, deadline=None, derandomize=True, suppress_health_check=QUIET)
@given(**MUTATIONS)
def test_more_mutated_runs_are_read_or_refused(
    run: Path, name: str, kind: str, where: int, value: str
) -> None:
    _holds(run, name, kind, where, value)


# -- readers -------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.text(max_size=40))
def test_a_reader_raises_one_kind_of_error(text: str) -> None:
    for read in (load_json, load_yaml):
        with contextlib.suppress(*UNREADABLE):
            read(text)


def test_aliases_that_expand_are_refused() -> None:
    lines = ["a0: &a0 [x, x]"]
    lines += [f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 40)]
    with pytest.raises(ValueError, match="alias"):
        load_yaml("\n".join(lines))


@pytest.mark.parametrize("text", [text for text in WRONG if text != "{}"] + ['{"status": 3}'])
def test_a_run_that_goes_on_says_which_trial_is_damaged(tmp_path: Path, text: str) -> None:
    store = Store(tmp_path)
    (tmp_path / "trials" / "k").mkdir(parents=True)
    (tmp_path / "trials" / "k" / "status.json").write_text(text)
    with pytest.raises(BadInput, match=r"status\.json is damaged: .*delete"):
        store.done("k")
    with pytest.raises(BadInput, match="damaged"):
        store.torn(["k", "other"])


# -- what is no file -----------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["report", "export", "validate", "verify", "import"])
@pytest.mark.parametrize("name", FILES)
def test_a_pipe_in_a_run_folder_is_not_read(
    titer: Run, tmp_path: Path, command: str, name: str
) -> None:
    run = Path(shutil.copytree(RECORDED, tmp_path / "run"))
    _path(run, name).unlink()
    os.mkfifo(_path(run, name))
    more = {"export": ["--to", tmp_path / "to"], "import": ["--lm-eval", "a=b"]}.get(command, [])
    code, _, err = titer(command, run, *more)
    assert code == 2
    assert "is a device, a pipe or a socket" in err


def test_an_export_deletes_only_what_an_export_wrote(run: Path, tmp_path: Path) -> None:
    to = tmp_path / "to"
    export(read_verdict(run), to)
    export(read_verdict(run), to)
    (to / "tables" / "mine.txt").write_text("mine")
    with pytest.raises(BadInput, match=r"mine\.txt, which no export wrote"):
        export(read_verdict(run), to)
    assert (to / "tables" / "mine.txt").read_text() == "mine"
