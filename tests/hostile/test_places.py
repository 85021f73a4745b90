"""Places that are written: looked at once, before any work, by every command."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.hostile.commands import Given, given, refused, written
from titer.cli.guard import Later, Reads, Writes
from titer.core.bounds import BOUNDS
from titer.core.errors import BadInput
from titer.core.files import atomic_folder, require_place

pytestmark = pytest.mark.exact


def _file(root: Path) -> Path:
    (root / "file").write_text("mine")
    return root / "file" / "below"


def _dangling(root: Path) -> Path:
    (root / "link").symlink_to(root / "gone")
    return root / "link"


def _loop(root: Path) -> Path:
    (root / "loop").symlink_to(root / "loop")
    return root / "loop" / "below"


def _pipe(root: Path) -> Path:
    os.mkfifo(root / "pipe")
    return root / "pipe"


def _locked(root: Path) -> Path:
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    (root / "locked").mkdir(mode=0o555)
    return root / "locked" / "below"


PLACES: dict[str, Callable[[Path], object]] = {
    "under a file": _file,
    "under a file, deep": lambda root: _file(root) / "a" / "b",
    "dangling link": _dangling,
    "under a dangling link": lambda root: _dangling(root) / "a",
    "loop of links": _loop,
    "device": lambda root: "/dev/null",
    "under a device": lambda root: "/dev/zero/x",
    "pipe": _pipe,
    "name too long": lambda root: root / ("n" * 300),
    "name too long for a scratch file": lambda root: root / ("n" * 250),
    "name too long above": lambda root: root / ("é" * 200) / "x",
    "path too long": lambda root: root / "/".join(["deep"] * 2000),
    "unwritable": _locked,
    "empty": lambda root: "",
    "escape": lambda root: root / "\x1b[31mred",
    "no text": lambda root: root / "\udcff",
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("one", written(), ids=str)
def test_a_place_that_cannot_be_written_is_refused_at_once(
    titer: Run, tmp_path: Path, one: Given, place: str
) -> None:
    target = PLACES[place](tmp_path)
    before = sorted(tmp_path.rglob("*"))
    refused(titer, one.words(target))
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("one", written(), ids=str)
def test_a_file_and_a_folder_are_not_taken_for_each_other(
    titer: Run, tmp_path: Path, one: Given
) -> None:
    place, mark = tmp_path / "here", one.argument.mark
    if isinstance(mark, Writes) and mark.wants == "file":
        place.mkdir()
    else:
        place.write_text("mine")
    refused(titer, one.words(place))
    assert place.is_dir() or place.read_text() == "mine"


def test_every_path_and_number_of_every_command_is_looked_at() -> None:
    """A new command must say what it does with a path, and what its numbers may be."""
    for one in given():
        mark = one.argument.mark
        if one.argument.kind is Path:
            assert isinstance(mark, Reads | Writes | Later), str(one)
        else:
            assert one.argument.name in BOUNDS, str(one)
    assert {one.command[0] for one in written()} >= {"bench", "demo", "attack", "export", "keygen"}


def test_what_lay_there_goes_only_when_the_new_is_whole(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "old").write_text("old")
    with pytest.raises(ZeroDivisionError), atomic_folder(home) as scratch:
        (scratch / str(1 / 0)).write_text("new")
    assert [path.name for path in home.iterdir()] == ["old"]
    with atomic_folder(home) as scratch:
        (scratch / "new").write_text("new")
    assert [path.name for path in home.iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


def test_a_link_to_a_folder_stays_one(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "home")
    with atomic_folder(tmp_path / "link") as scratch:
        (scratch / "new").write_text("new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "home" / "new").exists()


def test_a_place_that_is_fine_is_left_alone(tmp_path: Path) -> None:
    require_place(tmp_path / "a" / "b", "--out")
    require_place(tmp_path, "--out")
    require_place(tmp_path / "key", "OUT", "file")
    assert not list(tmp_path.iterdir())
    with pytest.raises(BadInput, match="no path"):
        require_place(tmp_path / "a\0b", "--out")
