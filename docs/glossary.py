"""Write `docs/glossary.md` from the glossary of the report: ``python docs/glossary.py``."""

from __future__ import annotations

import sys
from pathlib import Path

from titer.report.glossary import SOURCE

PAGE = Path(__file__).parent / "glossary.md"
HEAD = """# Glossary

titer's words, and the field's beside them. The report has the same glossary: a word with dots below
it shows its meaning when it is pointed at or tapped. Written by `python docs/glossary.py` from
`src/titer/report/glossary.md`.

Rows of attacks are named by a letter and a number: **S** full fine-tuning, **P**
parameter-efficient, **M** data mixes, **J** jailbreak-tuning, **R** reinforcement and preference,
**V** directions, **W** weight surgery, **N** attacks written by a network, **H** adaptive, **L**
bypasses of locks, **I** input alone. [Suites](reference/suites.md) describes each. The pillars are
those of Rosati et al. 2024.

"""


def page() -> str:
    """The glossary, as Markdown."""
    return HEAD + SOURCE


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    sys.stdout.write(f"{PAGE}\n")
