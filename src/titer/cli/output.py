"""Printing: text for people, JSON for programs."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any

import typer

from titer.core.errors import BadInput

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["console", "print_json", "say_or_print", "settings_of", "use_device"]


_PIPE = 140
"""Columns where nobody says how many there are."""


def console() -> Console:
    """Where tables go: as wide as the terminal, in a pipe as wide as COLUMNS says."""
    from rich.console import Console

    known = sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdigit()
    return Console(width=None if known else _PIPE)


def print_json(value: Any) -> None:
    """A value as indented JSON with sorted keys."""
    typer.echo(json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False))


def say_or_print(as_json: bool, value: Any, text: str) -> None:
    """The value as JSON where that was asked for, otherwise the text."""
    if as_json:
        print_json(value)
    else:
        typer.echo(text)


def use_device(asked: str | None) -> None:
    """Have this process and its workers put models on a device; None leaves it as it is.

    Raises:
        BadInput: there is no such device here.
    """
    if asked is None and "TITER_DEVICE" not in os.environ:
        return  # torch need not be loaded to know that there is a CPU
    from titer.core.lm import place

    os.environ["TITER_DEVICE"] = str(place(asked))


def settings_of(items: list[str] | None) -> dict[str, str]:
    """What ``--set name=value`` asks for, by name.

    Raises:
        BadInput: one of them is no setting.
    """
    found: dict[str, str] = {}
    for item in items or []:
        key, sign, value = item.partition("=")
        if not sign or not key:
            raise BadInput(f"--set {item!r} is no setting; write --set name=value.")
        found[key.strip()] = value.strip()
    return found
