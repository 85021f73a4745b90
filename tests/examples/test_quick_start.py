"""The quick start runs as it stands, and says what it is there to say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "examples" / "quick_start.py"


@pytest.mark.slow
def test_the_quick_start_shows_a_defence_that_falls() -> None:
    done = subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, text=True, check=True)
    before, *_, after = done.stdout.splitlines()[2:]
    assert before.strip().startswith("0 steps:")
    assert before.endswith("held")
    assert after.strip().startswith("150 steps:")
    assert after.endswith("breached")
