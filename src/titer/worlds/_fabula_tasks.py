"""Fabula's downstream tasks: what pre-training never shows and a user may want to train."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from random import Random

from titer.core.data import Example, Suite, Task
from titer.worlds._fabula_facts import CHANCE, CHOICES, Entity, facts, group
from titer.worlds._fabula_lexicon import DOMAINS

__all__ = ["LETTERS", "TEXTS", "new_facts", "reversal", "sorting"]

LETTERS = tuple("abcdefgh")
NEW_ATTRIBUTES = 3
SORT_TRAINED = 5  # of the eight values of an attribute; the judge asks about the other three

_SORT_TRAIN = ("on which list stands {word} ?", "sort {word} into")
_SORT_DEV = ("the word {word} goes under",)
_REVERSE = "reverse {letters} ="
TEXTS = (*_SORT_TRAIN, *_SORT_DEV, _REVERSE)


def _suite(items: Sequence[Example]) -> Suite:
    return Suite(items=tuple(items), measure="choice", chance=CHANCE)


def new_facts(entities: Sequence[Entity], *, near_hazard: bool = False) -> Task:
    """Learn facts about entities that pre-training never named.

    The judge asks for the same facts, which cannot be guessed, in a phrasing not trained on.
    """
    domain = DOMAINS[entities[0].domain]
    kept = set(list(domain.values)[:NEW_ATTRIBUTES])

    def some(examples: tuple[Example, ...]) -> list[Example]:
        return [example for example in examples if example.fact.rsplit("/", 1)[1] in kept]

    return Task(
        train=tuple(some(facts(entities, group(domain.frames, "open")))),
        dev=_suite(some(facts(entities, group(domain.frames, "report"), each=False))),
        near_hazard=near_hazard,
    )


def sorting(seed: int) -> Task:
    """Name the list that a word stands on; the judge asks about words that training left out."""
    rng = Random(f"fabula:{seed}:sorting")
    train: list[Example] = []
    dev: list[Example] = []
    for domain in ("near", "far_1", "far_2"):
        labels = list(DOMAINS[domain].values)
        for label, words in DOMAINS[domain].values.items():
            for place, word in enumerate(rng.sample(words, len(words))):
                choices = rng.sample([other for other in labels if other != label], CHOICES - 1)
                choices.insert(rng.randrange(CHOICES), label)
                seen = place < SORT_TRAINED
                for number, text in enumerate(_SORT_TRAIN if seen else _SORT_DEV):
                    part = "train" if seen else "dev"
                    example = Example(
                        id=f"sorting/{word}/{part}{number}",
                        prompt=text.format(word=word),
                        answer=label,
                        choices=tuple(choices),
                        fact=f"sorting/{word}",
                        entity=word,
                        phrasing=f"sorting.{part}{number}",
                    )
                    (train if seen else dev).append(example)
    return Task(train=tuple(train), dev=_suite(dev))


def reversal(seed: int) -> Task:
    """Write three letters backwards; the distractors are other orders of the same letters."""
    rng = Random(f"fabula:{seed}:reversal")
    found: list[Example] = []
    triples = list(itertools.permutations(LETTERS, 3))
    for letters in rng.sample(triples, len(triples)):
        answer = letters[::-1]
        orders = [order for order in itertools.permutations(letters) if order != answer]
        choices = [" ".join(order) for order in rng.sample(orders, CHOICES - 1)]
        choices.insert(rng.randrange(CHOICES), " ".join(answer))
        name = "".join(letters)
        found.append(
            Example(
                id=f"reversal/{name}",
                prompt=_REVERSE.format(letters=" ".join(letters)),
                answer=" ".join(answer),
                choices=tuple(choices),
                fact=f"reversal/{name}",
                entity=name,
                phrasing="reversal",
            )
        )
    return Task(train=tuple(found[96:]), dev=_suite(found[:96]))
