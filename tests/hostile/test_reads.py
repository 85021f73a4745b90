"""What is no file, or no file that could be meant, in the place of each that a command reads."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.hostile.commands import Given, given, refused, texts
from titer.cli.guard import Reads

pytestmark = [pytest.mark.exact, pytest.mark.xdist_group("hostile-words")]

RECORDED = Path(__file__).parents[1] / "data" / "recorded"


def _pipe(at: Path) -> Path:
    os.mkfifo(at)
    return at


def _socket(at: Path) -> Path:
    here = os.getcwd()
    os.chdir(at.parent)  # the name of a socket may be of 107 bytes at most
    try:
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(at.name)
    finally:
        os.chdir(here)
    return at


def _endless(at: Path) -> Path:
    with at.open("wb") as file:
        file.truncate(2**40)
    return at


def _holding(content: bytes) -> Callable[[Path], Path]:
    def made(at: Path) -> Path:
        at.write_bytes(content)
        return at

    return made


def _linked(to: str) -> Callable[[Path], Path]:
    def made(at: Path) -> Path:
        at.symlink_to(to)
        return at

    return made


def _folder(inside: Callable[[Path], Path], name: str) -> Callable[[Path], Path]:
    def made(at: Path) -> Path:
        at.mkdir()
        inside(at / name)
        return at

    return made


PLACES: dict[str, Callable[[Path], object]] = {
    "pipe": _pipe,
    "socket": _socket,
    "endless": _endless,
    "empty": _holding(b""),
    "bytes": _holding(bytes(range(256))),
    "latin": _holding(b"prompt,completion\ncaf\xe9,\xff\n"),
    "deep": _holding(b"[" * 100_000),
    "escapes": _holding(b"\x1b]0;owned\x07\x1b[2J\n"),
    "link to a device": _linked("/dev/zero"),
    "link to itself": _linked("itself.yaml"),
    "link to memory": _linked("/proc/self/mem"),
    "device": lambda at: "/dev/zero",
    "empty folder": lambda at: at.mkdir() or at,
    "folder with a pipe": _folder(_pipe, "config.json"),
    "folder without end": _folder(_endless, "plan.json"),
}
NAMED = (
    "model",
    "models",
    "data",
    "undefended",
    "oracle",
    "delta",
    "to",
    "passphrase_file",
    "sign_key_file",
    "key_file",
    "trust",
)


def _read() -> Iterator[Given]:
    yield from (one for one in given() if isinstance(one.argument.mark, Reads))
    yield from (one for one in texts() if one.argument.name in NAMED)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(RECORDED, tmp_path_factory.mktemp("reads") / "run"))


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("one", list(_read()), ids=str)
def test_what_is_no_file_that_could_be_meant_is_refused(
    titer: Run, tmp_path: Path, run: Path, one: Given, place: str
) -> None:
    ending = {"models": ".yaml", "answers": ".csv"}.get(one.argument.name, "")
    target = PLACES[place](tmp_path / f"itself{ending}")
    before = sorted(tmp_path.rglob("*"))
    words = one.words(target, results=run, out=tmp_path / "out", to=tmp_path / "out")
    refused(titer, words)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("place", PLACES)
def test_results_of_lm_eval_are_a_file(titer: Run, tmp_path: Path, run: Path, place: str) -> None:
    target = PLACES[place](tmp_path / "itself.json")
    refused(titer, ["import", run, f"--lm-eval=m={target}"])


def test_a_key_may_come_from_a_pipe_of_the_shell(titer: Run, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.write(writing, b"no key")
    os.close(writing)
    said = refused(titer, ["unlock", tmp_path, f"--key-file=/dev/fd/{reading}", "--out=x"])
    assert "pipe" not in said
    os.close(reading)


@pytest.mark.parametrize("command", ["immunise", "export", "bench"])
def test_a_pipe_where_a_result_lies_is_not_read(titer: Run, tmp_path: Path, command: str) -> None:
    own = {"immunise": "titer.json", "export": "export.json", "bench": "plan.json"}
    out = tmp_path / "out"
    out.mkdir()
    if command == "bench":
        shutil.copytree(RECORDED, out, dirs_exist_ok=True)
        (out / "plan.json").unlink()
    _pipe(out / own[command])
    words = {
        "immunise": ["immunise", "npo", "fabula:base", "--out", out],
        "export": ["export", RECORDED, "--to", out],
        "bench": ["bench", "fabula:base", "--out", out],
    }
    assert "is a device, a pipe or a socket" in refused(titer, words[command])
