"""``titer grow``: model organisms, made now; and whether those grown here behave as the shipped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from titer.cli.guard import Writes
from titer.cli.options import AsJson, Quiet, Workers
from titer.cli.output import say_or_print

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("grow")(grow)


def grow(
    kinds: Annotated[
        list[str] | None,
        typer.Argument(help="base, aligned, oracle, sealed, unlocked; default the first three."),
    ] = None,
    size: Annotated[str, typer.Option("--size", help="nano, small or medium.")] = "nano",
    seed: Annotated[int, typer.Option("--seed", help="Which draw, and which world.")] = 0,
    anew: Annotated[
        Path | None,
        typer.Option(
            "--anew",
            help="Grow into this folder, whatever is there, and compare how the two behave.",
        ),
        Writes(),
    ] = None,
    workers: Workers = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Grow model organisms that are not there yet; 1 if one grown anew behaves otherwise."""
    from titer.cli.progress import shown
    from titer.executors.processes import workers_of
    from titer.worlds import organisms

    wanted = [kind.removeprefix("fabula:") for kind in kinds or organisms.REFERENCES]
    for kind in wanted:
        organisms.parse(organisms.named(kind, size, seed))
    with shown(quiet=quiet) as tell:
        folders = organisms.grow_all(
            size, kinds=wanted, seed=seed, workers=workers_of(workers), progress=tell, root=anew
        )
    if anew is None:
        rows = [
            {
                "name": organisms.named(kind, size, seed),
                "from": "shipped" if organisms.shipped(kind, size, seed) else "grown",
                "folder": str(folder),
            }
            for kind, folder in folders.items()
        ]
        say_or_print(
            as_json, rows, "\n".join(f"{r['name']}  {r['from']}  {r['folder']}" for r in rows)
        )
        return
    _compare(folders, size, seed, as_json=as_json)


def _compare(folders: Mapping[str, Path], size: str, seed: int, *, as_json: bool) -> None:
    """Say of each organism grown anew how it behaves beside the one that is there."""
    import torch

    from titer.cli.listing import table
    from titer.core.lm import LM
    from titer.verify.behaviour import behaviour, compared
    from titer.worlds import organisms
    from titer.worlds.fabula import fabula

    torch.set_num_threads(1)
    world = fabula(seed)
    rows: list[dict[str, Any]] = []
    told: list[str] = []
    for kind, folder in folders.items():
        name, there = organisms.named(kind, size, seed), organisms.cached(kind, size, seed)
        if there is None:
            told.append(f"{name} is in {folder}; there is no other to compare it with.")
            continue
        models = [LM.load(path) for path in (there, folder)]
        found = compared(*(behaviour(lm, world) for lm in models))
        same = models[0].digest() == models[1].digest()
        odd = [one.what for one in found if not one.alike]
        alike = "equal to the bit" if same else "other weights, behaves alike"
        told.append(f"{name}: {'behaves otherwise in ' + ', '.join(odd) if odd else alike}")
        rows += [{"name": name, **asdict(one), "alike": one.alike} for one in found]
    shown = [
        {
            key: f"{value:.2f}" if isinstance(value, float) else str(value)
            for key, value in row.items()
        }
        for row in rows
    ]
    text = "\n".join([*([table(shown), ""] if shown else []), *told])
    say_or_print(as_json, {"figures": rows, "found": told}, text)
    if not all(row["alike"] for row in rows):
        raise typer.Exit(1)
