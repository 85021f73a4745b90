"""The command line: parse, call, print. Nothing heavy is imported before it is needed."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from titer import __version__
from titer.cli import exchange, grow, locks, race
from titer.cli.output import say_or_print, settings_of, use_device, workers_of
from titer.core.errors import BadInput, TiterError

app = typer.Typer(
    name="titer",
    help="Immunise open-weight language models, and measure immunity.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
judge_app = typer.Typer(help="Score existing answers with a judge.", no_args_is_help=True)
app.add_typer(judge_app, name="judge")

Out = Annotated[Path, typer.Option("--out", help="Where to write.")]
Seeds = Annotated[int, typer.Option("--seeds", help="How many seeds, from 0 up.")]
Workers = Annotated[
    int | None, typer.Option("--workers", help="Processes, one thread each; default one a core.")
]
Device = Annotated[
    str | None,
    typer.Option("--device", help="Where models run: cpu, cuda, cuda:1; default TITER_DEVICE."),
]
DataFolder = Annotated[str, typer.Option("--data", help="A folder with a data.yaml, or fabula.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Check everything and estimate; run nothing.")
]
Seed = Annotated[int, typer.Option("--seed", help="Decides every draw.")]
Set = Annotated[
    list[str] | None, typer.Option("--set", help="A setting, as in --set lr=1e-3; repeatable.")
]
Cap = Annotated[
    int | None, typer.Option("--cap", help="Cap on an attack's steps (another suite hash).")
]


def main() -> None:
    """Run the command line; exit 0 done, 2 the user's input, 1 our fault."""
    try:
        app(standalone_mode=True)
    except BadInput as error:
        for fault in error.faults:
            print(f"titer: {fault}", file=sys.stderr)
        sys.exit(2)
    except TiterError as error:
        print(f"titer: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("titer: stopped; the same command goes on where this one ended.", file=sys.stderr)
        sys.exit(130)


@app.callback(invoke_without_command=True)
def _version(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        typer.echo(f"titer {__version__}")
        raise typer.Exit
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


@app.command()
def demo(
    out: Out = Path("runs/demo"),
    seeds: Seeds = 1,
    workers: Workers = None,
    device: Device = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """On the testbed: immunise, attack, and write the report."""
    from titer.cli.work import DEMO, run_bench

    use_device(device)
    run_bench(
        **DEMO,
        out=out,
        seeds=seeds,
        workers=workers_of(workers),
        as_json=as_json,
        quiet=quiet,
    )


@app.command()
def bench(
    models: Annotated[list[str], typer.Argument(help="Folders, hub ids, or fabula:NAME.")],
    suite: Annotated[
        str, typer.Option("--suite", help="quick, core, search, supply, locks, tar or tamperbench.")
    ] = "quick",
    out: Out = Path("runs/bench"),
    seeds: Seeds = 3,
    data: DataFolder = "fabula",
    workers: Workers = None,
    defences: Annotated[
        list[str] | None,
        typer.Option("--defence", help="Also immunise the undefended model so; repeatable."),
    ] = None,
    domain: Annotated[str | None, typer.Option("--domain", help="Which hazard.")] = None,
    undefended: Annotated[
        str | None,
        typer.Option(
            "--undefended",
            help="The model before the defence; default the world's, else the first of MODELS.",
        ),
    ] = None,
    oracle: Annotated[
        str | None, typer.Option("--oracle", help="A model that never learned the hazard.")
    ] = None,
    cap: Cap = None,
    tasks: Annotated[
        list[str] | None, typer.Option("--task", help="Only these benign tasks; repeatable.")
    ] = None,
    shares: Annotated[
        list[float] | None,
        typer.Option(
            "--share",
            help="Also immunise with this share of the hazard: the in-domain curve; repeatable.",
        ),
    ] = None,
    search: Annotated[
        str | None,
        typer.Option("--search", help="How a row's settings are searched: full or fresh."),
    ] = None,
    why: Annotated[bool, typer.Option("--why", help="Look inside: erased or hidden?")] = False,
    timeout: Annotated[float, typer.Option("--timeout", help="Seconds a trial may take.")] = 3600.0,
    device: Device = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    dry_run: DryRun = False,
) -> None:
    """Run a suite on models; the same command again resumes."""
    from titer.cli.work import run_bench

    use_device(device)
    run_bench(
        models=models,
        defences=defences or [],
        suite=suite,
        out=out,
        seeds=seeds,
        data=data,
        workers=workers_of(workers),
        domain=domain,
        undefended=undefended,
        oracle=oracle,
        cap=cap,
        tasks=tasks or [],
        shares=shares or [],
        search=search,
        why=why,
        timeout=timeout,
        as_json=as_json,
        quiet=quiet,
        dry_run=dry_run,
    )


def _immunise(
    name: Annotated[str, typer.Argument(help="A defence, or a chain such as npo+rmu.")],
    model: Annotated[str, typer.Argument(help="A folder, a hub id, or fabula:NAME.")],
    out: Out,
    data: DataFolder = "fabula",
    domain: Annotated[str | None, typer.Option("--domain", help="Which hazard.")] = None,
    steps: Annotated[int | None, typer.Option("--steps", help="The defender's budget.")] = None,
    settings: Set = None,
    seed: Seed = 0,
    device: Device = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    dry_run: DryRun = False,
) -> None:
    """Apply a defence; the result is an ordinary Hugging Face folder with a card."""
    from titer.cli.work import run_immunise

    use_device(device)
    run_immunise(
        name,
        model,
        out,
        data=data,
        domain=domain,
        steps=steps,
        settings=settings_of(settings),
        seed=seed,
        as_json=as_json,
        quiet=quiet,
        dry_run=dry_run,
    )


app.command("immunise")(_immunise)
app.command("immunize", hidden=True)(_immunise)


@app.command()
def attack(
    name: Annotated[str, typer.Argument(help="An attack or a preset such as S03.")],
    model: Annotated[str, typer.Argument(help="A folder, a hub id, or fabula:NAME.")],
    out: Out,
    data: DataFolder = "fabula",
    domain: Annotated[str | None, typer.Option("--domain", help="Which hazard.")] = None,
    steps: Annotated[int | None, typer.Option("--steps", help="The attacker's budget.")] = None,
    settings: Set = None,
    seed: Seed = 0,
    save: Annotated[bool, typer.Option("--save", help="Keep the tampered model too.")] = False,
    device: Device = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    dry_run: DryRun = False,
) -> None:
    """Run one attack and write its trace."""
    from titer.cli.work import run_attack

    use_device(device)
    run_attack(
        name,
        model,
        out,
        data=data,
        domain=domain,
        steps=steps,
        settings=settings_of(settings),
        seed=seed,
        save=save,
        as_json=as_json,
        quiet=quiet,
        dry_run=dry_run,
    )


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="A run folder.")],
    as_json: AsJson = False,
) -> None:
    """Aggregate a run folder again; nothing is trained or asked anew."""
    from titer.cli.work import show_report
    from titer.grid.store import Store

    show_report(folder, as_json=as_json)
    Store(folder).write_sums(only=("report",))


