"""What the command line says is read in one line, however long it is."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sentences wrap at ``COLUMNS``; here they are asked for whole."""
    monkeypatch.setenv("COLUMNS", "1000")
