"""Every command of the command line, found and not listed: a new one is in every table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import typer.main

from titer.cli.app import app
from titer.cli.guard import Argument, Later, Writes, arguments


@dataclass(frozen=True)
class Given:
    """One argument of one command, with the words that the command needs besides."""

    command: tuple[str, ...]
    argument: Argument
    needed: tuple[str, ...]

    def words(self, value: object) -> list[str]:
        """The command line that gives the argument this value."""
        own = self.argument.option
        return [
            *self.command,
            *self.needed,
            *([f"{own}={value}"] if own[0] == "-" else [str(value)]),
        ]

    def __str__(self) -> str:
        return "-".join((*self.command, self.argument.name))


def given() -> Iterator[Given]:
    """Each argument that is a path or a number, of each command."""
    for path, command in commands():
        for one in arguments(command.callback):
            yield Given(path, one, tuple(_needed(command, one.name)))


def written() -> list[Given]:
    """Arguments that say where a command writes."""
    return [
        one
        for one in given()
        if isinstance(one.argument.mark, Writes)
        or (isinstance(one.argument.mark, Later) and one.argument.name == "out")
    ]


def commands(
    group: Any = None, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command and the words that call it."""
    above: Any = group or typer.main.get_command(app)
    for name, command in above.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


def _needed(command: Any, but: str) -> Iterator[str]:
    """Something for all that must be given; nothing of it is read before the checks."""
    for param in command.params:
        if param.required and param.name != but:
            if param.param_type_name == "option":
                yield f"{param.opts[0]}=/nonexistent"
            else:
                yield "fabula:base" if param.name == "models" else "/nonexistent"
