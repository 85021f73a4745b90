"""``titer status``: how far a run folder is, and who works in it."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from titer.cli.guard import Reads
from titer.cli.options import AsJson
from titer.cli.output import say_or_print
from titer.core.printable import printable

if TYPE_CHECKING:
    from titer.run.standing import Standing

__all__ = ["register"]

_EVERY = 5.0
"""Seconds between two looks."""
_SHOWN = 5
"""How many jobs in hand are named for each process."""


def status(
    folder: Annotated[Path, typer.Argument(help="A run folder."), Reads()],
    watch: Annotated[
        bool, typer.Option("--watch", help="Look again and again until nobody is at work.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Say how far a study is, who works on it, and when it will be done."""
    from titer.run.standing import standing

    while True:
        found = standing(folder)
        say_or_print(as_json, asdict(found), _text(found))
        if not watch or not found.at_work:
            return
        time.sleep(_EVERY)


def _text(found: Standing) -> str:
    done = found.ended.get("ok", 0) + found.ended.get("diverged", 0)
    others = [
        f"{count} {how}" for how, count in found.ended.items() if how not in ("ok", "diverged")
    ]
    lines = [f"{done} of {found.planned} planned trials have ended" + _listed(others)]
    for one in found.at_work:
        said = f"process {one.pid} on {one.host}"
        said += f", silent for {one.silent:.0f} s" if one.silent > 30 else ""
        shown = "; ".join(one.in_hand[:_SHOWN]) or "nothing in hand"
        more = len(one.in_hand) - _SHOWN
        lines.append(f"{said}: {shown}" + (f" and {more} more" if more > 0 else ""))
    if not found.at_work:
        lines.append("nobody is at work" + ("" if found.reported else "; the same command goes on"))
    if found.at_work and found.left_seconds:
        lines.append(f"about {found.left_seconds / 60:.0f} min left for these at the pace so far")
    return "\n".join(printable(line) for line in lines)


def _listed(others: list[str]) -> str:
    return f" ({', '.join(others)})" if others else ""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(status)
