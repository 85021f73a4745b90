"""Several attackers on one model: side by side where they can be, one after another where not."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from itertools import chain
from typing import Protocol, runtime_checkable

from titer.core.lm import LM
from titer.core.method import Attack, Run
from titer.train.cohort import Finetuning, together

__all__ = ["COPIES", "Cohesive", "candidates", "fill", "side_by_side"]

_TOKENS = 1000
"""Tokens of one step of a cohort on one thread. More no longer fill the caches: matrix products
slow down by more than what is saved on starting them. From ``benchmarks/cohorts.py``."""

_MOST = 16
COPIES = 1_000_000
"""Above so many weights copies of a whole model are no faster together than one after another."""


@runtime_checkable
class Cohesive(Protocol):
    """An attack that trains beside others like it: those whose ``share`` is equal."""

    @property
    def share(self) -> Hashable: ...

    def finetuning(self, lm: LM, run: Run) -> Finetuning: ...


def fill(tokens: float, parameters: int, *, adapters: bool) -> int:
    """How many members of so many tokens a step pay in one pass, on a processor with one thread.

    ``parameters`` are the base's.
    """
    if not adapters and parameters > COPIES:
        return 1
    return max(1, min(_MOST, round(_TOKENS / max(1.0, tokens))))


def candidates(lm: LM, tries: Sequence[tuple[Attack, Run]]) -> list[LM | Exception]:
    """What each attack makes of ``lm``, which is untouched, or what went wrong; in their order.

    Those that say that they share (:class:`Cohesive`) train by :func:`side_by_side`; each has its
    own run, and ends as it would alone, but for rounding.
    """
    found: dict[int, LM | Exception] = {}
    kinds: dict[tuple[type, Hashable], dict[int, Finetuning]] = {}
    for number, (attack, run) in enumerate(tries):
        try:
            if isinstance(attack, Cohesive):
                kind = type(attack), attack.share
                kinds.setdefault(kind, {})[number] = attack.finetuning(lm, run)
            else:
                found[number] = attack(lm, run)
        except Exception as problem:
            found[number] = problem
    for members in kinds.values():
        found |= dict(zip(members, side_by_side(lm, list(members.values())), strict=True))
    return [found[number] for number in range(len(tries))]


def side_by_side(lm: LM, members: Sequence[Finetuning]) -> list[LM | Exception]:
    """Fine-tunes of one kind as cohorts, as many in one pass as pay by :func:`fill`."""
    found: list[LM | Exception] = []
    for group in _groups(lm, members):
        ended: dict[int, LM | Exception] = {}
        together(lm, group, ended.__setitem__)
        found += [ended[place] for place in range(len(group))]
    return found


def _groups(lm: LM, members: Sequence[Finetuning]) -> Iterator[Sequence[Finetuning]]:
    """As few groups as the largest step allows, evenly filled."""
    tokens = 0
    for one in members:
        first = next(one.member.batches)
        one.member.batches = chain([first], one.member.batches)
        tokens = max(tokens, first.tokens)
    parameters = sum(weight.numel() for weight in lm.model.parameters())
    adapters = all(one.weights.which == "lora" for one in members)
    count = -(-len(members) // fill(tokens, parameters, adapters=adapters))
    size, more = divmod(len(members), count)
    start = 0
    for index in range(count):
        end = start + size + (index < more)
        yield members[start:end]
        start = end
