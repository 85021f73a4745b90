"""Files and folders appear whole or not at all."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from titer.core.errors import BadInput
from titer.core.files import atomic_file, atomic_folder, locked, require_space, write_atomic


def _half_a_file(path: Path) -> None:
    with atomic_file(path) as file:
        file.write(b"two")
        raise KeyError


def _half_a_folder(path: Path) -> None:
    with atomic_folder(path) as scratch:
        (scratch / "half").write_text("x")
        raise KeyError


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file"
    write_atomic(path, "one")
    with pytest.raises(KeyError):
        _half_a_file(path)
    assert path.read_text() == "one"
    assert os.listdir(path.parent) == ["file"]
    with atomic_file(path, 0o640) as file:
        file.write(b"two")
        file.seek(0)
        assert file.read() == b"two"
    assert path.read_text() == "two"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_folder_vanishes_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        _half_a_folder(tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no space left"), atomic_file(tmp_path / "file"):
        raise OSError(errno.ENOSPC, "no space")
    assert not list(tmp_path.iterdir())
    with pytest.raises(BadInput, match="needs about"):
        require_space(tmp_path / "not" / "there", 2**62)


def test_other_errors_of_the_system_are_not_disguised(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="broken"), atomic_file(tmp_path / "file"):
        raise OSError(errno.EIO, "broken")


def test_a_lock_holds_the_next_one_up(tmp_path: Path) -> None:
    order: list[str] = []

    def second() -> None:
        with locked(tmp_path / "locks" / "one"):
            order.append("second")

    waiting = threading.Thread(target=second, daemon=True)
    with locked(tmp_path / "locks" / "one"):
        waiting.start()
        waiting.join(0.2)
        order.append("first")
    waiting.join(10)
    assert order == ["first", "second"]


@pytest.mark.skipif(sys.platform == "win32", reason="kills by signal")
def test_a_lock_of_a_process_that_was_killed_is_free(tmp_path: Path) -> None:
    path = tmp_path / "locks" / "one"
    holder = (
        "import sys, time, pathlib; from titer.core.files import locked\n"
        "with locked(pathlib.Path(sys.argv[1])):\n    print('held', flush=True); time.sleep(600)"
    )
    words = [sys.executable, "-c", holder, str(path)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "held\n"
        free = threading.Event()

        def second() -> None:
            with locked(path):
                free.set()

        waiting = threading.Thread(target=second, daemon=True)
        waiting.start()
        assert not free.wait(0.3), "held by the other process"
        process.kill()
        assert free.wait(60)
        waiting.join(10)
