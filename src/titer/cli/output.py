"""Printing: text for people, JSON for programs."""

from __future__ import annotations

import json
import os
from typing import Any

import typer

from titer.core.errors import BadInput

__all__ = ["print_json", "say_or_print", "settings_of", "use_device", "workers_of"]


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


def workers_of(asked: int | None) -> int:
    """How many processes: as many as asked for, otherwise one a core; one on another device than
    the CPU, of which each would take a share."""
    if asked is not None and asked < 1:
        raise BadInput(f"--workers {asked}: give 1 or more.")
    if asked is None and os.environ.get("TITER_DEVICE", "cpu") != "cpu":
        return 1
    return asked or max(1, len(os.sched_getaffinity(0)))


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
