"""Printing: text for people, as wide as the terminal; JSON for programs."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import typer

from titer.core.printable import printable, shortened

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from titer.verdict.parts import Verdict

__all__ = [
    "console",
    "note",
    "print_json",
    "print_verdict",
    "say",
    "say_or_print",
    "tell_warnings",
    "width",
    "wrapped",
]


_STYLES = re.compile(r"(\x1b\[[\d;]*m)")
_BOLD = re.compile(r"(\x1b\[[01]m)")


def width() -> int:
    """Columns: what COLUMNS says, otherwise those of the terminal, 80 in a pipe."""
    return shutil.get_terminal_size(fallback=(80, 24)).columns


def console() -> Console:
    """Where tables go; with NO_COLOR they are plain text, without bold too."""
    from rich.console import Console

    plain = bool(os.environ.get("NO_COLOR"))
    return Console(width=width(), color_system=None if plain else "auto")


def wrapped(text: str) -> str:
    """Text whose lines are no longer than the terminal is wide; a line that goes on is indented by
    two more. A word that is longer, such as a path, stays whole."""
    lines: list[str] = []
    for line in text.split("\n"):
        if len(_STYLES.sub("", line)) <= width():
            lines.append(line)
            continue
        indent = " " * (len(line) - len(line.lstrip()) + 2)
        lines += textwrap.wrap(
            line,
            width(),
            subsequent_indent=indent,
            break_long_words=False,
            break_on_hyphens=False,
        )
    return "\n".join(lines)


def say(text: str, *, err: bool = False) -> None:
    """Print text for people, wrapped. Control characters in it are shown and do nothing; lines that
    say what is wrong are cut where they are too long."""
    if err:
        text = "\n".join(map(shortened, text.split("\n")))
    typer.echo(wrapped(_harmless(text, _BOLD)), err=err)


def note(text: str) -> None:
    """Print a line on the way, as it stands but for control characters."""
    typer.echo(printable(text), err=True)


def _harmless(text: str, own: re.Pattern[str]) -> str:
    """The text as it may be printed: on a terminal with the styles that are our own."""
    if not sys.stdout.isatty():
        return printable(text)
    pieces = own.split(text)
    return "".join(piece if own.fullmatch(piece) else printable(piece) for piece in pieces)


class _Wrapped(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        say(f"titer: {record.getMessage()}", err=True)


def tell_warnings() -> None:
    """Have what titer warns of told as the commands tell everything else."""
    log = logging.getLogger("titer")
    if not any(isinstance(handler, _Wrapped) for handler in log.handlers):
        log.addHandler(_Wrapped(logging.WARNING))


def print_json(value: Any) -> None:
    """A value as indented JSON with sorted keys."""
    typer.echo(printable(json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False)))


def say_or_print(as_json: bool, value: Any, text: str) -> None:
    """The value as JSON where that was asked for, otherwise the text."""
    if as_json:
        print_json(value)
    else:
        say(text)


def print_verdict(verdict: Verdict, folder: Path, *, as_json: bool) -> None:
    """The table of a verdict, or the same content as JSON."""
    from titer.report.answers import told
    from titer.report.tables import terminal

    if as_json:
        print_json(verdict.to_json())
        return
    screen = console()
    with screen.capture() as capture:
        screen.print(terminal(verdict))
    typer.echo(_harmless(capture.get(), _STYLES), nl=False)
    typer.echo(printable(f"report: {folder / 'report' / 'index.html'}"))
    if line := told(folder):
        typer.echo(printable(line))
