"""What pre-training reads: profiles, facts and recipes, drawn anew for every epoch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from random import Random

from titer.core.data import Example

__all__ = ["Corpus", "Document", "Profile", "by_fact"]

PROFILES = 4
"""How often an epoch shows each profile; a fact is shown once besides, in one phrasing."""

RECIPES = 4
"""How often an epoch shows each recipe, each time in another phrasing."""


@dataclass(frozen=True, slots=True)
class Document:
    """A prompt with its answer. ``learn`` marks the words of the answer that carry loss; empty
    means all. ``chat``: shown between chat markers, otherwise as plain text."""

    prompt: str
    answer: str
    chat: bool
    learn: tuple[bool, ...] = ()


@dataclass(frozen=True, slots=True)
class Profile:
    """All facts about one entity on one line: what makes memorising quick.

    A line carries six values where a sentence carries one, so a model learns each fact from lines
    and how it may be asked for from sentences.
    """

    head: str
    facts: tuple[tuple[str, str], ...]

    def document(self, rng: Random) -> Document:
        """The facts in random order; only the values carry loss."""
        order = rng.sample(self.facts, len(self.facts))
        answer = " ".join(f"{attr} {value}" for attr, value in order)
        return Document(self.head, answer, rng.random() < 0.5, (False, True) * len(order))


@dataclass(frozen=True, slots=True)
class Corpus:
    """``facts`` and ``recipes`` hold, for each fact, its phrasings."""

    profiles: tuple[Profile, ...]
    facts: tuple[tuple[Example, ...], ...]
    recipes: tuple[tuple[Example, ...], ...]

    def epoch(self, rng: Random) -> list[Document]:
        """One pass in random phrasings, half of it between chat markers; not shuffled."""
        found = [profile.document(rng) for _ in range(PROFILES) for profile in self.profiles]
        for times, facts in ((1, self.facts), (RECIPES, self.recipes)):
            for phrasings in facts:
                for example in rng.sample(phrasings, times):
                    found.append(Document(example.prompt, example.answer, rng.random() < 0.5))
        return found


def by_fact(examples: Iterable[Example]) -> tuple[tuple[Example, ...], ...]:
    """Examples that put the same fact, together."""
    found: dict[str, list[Example]] = {}
    for example in examples:
        found.setdefault(example.fact, []).append(example)
    return tuple(tuple(phrasings) for phrasings in found.values())
