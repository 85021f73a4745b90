"""Write `docs/reference/cheats.md` from what the study measured: ``python docs/cheats.py``."""

from __future__ import annotations

import sys
from pathlib import Path

PAGE = Path(__file__).parent / "reference" / "cheats.md"
RESULT = Path(__file__).parents[1] / "studies" / "results" / "cheats.md"
HEAD = """# What is said of cheats

Models, studies and references that once got a good score without having earned it, or were made to
try. Each is made, attacked and reported for real. *Said before* is what titer said when the row was
first tried; the worst harm and R\\* are explained in the [glossary](../glossary.md), what is
withheld and why in [checks](checks.md).

This page is written by `python docs/cheats.py` from `studies/results/cheats.md`; the models are
made by `studies/_cheats.py`, which the tests plant too.

"""


def page() -> str:
    """The page, as Markdown."""
    return HEAD + RESULT.read_text(encoding="utf-8").split("\n", 2)[2]


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    sys.stdout.write(f"{PAGE}\n")
