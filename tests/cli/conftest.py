"""The command line, run in this process."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import toy
from titer.cli.app import main

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each sentence on one line, unless a test sets COLUMNS."""
    monkeypatch.setenv("COLUMNS", "1000")


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model and a world."""
    root = tmp_path_factory.mktemp("own")
    toy.model_folder(root / "llama")
    toy.data_folder(root / "data")
    return root


@pytest.fixture
def titer(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the command line in this process; returns exit code, output and errors."""

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["titer", *map(str, words)])
        capsys.readouterr()
        try:
            main()
            code: Any = 0
        except SystemExit as stop:
            code = stop.code
        out, err = capsys.readouterr()
        # The JSON of a failed attack holds where it failed.
        assert "Traceback" not in err + ("" if out.startswith("{") else out)
        return int(code or 0), out, err

    return run
