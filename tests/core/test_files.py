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

from titer.core import files
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


# -- where a lock is not to be had, and where nothing can be written ---------------------------


@pytest.fixture
def warned(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is said of locks; it is said once a process, so what was said before is forgotten."""
    said: list[str] = []
    files._told.cache_clear()
    monkeypatch.setattr(files._LOG, "warning", lambda text, *parts: said.append(text % parts))
    return said


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EIO])
def test_without_file_locks_work_goes_on_and_says_so_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warned: list[str], number: int
) -> None:
    from filelock import FileLock

    def refuses(self: object, **_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(FileLock, "acquire", refuses)
    done = 0
    for _ in range(3):
        with locked(tmp_path / "lock"):
            done += 1
    assert done == 3
    assert len(warned) == 1
    assert "there are no file locks" in warned[0]


def test_a_lock_that_never_answers_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warned: list[str]
) -> None:
    from filelock import FileLock

    monkeypatch.setattr(files, "_TRY", 0.1)
    answer, released = threading.Event(), threading.Event()
    monkeypatch.setattr(FileLock, "acquire", lambda self, **_: answer.wait(20))
    monkeypatch.setattr(FileLock, "release", lambda self, **_: released.set())
    with locked(tmp_path / "lock"):
        pass
    assert "does not answer" in warned[0]
    answer.set()
    assert released.wait(20), "a lock that came too late is let go"


def test_a_lock_that_is_held_for_ever_is_passed_by(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warned: list[str]
) -> None:
    monkeypatch.setattr(files, "_WARN", 0.05)
    monkeypatch.setattr(files, "_HELD", 0.3)
    path = tmp_path / "lock"
    with locked(path), locked(path):
        pass
    assert [line.split(" (")[0] for line in warned] == [
        "waiting for another process that does the same work",
        "there are no file locks",
    ]


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.EFBIG, "larger than the disk or a limit"),
        (errno.EROFS, "can only be read"),
        (errno.EACCES, "permission is denied"),
        (errno.EDQUOT, "no space left"),
    ],
)
def test_a_disk_that_takes_no_more_is_a_sentence(tmp_path: Path, number: int, said: str) -> None:
    with pytest.raises(BadInput, match=said), atomic_file(tmp_path / "file"):
        raise OSError(number, os.strerror(number))
    with pytest.raises(BadInput, match=said), atomic_folder(tmp_path / "folder"):
        raise OSError(number, os.strerror(number))
    assert not list(tmp_path.iterdir())


def test_a_file_where_a_folder_is_needed(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="cannot be written"):
        write_atomic(tmp_path / "file" / "deep" / "one", "x")
    with pytest.raises(BadInput, match="name is too long"):
        write_atomic(tmp_path / ("n" * 300), "x")


@pytest.mark.skipif(sys.platform == "win32", reason="limits of a process")
def test_a_limit_on_the_size_of_files_is_a_sentence_for_weights_too(tmp_path: Path) -> None:
    """safetensors writes by itself and words the error in its own way."""
    import resource

    from titer.conformance import tiny_lm

    lm = tiny_lm()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (9000, hard))
    try:
        with pytest.raises(BadInput, match="larger than the disk or a limit"):  # noqa: SIM117
            with atomic_folder(tmp_path / "out") as scratch:
                lm.save(scratch)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.iterdir())