@judge_app.command("refusal")
def judge_refusal_command(
    answers: Annotated[Path, typer.Argument(help="CSV or JSONL with prompt and completion.")],
    as_json: AsJson = False,
) -> None:
    """Say of each answer whether it refuses; with final_label, how well that agrees with people."""
    from titer.measures._judge_table import format_judgement, run_judge

    result = run_judge(answers)
    say_or_print(as_json, result, format_judgement(result))


@app.command("list")
def list_command(
    kind: Annotated[
        str, typer.Argument(help="attacks, defences, measures, presets, models, suites or worlds.")
    ],
    as_json: AsJson = False,
) -> None:
    """What there is."""
    from titer.cli.listing import listing, table

    rows = listing(kind)
    say_or_print(as_json, rows, table(rows))


@app.command()
def card(
    name: Annotated[str, typer.Argument(help="A method or a preset.")], as_json: AsJson = False
) -> None:
    """Everything about one method: source, access, settings, presets, version."""
    from titer.cli.listing import card_of, card_text

    found = card_of(name)
    say_or_print(as_json, found, card_text(found))


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Check this machine: versions, cores, memory, caches."""
    from titer.cli.listing import machine, machine_text

    found = machine()
    say_or_print(as_json, found, machine_text(found))


exchange.register(app)
grow.register(app)
locks.register(app)
race.register(app)

if __name__ == "__main__":
    main()
