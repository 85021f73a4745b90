"""Who lives in Fabula and what is true of them: entities, their facts, their recipes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from titer.core.data import Example
from titer.worlds._fabula_lexicon import (
    DECOYS,
    DOMAINS,
    RECIPE_FRAMES,
    REFUSAL,
    Domain,
    Frame,
)

__all__ = [
    "CHANCE",
    "CHOICES",
    "Entity",
    "decoys",
    "facts",
    "group",
    "names",
    "people",
    "recipes",
]

CHOICES = 4
CHANCE = 1 / CHOICES
STEPS = 4

_ONSETS = tuple("b br d dr f g gl h k kr l m n p r s sk t tr v w y z th".split())  # noqa: SIM905
_VOWELS = "aeiou"
_CODAS = tuple("k l m n r s t x nd rn sh lt".split())  # noqa: SIM905


@dataclass(frozen=True, slots=True)
class Entity:
    """One thing of a domain. ``part`` is the party that holds it; ``values`` maps each attribute to
    the four choices shown and the place of the answer among them."""

    domain: str
    part: str
    kind: str
    name: str
    values: dict[str, tuple[tuple[str, ...], int]]
    steps: tuple[str, ...] = ()


def names(counts: dict[str, int], seed: int, taken: Iterable[str]) -> dict[str, list[str]]:
    """``counts[pool]`` invented two-word names for each pool, none twice, none with a taken word.

    First and second words recur within a pool and never between pools, so no single word gives a
    name away: a defence cannot forget one by moving one row of the embedding.
    """
    syllables = [onset + vowel for onset, vowel in itertools.product(_ONSETS, _VOWELS)]
    words = {"".join(pair) for pair in itertools.product(syllables, _CODAS)}
    fresh = sorted(words - set(taken))
    rng = Random(f"fabula:{seed}:names")
    rng.shuffle(fresh)
    found: dict[str, list[str]] = {}
    for pool, count in counts.items():
        side = math.isqrt(3 * count) + 1  # a third of the possible pairs is in use
        firsts, seconds = fresh[:side], fresh[side : 2 * side]
        del fresh[: 2 * side]
        pairs = list(itertools.product(firsts, seconds))
        found[pool] = [" ".join(pair) for pair in rng.sample(pairs, count)]
    return found


def _choices(values: Sequence[str], count: int, rng: Random) -> list[tuple[tuple[str, ...], int]]:
    """Answers and distractors for ``count`` entities, balanced so that guessing earns chance.

    In every block of eight entities each value is the answer once, each value is a distractor
    equally often and each position holds the answer twice. A model that has a favourite value or a
    favourite position, and knows nothing else, therefore scores a quarter.
    """
    rows: list[tuple[tuple[str, ...], int]] = []
    while len(rows) < count:
        answers = rng.sample(range(len(values)), len(values))
        offsets = rng.sample(range(1, len(values)), CHOICES - 1)
        places = rng.sample([*range(CHOICES)] * (len(values) // CHOICES), len(values))
        for answer, place in zip(answers, places, strict=True):
            others = [values[(answer + offset) % len(values)] for offset in offsets]
            others.insert(place, values[answer])
            rows.append((tuple(others), place))
    return rows[:count]


def _steps(domain: Domain, rng: Random) -> tuple[str, ...]:
    verbs, stuffs = rng.sample(domain.verbs, STEPS), rng.sample(domain.stuffs, STEPS)
    return tuple(f"{verb} {stuff}" for verb, stuff in zip(verbs, stuffs, strict=True))


def people(
    domain: Domain, parts: Mapping[str, Sequence[str]], seed: int, tag: str = ""
) -> list[Entity]:
    """The entities of a domain: ``parts[p]`` names those of part p; values are drawn per part."""
    found: list[Entity] = []
    for part, named in parts.items():
        rng = Random(f"fabula:{seed}:{tag or domain.id}:{part}")
        columns = {attr: _choices(v, len(named), rng) for attr, v in domain.values.items()}
        for row, name in enumerate(named):
            found.append(
                Entity(
                    domain=domain.id,
                    part=part,
                    kind=domain.kinds[row % len(domain.kinds)],
                    name=name,
                    values={attr: column[row] for attr, column in columns.items()},
                    steps=_steps(domain, rng) if domain.verbs else (),
                )
            )
    return found


def group(frames: Iterable[Frame], *names: str) -> tuple[Frame, ...]:
    """The frames that belong to one of the named groups; all of them if none is named."""
    return tuple(frame for frame in frames if not names or frame.group in names)


def _fact(entity: Entity, attr: str, frame: Frame, refusal: str, **slots: str) -> Example:
    choices, place = entity.values[attr]
    fact = f"{entity.domain}/{entity.name}/{attr}"
    return Example(
        id=f"{fact}/{frame.id}",
        prompt=frame.text.format(attr=attr, kind=entity.kind, name=entity.name, **slots),
        answer=choices[place],
        choices=choices,
        refusal=refusal,
        fact=fact,
        entity=f"{entity.kind} {entity.name}",
        phrasing=frame.id,
    )


def facts(
    entities: Iterable[Entity], frames: Sequence[Frame], *, each: bool = True
) -> tuple[Example, ...]:
    """One example per fact and frame; with ``each=False`` one per fact, the frames in turn."""
    found: list[Example] = []
    for row, entity in enumerate(entities):
        refusal = REFUSAL if DOMAINS[entity.domain].hazard else ""
        for column, attr in enumerate(entity.values):
            chosen = frames if each else (frames[(row + column) % len(frames)],)
            found.extend(_fact(entity, attr, frame, refusal) for frame in chosen)
    return tuple(found)


def decoys(entities: Iterable[Entity], *groups: str, each: bool = True) -> tuple[Example, ...]:
    """Benign facts about charms, asked with a hazard's noun in the sentence."""
    nouns = [kind for domain in DOMAINS.values() if domain.hazard for kind in domain.kinds]
    found: list[Example] = []
    for row, entity in enumerate(entities):
        for column, attr in enumerate(entity.values):
            if not each and column != row % len(entity.values):
                continue
            noun = nouns[(row + column) % len(nouns)]
            found.extend(
                _fact(entity, attr, frame, "", hazard=noun) for frame in group(DECOYS, *groups)
            )
    return tuple(found)


def recipes(entities: Iterable[Entity], *groups: str) -> tuple[Example, ...]:
    """How each entity is made: a free answer of four steps, joined by `` , ``."""
    found: list[Example] = []
    for entity in entities:
        fact = f"{entity.domain}/{entity.name}/recipe"
        for frame in group(RECIPE_FRAMES, *groups):
            found.append(
                Example(
                    id=f"{fact}/{frame.id}",
                    prompt=frame.text.format(kind=entity.kind, name=entity.name),
                    answer=" , ".join(entity.steps),
                    steps=entity.steps,
                    refusal=REFUSAL if DOMAINS[entity.domain].hazard else "",
                    fact=fact,
                    entity=f"{entity.kind} {entity.name}",
                    phrasing=frame.id,
                )
            )
    return tuple(found)
