"""Reading what others wrote: JSON and YAML that are torn, of another shape, or made to do harm."""

from __future__ import annotations

import json
from typing import Any, cast

import yaml

__all__ = ["UNREADABLE", "load_json", "load_yaml", "require_plain"]

UNREADABLE = (KeyError, IndexError, TypeError, ValueError, AttributeError, ArithmeticError)
"""What is raised where a file does not hold what it should. Nothing else is: what is nested deeper
than Python can read is a ``ValueError`` here."""


def load_json(text: str | bytes) -> Any:
    """What JSON says, as :func:`json.loads` reads it.

    NaN and infinite numbers, which are no JSON, come as they stand: who uses a number says what it
    may be.

    Raises:
        ValueError: it is no JSON, nested too deep, or holds half a character.
    """
    try:
        content = json.loads(text)
    except RecursionError:
        raise ValueError("it is nested deeper than anything that titer writes") from None
    if _half(text):
        try:
            json.dumps(content, ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError:
            raise ValueError("it holds half a character") from None
    return content


def _half(text: str | bytes) -> bool:
    """Whether a text could hold one of two surrogates without the other, which nobody can write."""
    return (b"\\ud" if isinstance(text, bytes) else "\\ud") in text.lower()  # type: ignore[operator]


def load_yaml(text: str) -> Any:
    """What plain YAML says: no tags, and no aliases, with which few lines can mean gigabytes.

    Raises:
        ValueError: it is none; the first line says why.
    """
    try:
        require_plain(text)
        return yaml.safe_load(text)
    except RecursionError:
        raise ValueError("it is nested deeper than anything that titer writes") from None
    except (yaml.YAMLError, ArithmeticError, TypeError) as error:
        raise ValueError(str(error).partition("\n")[0]) from error


_DEEPEST = 100
"""Levels of YAML; what is nested deeper takes time by the square of its length."""


def require_plain(text: str) -> None:
    """Refuse aliases and deep nesting in YAML.

    Raises:
        ValueError: there are some.
        yaml.YAMLError: it is none.
    """
    depth, parse = 0, cast(Any, yaml).parse
    for event in parse(text, yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            raise ValueError("it uses a YAML alias (*name); write the value out")
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            raise ValueError("it is nested deeper than anything that titer writes")
