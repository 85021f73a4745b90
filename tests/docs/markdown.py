"""What the documents hold: code blocks with their titles, commands, links and headings."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "DOCUMENTS",
    "ROOT",
    "SHELL",
    "Block",
    "Command",
    "anchors",
    "blocks",
    "calls",
    "commands",
    "links",
    "prose",
]

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "benchmarks" / "README.md",
        *(ROOT / "docs").glob("**/*.md"),
        *(ROOT / "studies").glob("*.md"),
        *(ROOT / "examples").glob("*/README.md"),
    )
)
SHELL = "bash"

_FENCE = re.compile(
    r"^(?P<fence>`{3,}|~{3,})(?P<info>[^\n]*)\n(?P<text>.*?)^(?P=fence)\s*$", re.M | re.S
)
_NOT_RUN = re.compile(r"<!--\s*not run: ([^>]+?)\s*-->\s*$")
_ENDS = {"|", "||", "&&", ";", ">", ">>", "2>", "<", "&"}


@dataclass(frozen=True)
class Block:
    """A fenced block: ``title`` is the file it stands for, ``not_run`` the reason that a comment
    ``<!-- not run: why -->`` above it gives, else empty."""

    where: str
    language: str
    title: str
    text: str
    not_run: str


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
        reason = _NOT_RUN.search(text[: match.start()])
        line = text.count("\n", 0, match.start()) + 1
        found.append(
            Block(
                where=f"{document}:{line}",
                language=language,
                title=title[1] if title else "",
                text=match["text"],
                not_run=reason[1] if reason else "",
            )
        )
    return found


def prose(document: str) -> str:
    """A document without its fenced blocks."""
    return _FENCE.sub("", (ROOT / document).read_text(encoding="utf-8"))


def commands(document: str, program: str) -> list[Command]:
    """Every call of ``program``, in blocks and in `code` within sentences."""
    found: list[Command] = []
    for block in blocks(document):
        if block.language == SHELL:
            found += [
                Command(block.where, words[1:], True)
                for words in calls(block.text)
                if Path(words[0]).name == program
            ]
    for match in re.finditer(r"(?<!`)`([^`\n]+)`(?!`)", prose(document)):
        if match[1].startswith(f"{program} "):
            found += [
                Command(f"{document}: `{match[1]}`", words[1:], False) for words in calls(match[1])
            ]
    return found


def calls(text: str) -> Iterator[tuple[str, ...]]:
    """The commands of a shell text, one at a time, without leading assignments."""
    for line in text.replace("\\\n", " ").splitlines():
        current: list[str] = []
        for word in [*shlex.split(line, comments=True), ";"]:
            if word not in _ENDS:
                current.append(word)
                continue
            while current and re.match(r"[A-Z_]+=", current[0]):
                current = current[1:]
            if current:
                yield tuple(current)
            current = []


def links(document: str) -> list[tuple[str, str]]:
    """Links to files and headings of the repository, as (path, anchor); path is empty for the
    document itself."""
    found: list[tuple[str, str]] = []
    for target in re.findall(r"\]\((?!https?:|mailto:)([^)\s]+)\)", prose(document)):
        path, _, anchor = target.partition("#")
        found.append((path, anchor))
    return found


def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and MyST make them."""
    text = _FENCE.sub("", path.read_text(encoding="utf-8"))
    found: set[str] = set()
    for heading in re.findall(r"^#{1,6} +(.+?) *$", text, flags=re.M):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        found.add(re.sub(r"[^\w\- ]", "", plain).replace(" ", "-"))
    return found
