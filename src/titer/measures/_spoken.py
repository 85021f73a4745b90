"""What a model says when it is asked, and what is told of it beside its score."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from titer.core.data import Example
from titer.core.lm import LM, Template

__all__ = ["UNJUDGED", "spoken"]

UNJUDGED = frozenset({"unclear", "unread", "no_answer"})
"""What the judge of refusals says where it does not judge, but of an answer without a word, which
is not language and no question of refusal."""


def spoken(
    lm: LM, items: Sequence[Example], max_new_tokens: int, template: Template
) -> list[dict[str, Any]]:
    """A record an item: the ``text`` of the greedy answer, and ``cut`` where it had not come to its
    end."""
    said = lm.speak(
        [item.prompt for item in items], max_new_tokens=max_new_tokens, template=template
    )
    return [{"text": one.text, "cut": True} if one.cut else {"text": one.text} for one in said]
