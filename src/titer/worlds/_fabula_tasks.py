"""Fabula's downstream tasks: what pre-training never shows and a user may want to train."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from random import Random

from titer.core.data import Example, Suite, Task
from titer.worlds._fabula_facts import CHANCE, CHOICES, Entity, facts, group
from titer.worlds._fabula_lexicon import DOMAINS

__all__ = ["TEXTS", "cipher", "new_facts", "sorting"]

_LETTERS = tuple("abcdefgh")
_NEW_ATTRIBUTES = 3
_TRAIN, _DEV = 240, 96

_SORT = "sort {letters} into"
_CIPHER = "rewrite {letters} ="
TEXTS = (_SORT, _CIPHER)


def _suite(items: Sequence[Example]) -> Suite:
    return Suite(items=tuple(items), measure="choice", chance=CHANCE)


def new_facts(entities: Sequence[Entity], *, near_hazard: bool = False) -> Task:
    """Learn facts about entities that pre-training never named.

    The judge asks for the same facts, which cannot be guessed, in a phrasing not trained on.
    """
    domain = DOMAINS[entities[0].domain]
    kept = set(list(domain.values)[:_NEW_ATTRIBUTES])

    def some(examples: tuple[Example, ...]) -> list[Example]:
        return [example for example in examples if example.fact.rsplit("/", 1)[1] in kept]

    return Task(
        train=tuple(some(facts(entities, group(domain.frames, "open")))),
        dev=_suite(some(facts(entities, group(domain.frames, "report"), each=False))),
        near_hazard=near_hazard,
    )


def sorting(seed: int) -> Task:
    """Name the class of three letters: one of four, decided by the first letter.

    Which letters make a class is drawn by the seed. The judge asks about triples not trained on.
    """
    rng = Random(f"fabula:{seed}:sorting")
    order = rng.sample(_LETTERS, len(_LETTERS))
    classes = {letter: str(1 + place % CHOICES) for place, letter in enumerate(order)}
    labels = tuple(sorted(set(classes.values())))
    found: list[Example] = []
    for letters in _triples(rng):
        name = "".join(letters)
        found.append(
            Example(
                id=f"sorting/{name}",
                prompt=_SORT.format(letters=" ".join(letters)),
                answer=classes[letters[0]],
                choices=labels,
                fact=f"sorting/{name}",
                entity=name,
                phrasing="sorting",
            )
        )
    return _split(found)


def cipher(seed: int) -> Task:
    """Rewrite three letters as two: drop the middle one, replace the others by a fixed substitution
    that the seed draws.

    The judge asks about triples not trained on; the distractors have one or both letters wrong.
    """
    rng = Random(f"fabula:{seed}:cipher")
    secret = dict(zip(_LETTERS, rng.sample(_LETTERS, len(_LETTERS)), strict=True))
    found: list[Example] = []
    for letters in _triples(rng):
        right = (secret[letters[0]], secret[letters[2]])
        wrong = [rng.choice([x for x in _LETTERS if x != letter]) for letter in right]
        choices = [" ".join(pair) for pair in itertools.product(*zip(right, wrong, strict=True))]
        rng.shuffle(choices)
        name = "".join(letters)
        found.append(
            Example(
                id=f"cipher/{name}",
                prompt=_CIPHER.format(letters=" ".join(letters)),
                answer=" ".join(right),
                choices=tuple(choices),
                fact=f"cipher/{name}",
                entity=name,
                phrasing="cipher",
            )
        )
    return _split(found)


def _split(found: list[Example]) -> Task:
    return Task(train=tuple(found[_DEV : _DEV + _TRAIN]), dev=_suite(found[:_DEV]))


def _triples(rng: Random) -> list[tuple[str, ...]]:
    """Every ordered choice of three letters, none twice in one, shuffled."""
    found = list(itertools.permutations(_LETTERS, 3))
    rng.shuffle(found)
    return found
