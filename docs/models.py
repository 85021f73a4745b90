"""Write `docs/models.md` from what was measured: ``python docs/models.py``.

``python -m benchmarks.architectures`` measures it anew and writes both.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks._architectures import ARCHITECTURES  # noqa: E402
from benchmarks.architectures import GROUPS, METHODS, Cell, kept  # noqa: E402

PAGE = Path(__file__).parent / "models.md"
HEAD = """# Which models, and what works on them

Written by `python -m benchmarks.architectures`, which tries every defence and attack on tiny random
models of {architectures} architectures of transformers, two steps each: {cells} pairs, {works} of
which work. What a model consists of is tried, not read off names: a few tokens go through it, and
the products that its weights take part in are seen
([why](decisions/0116-what-multiplies-is-known-by-trying.md)).

- **✓** works. Fine-tunes, LoRA, rounding and noise moved every matrix of the blocks, fused experts
  and routers among them; a result of another shape was saved and loaded again.
- **a share**: the method reached so much of what it is to change, and says so. An attack's row is
  then suspect and never counts as held
  ([why](decisions/0117-a-share-out-of-reach-is-a-doubt.md)); a defence is flagged.
- **a letter**: refused with the sentence [below](#refusals). In a study the row has failed, which
  is never resistance.

There is nothing else: an error without a sentence, or weights left out without a word, is a fault
that the measurement finds.

Quantised models (bitsandbytes, GPTQ and kin) are refused when they are loaded: their codes are no
weights that an attack could move. Models that also see or hear are attacked in their language
model.

"""


def page() -> str:
    """The tables, as Markdown."""
    found = kept()
    cells = [cell for row in found.values() for cell in row.values()]
    letters: dict[str, str] = {}
    body = "".join(_group(title, labels, found, letters) for title, labels in GROUPS.items())
    refusals = "".join(f"- **{letter}**: {said}\n" for said, letter in letters.items())
    head = HEAD.format(
        architectures=len(found),
        cells=f"{len(cells):,}",
        works=f"{sum(cell.outcome == 'works' for cell in cells):,}",
    )
    return f"{head}{body}## Refusals\n\n{refusals}"


def _group(
    title: str, labels: tuple[str, ...], found: dict[str, dict[str, Cell]], letters: dict[str, str]
) -> str:
    shown = [method.label for method in METHODS if method.name in labels]
    lines = [
        f"## {title}\n",
        f"| | {' | '.join(shown)} |",
        f"| --- |{' --- |' * len(shown)}",
    ]
    for one in ARCHITECTURES:
        cells = " | ".join(_shown(found[one.name][label], letters) for label in shown)
        lines.append(f"| **{one.name}**: {one.traits} | {cells} |")
    return "\n".join(lines) + "\n\n"


def _shown(cell: Cell, letters: dict[str, str]) -> str:
    if cell.outcome == "works":
        return "✓"
    if cell.outcome == "part":
        return cell.said.removeprefix("reached only ").partition("%")[0] + " %"
    said = _general(cell.said)
    return letters.setdefault(said, _letter(len(letters)))


def _letter(number: int) -> str:
    return (
        chr(ord("a") + number) if number < 26 else _letter(number // 26 - 1) + _letter(number % 26)
    )


def _general(said: str) -> str:
    """A sentence without what differs from one architecture to the next."""
    said = re.sub(r"\ba \w+ model cannot be written", "this kind of model cannot be written", said)
    said = re.sub(r"\ba \w+ForCausalLM\b", "this kind of model", said)
    said = re.sub(r"in blocks [\d, ]+", "in blocks …", said)
    return re.sub(r"each block has .*", "each block has …", said)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
