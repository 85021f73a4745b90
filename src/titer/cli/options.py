"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "AsJson",
    "DataFolder",
    "Device",
    "Domain",
    "DryRun",
    "EachTrial",
    "Out",
    "Quiet",
    "Seed",
    "ShowAnswers",
    "Verbose",
    "Where",
    "Workers",
]

Out = Annotated[Path, typer.Option("--out", help="Where to write.")]
Workers = Annotated[
    int | None, typer.Option("--workers", help="Processes, one thread each; default one a core.")
]
Where = Annotated[
    str, typer.Option("--executor", help="Where trials run: processes, or inline, one by one.")
]
Device = Annotated[
    str | None,
    typer.Option("--device", help="Where models run: cpu, cuda, cuda:1; default TITER_DEVICE."),
]
DataFolder = Annotated[str, typer.Option("--data", help="A folder with a data.yaml, or fabula.")]
Domain = Annotated[str | None, typer.Option("--domain", help="Which hazard.")]
Seed = Annotated[int, typer.Option("--seed", help="Decides every draw.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]
Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", help="A line at every checkpoint: loss, rate, time left.")
]
EachTrial = Annotated[
    bool, typer.Option("--verbose", "-v", help="A line for each trial as it ends: harm, seconds.")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Check everything and estimate; run nothing.")
]
ShowAnswers = Annotated[
    bool | None,
    typer.Option(
        "--show-answers/--no-show-answers",
        help="Show prompts and answers on answers.html, or hashes; text by default on Fabula.",
    ),
]
