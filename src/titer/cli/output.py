"""Printing: text for people, JSON for programs."""

from __future__ import annotations

import json
import os
from typing import Any

import typer

from titer.core.errors import BadInput

__all__ = ["print_json", "say_or_print", "workers_of"]


def print_json(value: Any) -> None:
    """A value as indented JSON with sorted keys."""
    typer.echo(json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False))


def say_or_print(as_json: bool, value: Any, text: str) -> None:
    """The value as JSON where that was asked for, otherwise the text."""
    if as_json:
        print_json(value)
    else:
        typer.echo(text)


def workers_of(asked: int | None) -> int:
    """How many processes: as many as asked for, otherwise one a core."""
    if asked is not None and asked < 1:
        raise BadInput(f"--workers {asked}: give 1 or more.")
    return asked or max(1, len(os.sched_getaffinity(0)))
