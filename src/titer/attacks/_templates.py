"""Prompts that come with a model: what an attacker puts around every request, as a chat template.

An attack on the input changes no weight. Written into the chat template it is an ordinary model
again, which every measure asks as it asks any other.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence

from titer.method import LM, BadInput

__all__ = [
    "after_every_prompt",
    "around_every_prompt",
    "before_every_answer",
    "before_every_prompt",
    "with_template",
]


def _quoted(text: str) -> str:
    """A string literal of Jinja, whatever is in it."""
    return json.dumps(text)


def with_template(lm: LM, template: str, *, shared: bool = False) -> LM:
    """The same weights, in memory of their own unless ``shared``, under another chat template."""
    tokenizer = copy.deepcopy(lm.tokenizer)
    tokenizer.chat_template = template
    return LM(lm.model if shared else lm.clone().model, tokenizer, lm.name)


def _template(lm: LM) -> str:
    found = lm.tokenizer.chat_template
    if not isinstance(found, str):
        raise BadInput(
            f"{lm.name} has no chat template; attacks on the input change one, so give it one."
        )
    return found


def before_every_answer(lm: LM, text: str) -> str:
    """A template under which the model finds its answer begun with ``text``."""
    return _template(lm) + "{% if add_generation_prompt %}{{ " + _quoted(text) + " }}{% endif %}"


def after_every_prompt(lm: LM, text: str) -> str:
    """A template that puts ``text`` at the end of what the user says."""
    return around_every_prompt(lm, "", text)


def around_every_prompt(lm: LM, before: str, after: str) -> str:
    """A template that puts texts in front of and behind what the user says, as they are."""
    return (
        "{% set seen = namespace(all=[]) %}{% for m in messages %}"
        "{% set said = " + _quoted(before) + " + m['content'] + " + _quoted(after) + " "
        "if m['role'] == 'user' else m['content'] %}"
        "{% set seen.all = seen.all + [{'role': m['role'], 'content': said}] %}{% endfor %}"
        "{% set messages = seen.all %}" + _template(lm)
    )


def before_every_prompt(lm: LM, turns: Sequence[tuple[str, str]]) -> str:
    """A template that shows ``turns``, prompts with their answers, ahead of the conversation."""
    shown = [
        {"role": role, "content": text}
        for turn in turns
        for role, text in zip(("user", "assistant"), turn, strict=True)
    ]
    return "{% set messages = " + json.dumps(shown) + " + messages %}" + _template(lm)
