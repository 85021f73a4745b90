"""What the documents hold: code blocks with their titles, and commands."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["DOCUMENTS", "ROOT", "Block", "Command", "blocks", "commands"]

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "benchmarks" / "README.md",
        *(ROOT / "docs").glob("*.md"),
        *(ROOT / "examples").glob("**/README.md"),
    )
    if path.is_file()
)

_FENCE = re.compile(
    r"^(?P<fence>`{3,}|~{3,})(?P<info>[^\n]*)\n(?P<text>.*?)^(?P=fence)\s*$", re.M | re.S
)
_NOT_RUN = re.compile(r"<!--\s*not run:[^>]*-->\s*$")
_SHELL = ("", "bash", "sh", "shell", "console", "text")
_ENDS = {"|", "||", "&&", ";", ">", ">>", "2>", "<", "&"}


@dataclass(frozen=True)
class Block:
    """A fenced block: ``title`` is the file it stands for, ``run`` is False under a comment
    ``<!-- not run: why -->``."""

    where: str
    language: str
    title: str
    text: str
    run: bool


@dataclass(frozen=True)
class Command:
    """A command line found in a document; ``whole`` if it stands in a block and not in a
    sentence."""

    where: str
    words: tuple[str, ...]
    whole: bool


def blocks(document: str) -> list[Block]:
    """Every fenced block, in order."""
    text = (ROOT / document).read_text(encoding="utf-8")
    found: list[Block] = []
    for match in _FENCE.finditer(text):
        language, _, rest = match["info"].strip().partition(" ")
        title = re.search(r'title="([^"]+)"', rest)
        line = text.count("\n", 0, match.start()) + 1
        found.append(
            Block(
                where=f"{document}:{line}",
                language=language,
                title=title[1] if title else "",
                text=match["text"],
                run=not _NOT_RUN.search(text[: match.start()]),
            )
        )
    return found


def commands(document: str, program: str) -> list[Command]:
    """Every call of ``program``, in blocks and in `code` within sentences."""
    text = (ROOT / document).read_text(encoding="utf-8")
    found: list[Command] = []
    for block in blocks(document):
        if block.language in _SHELL:
            for line in _lines(block.text):
                found += _called(block.where, line, program, whole=True)
    for match in re.finditer(r"(?<!`)`([^`\n]+)`(?!`)", _FENCE.sub("", text)):
        if match[1].startswith(f"{program} "):
            found += _called(f"{document}: `{match[1]}`", match[1], program, whole=False)
    return found


def _lines(text: str) -> Iterator[str]:
    for line in text.replace("\\\n", " ").splitlines():
        yield line.strip().removeprefix("$ ").strip()


def _called(where: str, line: str, program: str, *, whole: bool) -> list[Command]:
    try:
        words = shlex.split(line, comments=True)
    except ValueError:
        return []  # a sentence with an apostrophe, not a command
    found: list[Command] = []
    current: list[str] = []
    for word in [*words, ";"]:
        if word not in _ENDS:
            current.append(word)
            continue
        while current and ("=" in current[0] and current[0].split("=")[0].isupper()):
            current = current[1:]
        if current and Path(current[0]).name == program:
            found.append(Command(where, tuple(current[1:]), whole))
        current = []
    return found
