"""``titer bench`` and ``titer demo``: a study by its options, or from a file."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Annotated, Any, get_origin, get_type_hints

import typer

from titer.cli.options import AsJson, Device, DryRun, EachTrial, Quiet, ShowAnswers, Where, Workers
from titer.cli.output import say, settings_of, use_device
from titer.core.study import Study
from titer.executors.listing import DEFAULT

__all__ = ["DEMO", "register"]

DEMO = Study(
    models=("fabula:base",),
    defences=("npo", "rmu"),
    tasks=("new_facts", "new_charms"),
    cap=30,
    seeds=1,
    out=Path("runs/demo"),
)
"""What the demo asks."""


def demo(
    out: Annotated[Path, typer.Option("--out", help="Where to write.")] = DEMO.out,
    seeds: Annotated[int, typer.Option("--seeds", help="How many seeds, from 0 up.")] = DEMO.seeds,
    workers: Workers = None,
    device: Device = None,
    show_answers: ShowAnswers = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: EachTrial = False,
    dry_run: DryRun = False,
) -> None:
    """On the testbed: immunise, attack, and write the report."""
    use_device(device)
    study = replace(DEMO, out=out, seeds=seeds)
    told: dict[str, Any] = {"as_json": as_json, "quiet": quiet, "verbose": verbose}
    _run(study, workers, show=show_answers, **told, dry_run=dry_run)


def _bench(
    context: typer.Context,
    executor: Where = DEFAULT,
    workers: Workers = None,
    timeout: Annotated[float, typer.Option("--timeout", help="Seconds a trial may take.")] = 3600.0,
    device: Device = None,
    show_answers: ShowAnswers = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: EachTrial = False,
    dry_run: DryRun = False,
    **asked: Any,
) -> None:
    """Run a suite on models, or a study from a file; the same command again resumes."""
    use_device(device)
    study = _study(context, asked, quiet=quiet)
    told: dict[str, Any] = {"as_json": as_json, "quiet": quiet, "verbose": verbose}
    _run(study, workers, executor, timeout, show=show_answers, **told, dry_run=dry_run)


def _with_options(command: Callable[..., None]) -> Callable[..., None]:
    """The command with an option for each field of a study, which is the one list of them."""
    hints = get_type_hints(Study)
    how = list(inspect.signature(command, eval_str=True).parameters.values())[:-1]
    asks: list[inspect.Parameter] = []
    for spec in fields(Study):
        says = spec.metadata["says"]
        several = get_origin(hints[spec.name]) in (tuple, Mapping)
        kind: Any = hints[spec.name]
        if several:
            kind = list[float] if spec.name == "shares" else list[str]
        if spec.name == "models":
            told, default = typer.Argument(help=f"{says} Or a study.yaml."), inspect.Parameter.empty
        else:
            told = typer.Option(Study.option(spec.name), help=says)
            kind, default = (kind | None, None) if several else (kind, spec.default)
        asks.append(
            inspect.Parameter(
                spec.name,
                inspect.Parameter.KEYWORD_ONLY,
                annotation=Annotated[kind, told],
                default=default,
            )
        )
    every = [how[0], *asks, *(one.replace(kind=one.KEYWORD_ONLY) for one in how[1:])]
    command.__signature__ = inspect.Signature(every)  # type: ignore[attr-defined]
    command.__annotations__ = {one.name: one.annotation for one in every}
    return command


def _study(context: typer.Context, asked: dict[str, Any], *, quiet: bool) -> Study:
    """What the words ask; what is said beside a file overrides the file, which is said too."""
    given = {name: value for name, value in asked.items() if _is_said(context, name)}
    if "settings" in given:
        given["settings"] = settings_of(given["settings"])
    first, *others = given.pop("models")
    if Path(first).suffix not in (".yaml", ".yml"):
        return Study(models=(first, *others), **given)
    study = Study.from_yaml(first)
    changes = given | ({"models": tuple(others)} if others else {})
    changed = replace(study, **changes)
    for name in changes:
        before, after = getattr(study, name), getattr(changed, name)
        if before != after and not quiet:
            say(f"{first}: {name} is {_said(before)}; {_said(after)} is taken.", err=True)
    return changed


def _is_said(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _said(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={item}" for key, item in value.items()) or "none"
    return ", ".join(map(str, value)) or "none" if isinstance(value, tuple) else str(value)


def _run(
    study: Study,
    workers: int | None,
    executor: str = DEFAULT,
    timeout: float = 3600.0,
    *,
    show: bool | None,
    as_json: bool,
    quiet: bool,
    verbose: bool,
    dry_run: bool,
) -> None:
    """Make a study and print its verdict, or what it would take."""
    import titer
    from titer.cli.dry_run import rehearse
    from titer.cli.progress import each_trial, shown
    from titer.cli.work import print_verdict
    from titer.executors.processes import workers_of
    from titer.run.store import Store

    if dry_run:
        rehearse(study, workers_of(workers), as_json=as_json)
        return
    started = time.monotonic()
    with shown(quiet=quiet) as tell:
        verdict = titer.bench(
            study,
            executor=executor,
            workers=workers,
            timeout=timeout,
            progress=tell,
            ended=each_trial if verbose else None,
            show_answers=show,
        )
    print_verdict(verdict, study.out, as_json=as_json)
    if not as_json:
        trials = len(Store(study.out).plan())
        typer.echo(f"{trials} trials, {time.monotonic() - started:.0f} s")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(demo)
    app.command("bench")(_with_options(_bench))
