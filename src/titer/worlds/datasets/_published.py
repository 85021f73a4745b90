"""What is known of a public data set before a byte of it is fetched."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from titer.core.data import World
from titer.core.errors import BadInput

__all__ = ["COMMIT", "HARM_OF_SPEECH", "Published", "Source", "Table", "Tables", "Tally"]

COMMIT = re.compile(r"[0-9a-f]{40}")

HARM_OF_SPEECH = "compliance"
"""The measure of harm of sets of requests, which have no right answers."""

Tables = Mapping[str, Sequence[Mapping[str, Any]]]
"""The rows of each table of a set, under the set's own names for them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A repository of data at one commit, on the Hub or on GitHub. ``commit`` has 40 digits, and is
    empty where none is known. ``gated`` repositories want their terms accepted by who fetches."""

    repo: str
    commit: str
    licence: str
    host: Literal["hub", "github"] = "hub"
    gated: bool = False

    @property
    def page(self) -> str:
        """Where a person looks at it."""
        if self.host == "github":
            return f"https://github.com/{self.repo}"
        return f"https://huggingface.co/datasets/{self.repo}"

    @property
    def commercial(self) -> bool:
        """Whether its licence allows commercial use."""
        return "-NC-" not in self.licence.upper()


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One published file, and the columns of it that are read.

    ``rows`` and ``size`` (bytes, rounded) are those of the commit, 0 where not known, and
    ``sha256`` is that of the file's bytes, empty likewise.
    """

    source: Source
    path: str
    columns: tuple[str, ...]
    rows: int = 0
    size: int = 0
    sha256: str = ""


@dataclass(slots=True)
class Tally:
    """Counts what is left out between a published file and a world, so that it can be said."""

    left: Counter[str] = field(default_factory=Counter[str])

    def leave(self, why: str, count: int = 1) -> None:
        """So many rows were left out."""
        self.left[why] += count

    def said(self) -> tuple[str, ...]:
        """One sentence a reason."""
        return tuple(f"left out: {count:,} {why}" for why, count in self.left.items() if count)


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A set by its name.

    Args:
        summary: What it is, in one line.
        source: Its paper.
        tables: What is fetched, by the names that ``build`` knows.
        roles: What fills each of titer's roles; empty for a set that only stands beside others.
        facts: What no two splits of the hazard share.
        unasked: Pillars that it cannot answer, and why.
        departs: Where its use here differs from its authors'.
        models: Models that are published for it.
        build: From the rows of the tables to a world, None for a set that only stands beside.
    """

    name: str
    summary: str
    source: str
    tables: Mapping[str, Table]
    roles: Mapping[str, str] = field(default_factory=dict[str, str])
    facts: str = ""
    unasked: Mapping[str, str] = field(default_factory=dict[str, str])
    departs: str = ""
    models: str = ""
    build: Callable[[Tables, Tally], World] | None = None

    @property
    def main(self) -> Source:
        """The repository that the set is named after: that of its first table."""
        return next(iter(self.tables.values())).source

    def sources(self) -> list[Source]:
        """Its repositories, each once."""
        return list(dict.fromkeys(table.source for table in self.tables.values()))

    def at(self, commit: str) -> Published:
        """The set with its own repository at another commit, of whose files nothing is known.

        Raises:
            BadInput: that is no commit.
        """
        if not COMMIT.fullmatch(commit):
            raise BadInput(
                f"{self.name}@{commit}: a branch or tag can move; give the 40 digits of a commit, "
                f"as {self.main.page} shows them."
            )
        moved = replace(self.main, commit=commit)
        return replace(
            self,
            tables={
                name: replace(table, source=moved, rows=0, size=0, sha256="")
                if table.source == self.main
                else table
                for name, table in self.tables.items()
            },
        )
