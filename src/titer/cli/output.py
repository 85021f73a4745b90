"""Printing: text for people, JSON for programs."""

from __future__ import annotations

import json
from typing import Any

import typer

__all__ = ["print_json", "say_or_print"]


def print_json(value: Any) -> None:
    """A value as indented JSON with sorted keys."""
    typer.echo(json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False))


def say_or_print(as_json: bool, value: Any, text: str) -> None:
    """The value as JSON where that was asked for, otherwise the text."""
    if as_json:
        print_json(value)
    else:
        typer.echo(text)
