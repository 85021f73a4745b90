"""A look at data before they are used: leaks, repeats, lengths, bare answers, examples as a model
sees them. It changes nothing, and unlike loading it goes on where it finds something."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from titer.core.data import Example, World
from titer.worlds.near import NEAR, Pair, in_conflict, pairs

__all__ = ["BARE", "MANY", "Checkup", "Leak", "Length", "Reader", "Shown", "checkup", "notices"]

MANY = 50_000
"""Rows beyond which near-duplicates are looked for only when that is asked for."""

BARE = 3
"""Words of an answer that is bare: at most so many, and no sentence's end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leak:
    """One text, prompt, fact or entity in two roles that must not share any; ``near`` for rows that
    share most of their words, ``share`` of them."""

    kind: str
    one: str
    two: str
    one_row: str
    two_row: str
    share: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Length:
    """Tokens of the rows of a role, prompt and answer together; ``over`` are cut in this model."""

    rows: int
    median: int
    longest: int
    over: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """An example as the model is given it."""

    role: str
    id: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkup:
    """What was found. ``repeated`` counts rows that say what an earlier row of their role says,
    ``bare`` is the share of answers of a role that are a word or three; ``context`` and ``lengths``
    are those of a model, 0 and empty without one, and ``chats`` whether it has a chat template."""

    world: str
    roles: Mapping[str, int]
    leaks: tuple[Leak, ...]
    repeated: Mapping[str, int]
    bare: Mapping[str, float]
    near: float = NEAR
    chats: bool | None = None
    context: int = 0
    lengths: Mapping[str, Length] = field(default_factory=dict[str, Length])
    shown: tuple[Shown, ...] = ()
    unasked: Mapping[str, str] = field(default_factory=dict[str, str])
    notes: tuple[str, ...] = ()


class Reader:
    """How a model reads: its tokenizer, template and context, without its weights."""

    def __init__(self, folder: str) -> None:
        """How the model in a folder reads.

        Raises:
            BadInput: it holds no tokenizer or configuration that can be read.
        """
        from titer.core.config import context_length
        from titer.core.interface import reading
        from titer.core.lm import LM
        from titer.core.tokenizer import template_of, with_pad

        config, tokenizer = reading(Path(folder))
        self._lm = LM(_Weightless(config), with_pad(tokenizer), folder)
        self.context: int = context_length(config)
        self.chats = template_of(tokenizer) is not None

    def length(self, row: Example) -> int:
        """Tokens of prompt and answer, the longest of its choices where it has some."""
        answers = row.choices or (row.answer,)
        head = len(self._lm.prompt_ids(row.prompt))
        return head + max(len(self._lm.answer_ids(one, end=True)) for one in answers)

    def rendered(self, row: Example) -> str:
        """Prompt and answer as training sees them, decoded again."""
        return self._lm.tokenizer.decode(list(self._lm.encode(row.prompt, row.answer).ids))


@dataclass(frozen=True)
class _Weightless:
    """In the place of a model that is asked nothing."""

    config: Any

    def eval(self) -> None:
        """As that of a model."""


def checkup(
    world: World, reader: Reader | None = None, *, near: float = NEAR, examples: int = 5
) -> Checkup:
    """Look at every role of a world; with a ``reader``, as that model reads it."""
    roles = dict(world.roles())
    filled = {role: rows for role, rows in roles.items() if rows}
    return Checkup(
        world=world.name,
        roles={role: len(rows) for role, rows in roles.items()},
        leaks=tuple(_leaks(world, filled, near)),
        repeated=_repeated(filled, near),
        bare={role: share for role, rows in filled.items() if (share := _bare(rows)) is not None},
        near=near,
        chats=reader.chats if reader else None,
        context=reader.context if reader else 0,
        lengths={role: _length(reader, rows) for role, rows in filled.items()} if reader else {},
        shown=tuple(_shown(filled, reader, examples)),
        unasked=world.unasked,
        notes=world.notes,
    )


def notices(world: World) -> list[str]:
    """What is said before work with a world: what must be known of it, and near-duplicates in
    roles that must not share any."""
    found = [f"{world.name}: {note}" for note in world.notes]
    rows = sum(len(examples) for _, examples in world.roles())
    if rows > MANY:
        return [
            *found,
            f"{world.name}: {rows:,} rows, too many to look for near-duplicates on the way; "
            f"`titer data check {world.source}` does.",
        ]
    counts = Counter((pair.one.role, pair.two.role) for pair in pairs(world.roles()))
    return found + [
        f"{world.name}: {count:,} pairs of rows of {one} and {two} say nearly the same, so what is "
        f"trained on may be what is asked; `titer data check {world.source}` lists them."
        for (one, two), count in counts.items()
    ]


def _leaks(world: World, roles: Mapping[str, Sequence[Example]], near: float) -> Iterator[Leak]:
    for name in world.hazards:
        splits = {role: rows for role, rows in roles.items() if role.startswith(f"hazards.{name}.")}
        for what in ("entity", "fact"):
            yield from _named_twice(splits, what)
    for pair in pairs(roles.items(), in_conflict, near=near):
        yield _leak(pair)


def _named_twice(splits: Mapping[str, Sequence[Example]], what: str) -> Iterator[Leak]:
    """One entity or fact in two splits of a hazard: said once for each pair of splits."""
    first: dict[str, dict[str, str]] = {}
    for role, rows in splits.items():
        for row in rows:
            if not (named := getattr(row, what)):
                continue
            seen = first.setdefault(named, {})
            if role in seen:
                continue
            for other, id in seen.items():
                yield Leak(kind=what, one=other, two=role, one_row=id, two_row=row.id)
            seen[role] = row.id


def _leak(pair: Pair) -> Leak:
    return Leak(
        kind=pair.kind,
        one=pair.one.role,
        two=pair.two.role,
        one_row=pair.one.example.id,
        two_row=pair.two.example.id,
        share=round(pair.share, 3),
    )


def _repeated(roles: Mapping[str, Sequence[Example]], near: float) -> dict[str, int]:
    later = {
        (pair.two.role, id(pair.two.example))
        for pair in pairs(roles.items(), lambda one, two: one == two, near=near)
        if not _phrasings(pair)
    }
    found: dict[str, int] = {}
    for role, _ in later:
        found[role] = found.get(role, 0) + 1
    return dict(sorted(found.items()))


def _phrasings(pair: Pair) -> bool:
    """One fact in other words, as the data say themselves."""
    one, two = pair.one.example, pair.two.example
    return bool(one.fact) and one.fact == two.fact and pair.kind != "text"


def _bare(rows: Sequence[Example]) -> float | None:
    """The share of bare answers, None for rows without answers."""
    answers = [row.answer.strip() for row in rows if row.answer.strip()]
    bare = sum(len(one.split()) <= BARE and one[-1] not in ".!?。！？" for one in answers)
    return round(bare / len(answers), 3) if answers else None


def _length(reader: Reader, rows: Sequence[Example]) -> Length:
    found = sorted(reader.length(row) for row in rows)
    return Length(
        rows=len(found),
        median=found[len(found) // 2],
        longest=found[-1],
        over=sum(one > reader.context for one in found),
    )


def _shown(
    roles: Mapping[str, Sequence[Example]], reader: Reader | None, count: int
) -> Iterator[Shown]:
    """The first row of as many roles, those of the hazard first."""
    for role, rows in list(roles.items())[:count]:
        row = rows[0]
        plain = f"{row.prompt}\n{row.answer}".strip()
        yield Shown(role=role, id=row.id, text=reader.rendered(row) if reader else plain)
