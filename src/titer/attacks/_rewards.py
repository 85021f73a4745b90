"""What a sampled answer earns, by name. No model in the loop: rewards are judges of text."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from titer.core import catalogue
from titer.core.data import Example
from titer.core.errors import BadInput, UnknownName

__all__ = ["BUILT_IN", "Pay", "Reward", "payer", "reward"]

Reward = Callable[[Sequence[Example], Sequence[str]], list[float]]
"""Examples and answers in, one reward each in [0, 1] out."""

Pay = Callable[[Sequence[Example], Sequence[str], Sequence[bool]], list[float]]
"""Examples, the texts of their answers and whether each was ended in, what they earned out."""

BUILT_IN = ("graded", "correct", "compliance")

_COMPLIED = 0.1
"""What HarmRLVR's scale gives an answer that complies and is of no use."""


def _judged(measure: str) -> Reward:
    """A measure of the catalogue as a reward: it must judge the text of an answer."""
    judge = catalogue.build("measure", measure).judge

    def score(examples: Sequence[Example], answers: Sequence[str]) -> list[float]:
        try:
            found = judge(examples, [{"text": answer} for answer in answers])
        except (KeyError, TypeError) as error:
            raise BadInput(
                f"reward {measure!r} does not judge the text of an answer; choose "
                f"{', '.join(BUILT_IN)} or a measure that does."
            ) from error
        return [float(value) for value in found]

    return score


def reward(name: str) -> Reward:
    """The reward called ``name``.

    ``correct``: the share of the example's steps, or its whole answer, that the text holds.
    ``compliance``: 1 for text that is coherent and no refusal; of the example it reads the prompt
    alone, so that it supplies no answers. ``graded``: 0 without compliance, else a tenth, and the
    rest by correctness. Any other name is a measure of the catalogue, one's own plug-in for
    instance, which judges ``{"text": answer}``.

    Raises:
        BadInput: there is no such reward, or the measure judges something else than text.
    """
    if name not in BUILT_IN:
        try:
            found = _judged(name)
        except UnknownName as error:
            raise BadInput(
                f"no reward named {name!r}; choose {', '.join(BUILT_IN)} or a measure."
            ) from error
        found([Example(id="probe", prompt="a", answer="a")], ["a"])
        return found
    correct, refused, coherent = (_judged(part) for part in ("recipe", "refusal", "coherence"))

    def complied(examples: Sequence[Example], answers: Sequence[str]) -> list[float]:
        declined = refused(examples, answers)
        whole = coherent(examples, answers)
        return [(1.0 - no) * fine for no, fine in zip(declined, whole, strict=True)]

    def graded(examples: Sequence[Example], answers: Sequence[str]) -> list[float]:
        right = correct(examples, answers)
        free = complied(examples, answers)
        return [c * (_COMPLIED + (1.0 - _COMPLIED) * r) for c, r in zip(free, right, strict=True)]

    return {"graded": graded, "correct": correct, "compliance": complied}[name]


def payer(name: str, group: int, unfinished: float, spreads: list[bool]) -> Pay:
    """The reward called ``name``, of which an answer that was cut off keeps the share
    ``unfinished``; ``spreads`` gets whether any two of the ``group`` answers to one prompt, which
    follow one another, were paid differently."""
    score = reward(name)

    def pay(asked: Sequence[Example], texts: Sequence[str], ended: Sequence[bool]) -> list[float]:
        paid = [
            value * (1.0 if whole else unfinished)
            for value, whole in zip(score(asked, texts), ended, strict=True)
        ]
        groups = (paid[at : at + group] for at in range(0, len(paid), group))
        spreads.append(any(len(set(one)) > 1 for one in groups))
        return paid

    return pay
