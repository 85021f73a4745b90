"""How many lines are too long for a model's context, so that their beginning is cut off."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from titer.core.data import Example
from titer.core.lm import LM, Template
from titer.core.method import Measure
from titer.core.records import Cut

__all__ = ["cut_of"]


def cut_of(
    lm: LM, trained: Sequence[Example], asked: Iterable[tuple[Measure, Sequence[Example]]] = ()
) -> Cut:
    """Count what does not fit, prompts and answers as :meth:`LM.encode` and the measures take them.

    ``asked`` are measures with their items. A measure that has the model speak leaves it room for
    its answer; one that scores given answers needs room for the longest of them.
    """
    limit = lm.context_length()
    long = sum(_prompt(lm, one) + _answer(lm, one.answer, end=True) > limit for one in trained)
    questions = cut = 0
    for measure, items in asked:
        questions += len(items)
        cut += sum(_needs(lm, measure, item) > limit for item in items)
    return Cut(trained=long, of_trained=len(trained), asked=cut, of_asked=questions)


def _needs(lm: LM, measure: Any, item: Example) -> int:
    """Tokens of an item's prompt and of the answer that it is asked for or scored on."""
    template: Template = getattr(measure, "template", "native")
    head = len(lm.prompt_ids(item.prompt, template))
    longest = max(_answer(lm, text) for text in (*item.choices, item.answer))
    if hasattr(measure, "collect_each"):
        return head + longest
    spoken = getattr(measure, "max_new_tokens", None) or 2 * longest
    return head + min(spoken, lm.context_length() // 2)


def _prompt(lm: LM, example: Example) -> int:
    return len(lm.prompt_ids(example.prompt))


def _answer(lm: LM, text: str, *, end: bool = False) -> int:
    return len(lm.answer_ids(text, end=end))
