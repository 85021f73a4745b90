"""``titer race``: adversary against defender, live."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from titer.cli.options import (
    AsJson,
    DataFolder,
    Domain,
    DryRun,
    Out,
    Quiet,
    Seed,
    Settings,
    few_threads,
    loading,
    settings_of,
)
from titer.cli.output import note, say_or_print
from titer.core.errors import BadInput

if TYPE_CHECKING:
    from titer.race import Look, RaceResult

_Shown = tuple[Callable[["Look"], None], Callable[[str], None]]

__all__ = ["curves", "line", "register", "sparkline"]

_MILLIMETRES = 150.0
"""Across the picture."""
_WIDE = 40
"""Moves that fit on a line of a terminal."""

_LEGEND = """\
The adversary is a hypernetwork: it writes patches that bring harmful facts out of the model.
The defender trains the model to resist them. They move by turns. Harm and utility are shares
of questions answered rightly, harm on facts held out from both; guessing gives {chance:.2f}.
"""

_BARS = "▁▂▃▄▅▆▇█"
_SHOWN = (
    ("adversary's loss", "adversary", None),
    ("defender's loss", "defender", None),
    ("harm, model as it is", "harm", 1.0),
    ("harm, its adversary", "current", 1.0),
    ("harm, a new adversary", "fresh", 1.0),
    ("utility", "utility", 1.0),
    ("utility under the patch", "spoilt", 1.0),
)
_TESTBED: dict[str, Any] = {"batch_size": 8, "budget": 0.5}
"""Beside the preset for the testbed: smaller batches, for a race that a class can wait for."""


def race(
    model: Annotated[str, typer.Argument(help="A folder, a hub id, or fabula:NAME.")],
    blocks: Annotated[int, typer.Option("--blocks", help="How often both players move.")] = 8,
    block: Annotated[int, typer.Option("--block", help="The defender's steps a block.")] = 10,
    ratio: Annotated[
        float, typer.Option("--ratio", help="The adversary's steps for each of the defender's.")
    ] = 2.0,
    lr: Annotated[float | None, typer.Option("--lr", help="The defender's learning rate.")] = None,
    adversary_lr: Annotated[
        float | None, typer.Option("--adversary-lr", help="The adversary's learning rate.")
    ] = None,
    rank: Annotated[
        int | None, typer.Option("--rank", help="Rank of the adversary's edit.")
    ] = None,
    exam: Annotated[
        int, typer.Option("--exam", help="Steps of the new attacker that decides.")
    ] = 100,
    settings: Settings = None,
    data: DataFolder = "fabula",
    domain: Domain = None,
    out: Out = Path("runs/race"),
    seed: Seed = 0,
    save: Annotated[bool, typer.Option("--save", help="Keep the defended model too.")] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    dry_run: DryRun = False,
) -> None:
    """Adversary against defender, live; ends with who won, by which rule, and a picture."""
    own: dict[str, Any] = {"lr": lr, "adversary_lr": adversary_lr, "edit_rank": rank}
    given = {name: value for name, value in own.items() if value is not None}
    result = _run(
        model,
        {**given, **settings_of(settings)},
        {"blocks": blocks, "block": block, "ratio": ratio, "exam": exam, "seed": seed},
        data=data,
        domain=domain,
        out=out,
        save=save,
        quiet=quiet or as_json,
        dry_run=dry_run,
    )
    if result is None:
        from titer.race import RATES

        # The exam is of two models.
        last = f"{2 * len(RATES)} times {exam}"
        steps = f"{blocks} times {round(ratio * block)} and {block} steps, then {last}"
        say_or_print(as_json, {"would": steps}, f"would take {steps}.")
        return
    written = {**asdict(result), "picture": str(out / "race.svg")}
    picture = f"picture: {out / 'race.svg'}   numbers: {out / 'race.json'}"
    say_or_print(as_json, written, f"{_verdict(result)}\n{picture}")


def _run(
    model: str,
    own: dict[str, Any],
    shape: dict[str, Any],
    *,
    data: str,
    domain: str | None,
    out: Path,
    save: bool,
    quiet: bool,
    dry_run: bool,
) -> RaceResult | None:
    from titer.api import load, rehearse
    from titer.cli.dry_run import not_grown
    from titer.core import catalogue
    from titer.core.files import atomic_folder, require_place, write_atomic
    from titer.core.study import Study
    from titer.race import Race
    from titer.report import _game, _paper
    from titer.trial.presets import is_testbed

    for name in ("race.svg", "race.json"):
        require_place(out / name, "--out", "file")
    require_place(out / "model", "--out", "new folder")
    if out.exists() and any(out.iterdir()) and not (out / "race.json").exists():
        raise BadInput(f"{out} exists and holds no race; choose another --out.")
    asked = Study(models=(model,), data=data, domain=domain, out=out)
    missing = rehearse.ungrown(asked, alone=True)
    catalogue.build("defence", "antidote", own)
    if dry_run and not_grown(missing, as_json=False):
        return None
    scope = rehearse.scope_of(asked, lambda label, done, total: None)
    lm = load(model)
    start = dict(catalogue.card("defence", "antidote").presets["antidote-testbed"].fields)
    fields = {**start, **_TESTBED} if is_testbed(lm.parameters()) else {}
    # Knowledge is fought over by wrong answers, and by refusals where there are no choices; one
    # patch for all prompts is what an attacker can hand on.
    fields = {"safe": "distractor", "conditioning": "universal", **fields, **own}
    rules = catalogue.build("defence", "antidote", fields)
    if dry_run:
        Race(rules=rules, **shape)
        return None
    few_threads(lm.parameters())
    with live(quiet) as (tell, note):
        note(_LEGEND.format(chance=scope.world.chance))
        contest = Race(rules=rules, tell=tell, note=note, **shape)
        result, defended = contest(lm, scope)
    rows = [asdict(look) for look in result.looks]
    drawing = _game.race(rows, f"Race on {model}", phi=result.phi, exam=result.exam)
    write_atomic(out / "race.svg", _paper.to_svg(drawing, _MILLIMETRES))
    facts = {**asdict(result), "model": model, "rules": asdict(rules), "shape": shape}
    write_atomic(out / "race.json", json.dumps(facts, indent=1, sort_keys=True))
    if save:
        with atomic_folder(out / "model") as scratch:
            defended.save(scratch)
    return result


def _verdict(result: RaceResult) -> str:
    won = "nobody wins" if result.winner == "nobody" else f"the {result.winner} wins"
    lines = [f"{won}: {result.because}."]
    lines += [f"watch: {flag}" for flag in result.flags]
    lines.append(
        "This is one hypernetwork against one model; `titer bench` says what other attacks do."
    )
    return "\n".join(lines)


# -- what is shown ------------------------------------------------------------------------------


def sparkline(values: list[float | None], high: float | None) -> str:
    """Values as bars from 0 to ``high``, or to their largest; a gap where there is none."""
    known = [value for value in values if value is not None]
    top = high if high is not None else max(known, default=0.0)
    if top <= 0:
        top = 1.0
    last = len(_BARS) - 1
    return "".join(
        " " if value is None else _BARS[min(last, max(0, round(value / top * last)))]
        for value in values
    )


def curves(looks: list[Look]) -> list[tuple[str, str, str]]:
    """Name, bars and last value of each curve, of the latest moves where there are many."""
    found: list[tuple[str, str, str]] = []
    for name, key, high in _SHOWN:
        values: list[float | None] = [getattr(look, key) for look in looks[-_WIDE:]]
        known = [value for value in values if value is not None]
        found.append((name, sparkline(values, high), f"{known[-1]:.2f}" if known else ""))
    return found


def _moved(look: Look) -> str:
    return "the start" if look.step == 0 and look.side == "defender" else f"{look.side} moved"


def line(look: Look) -> str:
    """One look as a plain line."""
    cells = [f"step {look.step:>4}  {_moved(look):<14}"]
    for name, key, _ in _SHOWN:
        value = getattr(look, key)
        if value is not None:
            cells.append(f"{name} {value:.2f}")
    return "  ".join(cells)


@contextmanager
def live(quiet: bool) -> Iterator[_Shown]:
    """Somewhere to send looks, and words: curves on a terminal, plain lines elsewhere."""
    if quiet:
        yield (lambda _look: None), (lambda _text: None)
    elif sys.stderr.isatty():
        with _screen() as shown:
            yield shown
    else:
        yield (lambda look: note(line(look))), note


@contextmanager
def _screen() -> Iterator[_Shown]:
    from rich.console import Console
    from rich.live import Live
    from rich.table import Table

    looks: list[Look] = []

    def drawn() -> Table:
        title = f"{_moved(looks[-1])}, step {looks[-1].step}" if looks else "getting ready"
        table = Table(title=title, title_justify="left", box=None)
        table.add_column("")
        table.add_column("over the moves", no_wrap=True)
        table.add_column("now", justify="right")
        for (name, bars, now), (_, key, _) in zip(curves(looks), _SHOWN, strict=True):
            style = "red" if key in ("adversary", "current", "fresh") else "blue"
            table.add_row(name, f"[{style}]{bars}[/{style}]", now)
        return table

    with Live(drawn(), console=Console(stderr=True), refresh_per_second=4) as screen:

        def tell(look: Look) -> None:
            looks.append(look)
            screen.update(drawn())

        yield tell, screen.console.print


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(loading(race))
