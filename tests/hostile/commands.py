"""Every command of the command line, found and not listed: a new one is in every table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import typer.main

from tests.cli.conftest import Run
from titer.cli.app import app
from titer.cli.guard import Argument, Later, Writes, arguments


@dataclass(frozen=True)
class Given:
    """One argument of one command, with the words that the command needs besides."""

    command: tuple[str, ...]
    argument: Argument
    needed: tuple[str, ...]
    """Names of what must be given besides."""

    def words(self, value: object, **fill: object) -> list[str]:
        """The command line that gives the argument this value, and to what else must be given what
        ``fill`` says, or a place where there is nothing."""
        given: dict[str, object] = {name: _FILL.get(name, "/nonexistent") for name in self.needed}
        if self.command == ("attack",):
            given["name"] = "S03"
        given |= {name: value for name, value in fill.items() if name in given}
        given[self.argument.name] = value
        options = {param.name: param.opts[0] for param in _command(self.command).params}
        named = [f"{options[n]}={v}" for n, v in given.items() if options[n].startswith("-")]
        # As the command has them, one after another.
        places = [str(given[n]) for n, o in options.items() if n in given and o[0] != "-"]
        return [*self.command, *named, *places]

    def __str__(self) -> str:
        return "-".join((*self.command, self.argument.name))


def given() -> Iterator[Given]:
    """Each argument that is a path or a number, of each command."""
    for path, command in commands():
        for one in arguments(command.callback):
            yield Given(path, one, _needed(command, one.name))


def texts() -> Iterator[Given]:
    """Each argument that is a text, of each command."""
    for path, command in commands():
        known = {one.name for one in arguments(command.callback)}
        for param in command.params:
            if param.name not in known and not getattr(param, "is_flag", False):
                own = param.opts[0] if param.opts[0][0] == "-" else param.name.upper()
                yield Given(
                    path, Argument(param.name, own, str, None), _needed(command, param.name)
                )


def refused(titer: Run, words: Sequence[object]) -> str:
    """What a command says that refuses its words: in lines that can be printed, with code 2."""
    code, out, err = titer(*words)
    assert (code, out) == (2, ""), (code, out[-300:], err[-600:])
    assert err
    for line in err.splitlines():
        assert line.startswith("titer: "), line[:200]
        assert len(line) <= 620, line[:200]
        assert line.isprintable(), ascii(line)[:200]
    return err


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


def _needed(command: Any, but: str) -> tuple[str, ...]:
    """The names of all that must be given."""
    return tuple(param.name for param in command.params if param.required and param.name != but)


@cache
def _command(path: tuple[str, ...]) -> Any:
    return dict(commands())[path]


_FILL = {"name": "npo", "model": "fabula:base", "models": "fabula:base"}
