"""``titer export | import | validate | verify | reproduce``: what goes out of a run folder, what
comes in, and whether it can be believed."""

from __future__ import annotations

import secrets
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from titer.cli.guard import Reads, Writes
from titer.cli.options import AsJson, DryRun, Quiet, Workers, loading
from titer.cli.output import print_verdict, say_or_print
from titer.core.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Sequence

    from titer.verify.agreement import Comparison
    from titer.verify.remake import Remade
    from titer.verify.sample import Sample

__all__ = ["register"]

Results = Annotated[Path, typer.Argument(help="A run folder."), Reads()]


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    for name, command in {
        "export": export,
        "import": loading(bring),
        "validate": loading(validate),
        "verify": loading(verify),
        "reproduce": loading(reproduce),
    }.items():
        app.command(name)(command)


def export(
    results: Results,
    to: Annotated[
        Path, typer.Option("--to", help="A new folder, or an earlier export."), Writes("new folder")
    ],
    width: Annotated[
        float, typer.Option("--width", help="Width of a figure in mm: a column is 89.")
    ] = 89.0,
    dataset: Annotated[
        str, typer.Option("--dataset", help="The suite's id on the Hub, for evaluation results.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Write tables (CSV, LaTeX), figures (SVG, PDF) and model cards from a run folder."""
    from titer.report import _paper
    from titer.report.export import export as write
    from titer.report.load import read_bases, read_verdict

    files = write(
        read_verdict(results), to, width=width, dataset=dataset, bases=read_bases(results)
    )
    left = (
        ""
        if _paper.available()
        else "no PDF: it needs CairoSVG (pip install 'titer[plots]') and the system's cairo"
    )
    say_or_print(
        as_json,
        {"to": str(to), "files": files, "left_out": [left] if left else []},
        "\n".join([*(str(to / name) for name in files), *([left] if left else [])]),
    )


def bring(
    results: Results,
    lm_eval: Annotated[
        list[str],
        typer.Option("--lm-eval", help="MODEL=FILE: lm-eval's results of a model; repeatable."),
    ],
    as_json: AsJson = False,
) -> None:
    """Put lm-eval's results beside a study's own utility; they enter no other number."""
    from titer import api
    from titer.report import lm_eval as beside
    from titer.report.load import read
    from titer.run.store import Store

    study, _ = read(results)
    given: dict[str, Path] = {}
    for item in lm_eval:
        name, sign, path = item.partition("=")
        if not sign or not name or not path:
            raise BadInput(f"--lm-eval {item!r}: write --lm-eval MODEL=FILE.")
        if name in given:
            raise BadInput(f"--lm-eval names {name} twice; give one results file for each model.")
        given[name] = Path(path)
    beside.keep(results, [subject.name for subject in study.subjects], given)
    verdict = api.report(results)
    Store(results).write_sums(only=("utility", "report"))
    print_verdict(verdict, results, as_json=as_json)


def validate(
    target: Annotated[
        Path, typer.Argument(help="A model folder, a data folder or a run folder."), Reads()
    ],
    as_json: AsJson = False,
) -> None:
    """Check a folder and name everything that is wrong with it; 1 if a run folder has faults."""
    if (target / "config.yaml").is_file():
        _validate_run(target, as_json=as_json)
        return
    _whichever(target)
    notes: list[str] = []
    if (target / "data.yaml").exists():
        from titer.worlds.source import load_world

        kind = "data folder"
        load_world(str(target))
    else:
        from titer.core import modelfolder
        from titer.trial.load import load_model

        kind = "model folder"
        modelfolder.require(target)
        load_model(str(target))
        notes = modelfolder.notes(target)
    say_or_print(
        as_json,
        {"target": str(target), "kind": kind, "faults": [], "notes": notes},
        "\n".join([f"{target}: {kind}, no faults", *notes]),
    )


def _whichever(target: Path) -> None:
    """Say what is wrong where a folder is of none of the three kinds."""
    kinds = "give a run folder, a data folder or a model folder."
    if not target.exists():
        raise BadInput(f"there is no {target}; {kinds}")
    if not target.is_dir():
        raise BadInput(f"{target} is a file; {kinds}")
    if not any(target.iterdir()):
        raise BadInput(f"{target} is empty; {kinds}")
    if any((target / name).exists() for name in ("plan.json", "trials", "results.jsonl")):
        raise BadInput(
            f"{target} is a run folder without its config.yaml, so nothing in it can be told; "
            "copy the folder again."
        )


def _validate_run(root: Path, *, as_json: bool) -> None:
    from titer.report.load import stale
    from titer.verify.findings import Finding, findings
    from titer.worlds.source import find_world

    found = findings(root)
    # No verdict is made of a folder that readers refuse.
    spoilt = {one.check for one in found if one.kind == "fault"}
    if not spoilt & {"layout", "model", "trial"} and (told := stale(root, find_world)):
        found.append(Finding(check="result", where=told[0], says=told[1]))
    faults = [one for one in found if one.kind == "fault"]
    count = f"{len(faults)} fault{'' if len(faults) == 1 else 's'}" if faults else "no faults"
    say_or_print(
        as_json,
        {
            "target": str(root),
            "kind": "run folder",
            "faults": [asdict(one) for one in faults],
            "notes": [asdict(one) for one in found if one.kind == "note"],
        },
        "\n".join([*(one.line() for one in found), f"{root}: run folder, {count}"]),
    )
    if faults:
        raise typer.Exit(1)


def verify(
    results: Results,
    sample: Annotated[
        float, typer.Option("--sample", help="The part of the trials to run again, up to 1.")
    ] = 0.1,
    seed: Annotated[
        int | None,
        typer.Option("--seed", help="Draws the trials of an earlier call again; default chance."),
    ] = None,
    workers: Workers = None,
    timeout: Annotated[float, typer.Option("--timeout", help="Seconds a trial may take.")] = 3600.0,
    as_json: AsJson = False,
    quiet: Quiet = False,
    dry_run: DryRun = False,
) -> None:
    """Run a random part again and say which trials agree; 1 if any does not."""
    from titer.cli.dry_run import rehearse_again
    from titer.cli.progress import shown
    from titer.executors.processes import Processes, workers_of
    from titer.report.load import read
    from titer.run.machine import machine
    from titer.verify.agreement import compare
    from titer.verify.remake import agree, draw_models, make_again, makings
    from titer.verify.rerun import finished, recorded, rerun
    from titer.verify.sample import draw

    study, _ = read(results)  # what no run writes is a sentence
    before = recorded(results)
    seed = secrets.randbits(32) if seed is None else seed
    drawn = draw(finished(before), sample, seed)
    own = draw_models(results, study, sample, seed)
    if dry_run:
        names = [subject.name for subject in own]
        rehearse_again(results, drawn.keys, names, as_json=as_json)
        return
    with (
        tempfile.TemporaryDirectory(prefix="titer-verify-") as scratch,
        shown(quiet=quiet) as tell,
        Processes(workers_of(workers), timeout) as executor,
    ):
        jobs = makings(results, study, own, Path(scratch))
        again = rerun(results, drawn.keys, Path(scratch), executor, tell)
        failed = make_again(jobs, executor, tell)
        found = compare(results, before, again, drawn.keys, machine())
        other = bool(found.other)
        models = [agree(job, failed.get(job.subject.name, ""), elsewhere=other) for job in jobs]
    _say_verified(results, found, models, drawn, seed, as_json=as_json)


def _say_verified(
    root: Path,
    found: Comparison,
    models: Sequence[Remade],
    drawn: Sample,
    seed: int,
    *,
    as_json: bool,
) -> None:
    from titer.cli.listing import table

    rows: list[dict[str, Any]] = [
        {
            "trial": one.trial.key,
            "drawn": one.trial.key in drawn.keys,
            "what": one.trial.label or one.trial.task,
            "model": one.trial.subject,
            "seed": one.trial.seed,
            "agrees": one.verdict,
            "largest difference": f"{one.largest:.3f}" if one.largest else "0",
            "at": one.at or "-",
            "why": one.why or "-",
        }
        for one in found.found
    ]
    counts = {kind: sum(row["agrees"] == kind for row in rows) for kind in _KINDS}
    told = [f"{count} {_KINDS[kind]}" for kind, count in counts.items() if count]
    beside = len(rows) - len(drawn.keys)
    company = f", {beside} more that trained beside them" if beside else ""
    lines = [
        table(rows),
        "",
        f"{len(drawn.drawn)} of {drawn.total} trials drawn, each with a chance of at least "
        f"{drawn.chance:.0%} (--seed {seed} draws them again), and all {len(drawn.looks)} looks at "
        f"the models as released{company}: {', '.join(told)}.",
        *(f"{one.name} made again: {_MADE[one.verdict]}{one.why}." for one in models),
        *(f"{one}." for one in found.together),
        _machines(found.other, found.disproved),
    ]
    content = {
        "target": str(root),
        "trials": drawn.total,
        "drawn": len(drawn.drawn),
        "looks": len(drawn.looks),
        "chance": drawn.chance,
        "seed": seed,
        "other_machine": found.other,
        "disproved": found.disproved,
        "together": list(found.together),
        "models": [asdict(one) for one in models],
        **counts,
        "rows": rows,
    }
    say_or_print(as_json, content, "\n".join(lines))
    if not found.agrees or any(one.verdict == "differs" for one in models):
        raise typer.Exit(1)


_KINDS = {
    "same": "equal to the bit",
    "rounding": "within rounding of another processor",
    "differs": "that differ",
}


_MADE = {
    "same": "equal to the bit",
    "rounding": "another model, which behaves alike",
    "differs": "differs: ",
}


def _machines(other: str, disproved: str = "") -> str:
    """What may be expected of this machine, given why it is not that of the folder."""
    if disproved:
        return f"This machine computes as that of the folder did: {disproved}."
    if other:
        return f"This machine does not compute as that of the folder did: {other}."
    return "This machine computes as that of the folder did, so numbers should be equal to the bit."


def reproduce(
    trial: Annotated[str, typer.Argument(help="A trial's key, or the start of one.")],
    run: Annotated[Path, typer.Option("--run", help="The run folder it is in."), Reads()] = Path(
        "runs/demo"
    ),
    as_json: AsJson = False,
    dry_run: DryRun = False,
) -> None:
    """Run one trial again and compare it with what is on disk."""
    from titer.cli.dry_run import rehearse_again
    from titer.executors.inline import Inline
    from titer.report.load import read
    from titer.run.machine import machine
    from titer.verify.agreement import agreement, elsewhere
    from titer.verify.rerun import recorded, rerun

    read(run)  # what no run writes is a sentence
    before = recorded(run)
    keys = [key for key in before if key.startswith(trial)]
    if len(keys) != 1:
        count = "no trial" if not keys else f"{len(keys)} trials"
        raise BadInput(f"{count} in {run} have a key that starts with {trial!r}; give one key.")
    if dry_run:
        rehearse_again(run, keys, as_json=as_json)
        return
    was = before[keys[0]]
    with tempfile.TemporaryDirectory(prefix="titer-reproduce-") as scratch:
        again = rerun(run, keys, Path(scratch), Inline())[keys[0]]
    other = elsewhere(run, machine())
    found = agreement(was, again.trace, elsewhere=bool(other), said=again.said)
    by = f"; largest difference {found.largest:.3f} at {found.at}" if found.at else ""
    told = {
        "same": "equal to the bit: every score, loss and weight",
        "rounding": f"within rounding of another processor{by}",
        "differs": f"differs: {found.why}{by}",
    }
    say_or_print(
        as_json,
        {
            "key": keys[0],
            "agrees": found.verdict,
            "largest_difference": found.largest,
            "at": found.at,
            "why": found.why,
            "other_machine": other,
            "weights": [was.weights, again.trace.weights],
        },
        f"{keys[0]}: {told[found.verdict]}\n{_machines(other)}",
    )
    if found.verdict == "differs":
        raise typer.Exit(1)
