"""What every command looks at before it does anything: places that are written, files that are
read, and numbers."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Union, cast, get_args, get_origin

import typer
from typer.core import TyperGroup
from typer.models import OptionInfo

from titer.core.bounds import require_number
from titer.core.errors import BadInput
from titer.core.files import Wants, require_place, require_regular
from titer.core.printable import shortened

__all__ = [
    "Argument",
    "Commands",
    "Judging",
    "Later",
    "Program",
    "Reads",
    "Writes",
    "arguments",
    "require_words",
]


@dataclass(frozen=True, slots=True)
class Writes:
    """Marks a path that the command writes to. ``beside`` are endings of further files there."""

    wants: Wants = "folder"
    beside: tuple[str, ...] = ()

    def check(self, path: Path, said: str) -> None:
        """Refuse what cannot be written."""
        for ending in ("", *self.beside):
            require_place(path.with_name(f"{path.name}{ending}"), said, self.wants)


@dataclass(frozen=True, slots=True)
class Reads:
    """Marks a path that the command reads."""

    def check(self, path: Path, _said: str) -> None:
        """Refuse what might be read for ever."""
        require_regular(path)


@dataclass(frozen=True, slots=True)
class Later:
    """Marks what is looked at with all else that is asked, so that all faults are said at once."""


Mark = Writes | Reads | Later


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument of a command: its name, its option, its type, and what is done with a path."""

    name: str
    option: str
    kind: type[Any]
    mark: Mark | None

    def check(self, given: Any) -> None:
        """Refuse what is out of range, or a place that will not do.

        Raises:
            BadInput: one sentence.
        """
        if isinstance(self.mark, Later):
            return
        for value in cast("list[Any]", given) if isinstance(given, list) else [given]:
            if isinstance(value, Path):
                self._path(value)
            elif isinstance(value, int | float) and not isinstance(value, bool):
                require_number(self.name, value, self.option)

    def _path(self, path: Path) -> None:
        if not isinstance(self.mark, Reads | Writes):
            raise TypeError(f"{self.name}: say whether the command Reads or Writes it")
        self.mark.check(path, self.option)


class Program(typer.Typer):
    """A typer program whose commands all look at what they are given before they start."""

    def command(self, *words: Any, **more: Any) -> Callable[[Any], Any]:
        """As that of typer."""
        register = super().command(*words, **more)

        def guarded(command: Callable[..., Any]) -> Any:
            return register(_guarded(command))

        return guarded


class Commands(TyperGroup):
    """The commands of a program; what is wrong with their words is one sentence, as all else is."""

    def invoke(self, ctx: Any) -> Any:
        """As that of typer."""
        try:
            return super().invoke(ctx)
        except Exception as error:
            # What typer raises for it has no public name, but for one kind; help is no fault.
            say = getattr(error, "format_message", None)
            if say is None or type(error).__name__ == "NoArgsIsHelpError":
                raise
            said = shortened(str(say()).rstrip("."))
            raise BadInput(f"{said}; see `{_asked(ctx)} --help`.") from None


class Judging(TyperGroup):
    """Commands of which ``answers`` goes without saying: the first word may be its file."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """As that of click."""
        known = args and args[0] in self.list_commands(ctx)
        return super().resolve_command(ctx, args if known else ["answers", *args])


def _asked(ctx: Any) -> str:
    """The command that the words are for, as far as there is one."""
    named = ctx.invoked_subcommand
    return f"titer {named}" if named in getattr(ctx.command, "commands", {}) else "titer"


def _guarded(command: Callable[..., Any]) -> Callable[..., Any]:
    known = {one.name: one for one in arguments(command)}

    @wraps(command)
    def called(**given: Any) -> Any:
        for name, value in given.items():
            if name in known:
                known[name].check(value)
        return command(**given)

    return called


def arguments(command: Callable[..., Any]) -> Iterator[Argument]:
    """The arguments of a command that are paths or numbers."""
    for one in inspect.signature(command, eval_str=True).parameters.values():
        hint, *told = get_args(one.annotation) if _annotated(one) else (one.annotation,)
        kind = _plain(hint)
        if kind in (Path, int, float):
            marks = [mark for mark in told if isinstance(mark, Mark)]
            yield Argument(one.name, _option(one.name, told), kind, marks[0] if marks else None)


def _annotated(one: inspect.Parameter) -> bool:
    return get_origin(one.annotation) is Annotated


def _plain(hint: Any) -> Any:
    """``list[int] | None`` is of int."""
    while get_origin(hint) in (list, Union, types.UnionType):
        hint = next(inner for inner in get_args(hint) if inner is not type(None))
    return hint


def _option(name: str, told: list[Any]) -> str:
    # typer takes the first word of an option for its default until it builds the command.
    words = [str(one.default) for one in told if isinstance(one, OptionInfo)]
    return words[0] if words and words[0].startswith("--") else name.upper()


def require_words(words: list[str]) -> None:
    """Refuse words of a command line that could not be printed or written down as they are.

    Raises:
        BadInput: one is empty, holds a control character, or is no text.
    """
    for word in words:
        if not word or (word.startswith("--") and word.endswith("=")):
            raise BadInput(
                f"the argument {word!r} is empty, as where a variable of the shell is not set; "
                "give a value, or leave it out."
            )
        strange = next((char for char in word if _strange(char)), None)
        if strange is not None:
            raise BadInput(
                f"{ascii(word)[:200]} holds a character that cannot be printed "
                f"({strange!a}); write it without, or rename the file."
            )


def _strange(char: str) -> bool:
    code = ord(char)
    return (code < 32 and char not in "\t\n") or 127 <= code < 160 or 0xD800 <= code < 0xE000
