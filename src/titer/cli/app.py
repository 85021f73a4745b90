"""The command line: parse, call, print. Nothing heavy is imported before it is needed."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from titer import __version__
from titer.cli import bench, data, exchange, fetch, grow, locks, race, status
from titer.cli.guard import Commands, Judging, Program, Reads, require_words
from titer.cli.options import (
    AsJson,
    DataFolder,
    Device,
    Domain,
    OneModel,
    Settings,
    ShowAnswers,
    Telling,
    Workers,
    grouped,
    loading,
    settings_of,
    use_device,
)
from titer.cli.output import print_verdict, say, say_or_print, tell_warnings
from titer.cli.stopping import stoppable
from titer.core.errors import BadInput, TiterError
from titer.core.files import room

app = Program(
    cls=Commands,
    name="titer",
    help="Immunise open-weight language models, and measure immunity.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
judge_app = Program(cls=Judging, help="Score existing answers with judges.", no_args_is_help=True)
app.add_typer(judge_app, name="judge")


_FAULTS = 100
"""How many sentences on one input are of any use."""


def main() -> None:
    """Run the command line; exit 0 done, 2 the user's input, 1 our fault."""
    try:
        with stoppable(), room():
            require_words(sys.argv[1:])
            app(standalone_mode=True)
    except BadInput as error:
        for fault in error.faults[:_FAULTS]:
            say(f"titer: {fault}", err=True)
        if more := len(error.faults[_FAULTS:]):
            say(f"titer: and {more:,} more faults; mend these first.", err=True)
        sys.exit(2)
    except TiterError as error:
        say(f"titer: {error}", err=True)
        sys.exit(1)


@app.callback(invoke_without_command=True)
def _version(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        typer.echo(f"titer {__version__}")
        raise typer.Exit
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    tell_warnings()


def immunise(
    name: Annotated[str, typer.Argument(help="A defence, or a chain such as npo+rmu.")],
    model: Annotated[str, typer.Argument(help="A folder, a hub id, or fabula:NAME.")],
    one: OneModel,
    told: Telling,
) -> None:
    """Apply a defence; the result is an ordinary Hugging Face folder with a card."""
    from titer.cli.work import run_immunise

    use_device(one.device)
    run_immunise(name, model, one, told)


app.command("immunise")(loading(grouped(immunise)))
app.command("immunize", hidden=True)(loading(grouped(immunise)))


@app.command()
@loading
@grouped
def attack(
    name: Annotated[str, typer.Argument(help="An attack or a preset such as S03.")],
    model: Annotated[str, typer.Argument(help="A folder, a hub id, or fabula:NAME.")],
    one: OneModel,
    told: Telling,
    save: Annotated[bool, typer.Option("--save", help="Keep the tampered model too.")] = False,
    undefended: Annotated[
        str | None,
        typer.Option(
            "--undefended",
            help="The model whose tokenizer, template and configuration an attacker takes; the "
            "data's own undefended model.",
        ),
    ] = None,
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="First find the row's rate on this model.")
    ] = False,
) -> None:
    """Run one attack and write its trace."""
    from titer.cli.work import run_attack

    use_device(one.device)
    run_attack(name, model, one, told, save=save, undefended=undefended, calibrate=calibrate)


@app.command()
@loading
def report(
    folder: Annotated[Path, typer.Argument(help="A run folder."), Reads()],
    show_answers: ShowAnswers = None,
    as_json: AsJson = False,
) -> None:
    """Aggregate a run folder again; nothing is trained or asked anew."""
    from titer import api
    from titer.run.store import Store

    verdict = api.report(folder, show_answers=show_answers)
    Store(folder).write_sums(only=("report",))
    print_verdict(verdict, folder, as_json=as_json)


@judge_app.command("refusal")
def judge_refusal_command(
    answers: Annotated[
        Path, typer.Argument(help="CSV or JSONL with prompt and completion."), Reads()
    ],
    as_json: AsJson = False,
) -> None:
    """Say of each answer whether it refuses; with final_label, how well that agrees with people."""
    from titer.measures._judge_table import format_judgement, run_judge

    result = run_judge(answers)
    say_or_print(as_json, result, format_judgement(result))


@judge_app.command("answers")
def judge_answers_command(
    answers: Annotated[
        Path, typer.Argument(help="CSV or JSONL with prompt and completion."), Reads()
    ],
    by: Annotated[
        list[str], typer.Option("--by", help="A judge, as in --by harmbench; repeatable.")
    ],
    settings: Settings = None,
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Judges of harm side by side, and how far they agree: with each other, and with people where
    there is a column harmful. The word answers may be left out."""
    from titer.measures._judge_compare import compare, format_comparison, judges_of

    use_device(device)
    result = compare(answers, judges_of(by, settings_of(settings)))
    say_or_print(as_json, result, format_comparison(result))


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(f"titer {__version__}")


@app.command("list")
def list_command(
    kind: Annotated[
        str,
        typer.Argument(
            help="attacks, defences, measures, presets, models, suites, worlds or data; "
            "without one, what these are."
        ),
    ] = "kinds",
    as_json: AsJson = False,
) -> None:
    """What there is."""
    from titer.cli.listing import listing, table

    rows = listing(kind)
    say_or_print(as_json, rows, table(rows))


@app.command()
def card(
    name: Annotated[str, typer.Argument(help="A method or a preset, or the word data.")],
    set_name: Annotated[
        str | None, typer.Argument(metavar="SET", help="After data: a public data set.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Everything about one method: source, access, settings, presets, version; or about a data
    set."""
    from titer.cli.cards import card_of, card_text
    from titer.cli.published import published_card, published_text

    if name == "data" and set_name is not None:
        say_or_print(as_json, published_card(set_name), published_text(set_name))
        return
    if set_name is not None:
        raise BadInput(f"titer card {name} {set_name}: write one name, or data and a set's name.")
    say_or_print(as_json, card_of(name), card_text(name))


@app.command()
def doctor(
    model: Annotated[
        str | None, typer.Argument(help="Also measure this model, and what suites would take.")
    ] = None,
    data: DataFolder = "fabula",
    domain: Domain = None,
    suite: Annotated[
        list[str] | None, typer.Option("--suite", help="Price this suite; default quick and core.")
    ] = None,
    workers: Workers = None,
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Check this machine: versions, cores, memory, caches; and what fits on it."""
    from titer.cli.listing import machine_text
    from titer.run.machine import machine

    use_device(device)
    if model is None and (data != "fabula" or domain or suite or workers):
        raise BadInput("--data, --domain, --suite and --workers are for a MODEL; name one.")
    found = machine()
    if model is None:
        say_or_print(as_json, found, machine_text(found))
        return
    from titer.cli.dry_run import fit_lines, measured

    fits = measured(model, data, domain, tuple(suite or ()), workers)
    text = "\n".join([machine_text(found), *fit_lines(fits)])
    say_or_print(as_json, {**found, "fit": asdict(fits)}, text)


bench.register(app)
data.register(app)
exchange.register(app)
fetch.register(app)
grow.register(app)
locks.register(app)
race.register(app)
status.register(app)

if __name__ == "__main__":
    main()
