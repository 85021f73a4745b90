"""What the commands do, once parsed."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import typer

import titer
from titer.cli.dry_run import not_grown, print_estimate
from titer.cli.listing import machine
from titer.cli.output import print_json, say_or_print
from titer.cli.progress import Progress, shown
from titer.core.errors import BadInput
from titer.core.protocol import COHERENCE, HARM, SELECT, is_utility
from titer.core.records import Trace
from titer.executors.processes import Processes
from titer.grid.assemble import Request, assemble, check, immunised
from titer.grid.inside import look_inside
from titer.grid.runner import run_study
from titer.grid.store import Store, atomic_folder, write_atomic
from titer.report.load import read_verdict
from titer.trial.immunise import parse_defence, planned, require_own
from titer.trial.presets import adversary, is_testbed
from titer.worlds import organisms

__all__ = [
    "DEMO",
    "few_threads",
    "grow_missing",
    "run_attack",
    "run_bench",
    "run_immunise",
    "show_report",
]


DEMO: dict[str, Any] = {
    "models": ["fabula:base"],
    "defences": ["npo", "rmu"],
    "tasks": ["new_facts", "new_charms"],
    "cap": 30,
}
"""What the demo asks of :func:`run_bench`."""


def grow_missing(sources: Sequence[str], workers: int, tell: Progress) -> None:
    """Grow whatever organisms are asked for and not there yet, side by side."""
    named = [organisms.parse(source) for source in sources if source.startswith("fabula:")]
    for size, seed in dict.fromkeys((size, seed) for _, size, seed in named):
        wanted = [kind for kind, *at in named if at == [size, seed]]
        organisms.grow_all(size, kinds=wanted, seed=seed, workers=workers, progress=tell)


def few_threads(parameters: int) -> None:
    """A small model on several threads is slower than on one, and far slower on a busy machine."""
    import torch

    if is_testbed(parameters):
        torch.set_num_threads(1)


def run_bench(
    *,
    models: Sequence[str],
    out: Path,
    seeds: int,
    workers: int,
    as_json: bool,
    quiet: bool,
    defences: Sequence[str] = (),
    suite: str = "quick",
    data: str = "fabula",
    domain: str | None = None,
    undefended: str | None = None,
    oracle: str | None = None,
    cap: int | None = None,
    tasks: Sequence[str] = (),
    shares: Sequence[float] = (),
    search: str | None = None,
    why: bool = False,
    timeout: float = 3600.0,
    dry_run: bool = False,
) -> None:
    """Check everything, then grow, immunise, attack, judge and report."""
    if timeout <= 0:
        raise BadInput(f"--timeout {timeout:g}: give a number of seconds above 0.")
    request = Request(
        models=models,
        defences=defences,
        suite=suite,
        data=data,
        out=out,
        seeds=seeds,
        cap=cap,
        domain=domain,
        undefended=undefended,
        oracle=oracle,
        tasks=tasks,
        shares=shares,
        search=search,
        why=why,
    )
    started = time.monotonic()
    checked = check(request)
    if dry_run and not_grown(checked.organisms(), as_json=as_json):
        return
    with shown(quiet=quiet) as tell:
        grow_missing(checked.organisms(), workers, tell)
        study, plans = assemble(checked)
        if dry_run:
            print_estimate(study, plans, workers, as_json=as_json)
            return
        with Processes(workers, timeout) as executor:
            if plans:
                study = immunised(study, plans, out, executor, tell)
            traces = run_study(
                study,
                out,
                executor,
                progress=tell,
                environment=machine(),
                command=request.command(),
                created=datetime.now(UTC).strftime("%Y-%m-%d"),
            )
            faults = look_inside(study, (), out, executor, tell) if why else []
    _complain(traces, faults)
    show_report(out, as_json=as_json)
    Store(out).write_sums()
    if not as_json:
        typer.echo(f"{len(traces)} trials, {time.monotonic() - started:.0f} s")


def _complain(traces: Sequence[Trace], faults: Sequence[str]) -> None:
    """The first few of what failed, on the error stream."""
    bad = [trace for trace in traces if trace.status in ("failed", "timed-out")]
    for trace in bad[:5]:
        last = trace.error.strip().splitlines()[-1] if trace.error else trace.status
        typer.echo(f"{trace.trial.label} on {trace.trial.subject}: {last}", err=True)
    for fault in faults[:5]:
        typer.echo(fault, err=True)


def show_report(folder: Path, *, as_json: bool) -> None:
    """Aggregate, write the HTML, and print the table or the same content as JSON."""
    from titer.report.html import write as write_html
    from titer.report.tables import terminal

    verdict = read_verdict(folder)
    page = folder / "report" / "index.html"
    write_html(verdict, page)
    write_atomic(
        folder / "report" / "verdict.json",
        json.dumps(verdict.to_json(), indent=1, sort_keys=True, ensure_ascii=False),
    )
    if as_json:
        print_json(verdict.to_json())
        return
    from rich.console import Console

    wide = None if sys.stdout.isatty() else 140
    Console(width=wide).print(terminal(verdict))
    typer.echo(f"report: {page}")


def run_immunise(
    name: str,
    model: str,
    out: Path,
    *,
    data: str,
    domain: str | None,
    steps: int | None,
    settings: dict[str, Any],
    seed: int,
    as_json: bool,
    quiet: bool,
    dry_run: bool,
) -> None:
    """One defence, or a chain of them, on one model."""
    parse_defence(name, settings)
    if steps is not None and steps < 1:
        raise BadInput(f"--steps {steps}: a budget of no steps does nothing; give 1 or more.")
    require_own(out)
    request = Request(models=[model], alone=True, data=data, domain=domain, out=out)
    checked = check(request, run_folder=False)
    if dry_run and not_grown(checked.organisms(), as_json=as_json):
        return
    scope = checked.world[checked.domain]
    with shown(quiet=quiet) as tell:
        grow_missing([model], 1, tell)
        if dry_run:
            base = assemble(checked)[0].undefended()
            wanted = planned(
                name,
                settings,
                scope,
                base=base.digest,
                parameters=base.parameters,
                steps=steps,
                seed=seed,
            )
            wanted = replace(wanted, model=base.folder, title=model, source=data, out=str(out))
            say_or_print(as_json, {"would": asdict(wanted)}, f"would spend {wanted.steps} steps.")
            return
        lm = titer.load(model)
        few_threads(lm.parameters())
        tell("immunising", 0, 1)
        titer.immunise(lm, name, scope, steps=steps, seed=seed, out=out, **settings)
        tell("immunising", 1, 1)
    facts = json.loads((out / "titer.json").read_text(encoding="utf-8"))
    say_or_print(
        as_json,
        facts,
        f"{name} on {model}: {facts['spent']['steps']} steps, {facts['seconds']:.1f} s. "
        f"The model is in {out}; measure it with `titer bench {out}`.",
    )


def run_attack(
    name: str,
    model: str,
    out: Path,
    *,
    data: str,
    domain: str | None,
    steps: int | None,
    settings: dict[str, Any],
    seed: int,
    save: bool,
    as_json: bool,
    quiet: bool,
    dry_run: bool,
) -> None:
    """One attack on one model, judged at every checkpoint."""
    adversary(name, settings, 0)  # what is wrong with them is said before anything is grown
    if steps is not None and steps < 1:
        raise BadInput(f"--steps {steps}: a budget of no steps does nothing; give 1 or more.")
    if out.exists() and any(out.iterdir()) and not (out / "trace.json").exists():
        raise BadInput(f"{out} exists and holds no attack; choose another --out.")
    request = Request(models=[model], alone=True, data=data, domain=domain, out=out)
    checked = check(request, run_folder=False)
    if dry_run and not_grown(checked.organisms(), as_json=as_json):
        return
    scope = checked.world[checked.domain]
    with shown(quiet=quiet) as tell:
        grow_missing([model], 1, tell)
        if dry_run:
            study, _ = assemble(checked)
            subject = study.undefended()
            trial = adversary(name, settings, subject.parameters).trial(
                scope,
                model=subject.digest,
                subject=subject.name,
                suite=study.suite_digest,
                items=study.suite.items,
                steps=steps,
                seed=seed,
            )
            say_or_print(as_json, asdict(trial), f"would spend {trial.budget.steps} steps.")
            return
        lm = titer.load(model)
        few_threads(lm.parameters())
        tell("attacking", 0, 1)
        found = titer.attack(lm, name, scope, steps=steps, seed=seed, keep_model=save, **settings)
        tell("attacking", 1, 1)
    trace = found.trace
    write_atomic(out / "trace.json", json.dumps(trace.to_json(), indent=1, sort_keys=True))
    write_atomic(
        out / "generations.jsonl",
        "".join(json.dumps(row, sort_keys=True) + "\n" for row in found.generations),
    )
    if found.model is not None:
        with atomic_folder(out / "model") as scratch:
            found.model.save(scratch)
    say_or_print(as_json, trace.to_json(), _trace_text(name, model, trace, out))


def _trace_text(name: str, model: str, trace: Any, out: Path) -> str:
    lines = [f"{name} on {model}: {trace.status}, {trace.seconds:.1f} s"]
    if trace.error:
        lines.append(trace.error.strip().splitlines()[-1])
    probes = [probe for probe in (trace.points[0].scores if trace.points else {})]
    kept = [p for p in probes if p in (HARM, SELECT, COHERENCE) or is_utility(p)]
    lines.append(
        "  ".join(["steps".rjust(6), *(probe.rjust(max(8, len(probe))) for probe in kept)])
    )
    for point in trace.points:
        cells = [f"{point.mean(probe) or 0.0:.3f}".rjust(max(8, len(probe))) for probe in kept]
        lines.append("  ".join([str(point.spent.steps).rjust(6), *cells]))
    lines.append(f"trace: {out / 'trace.json'}")
    return "\n".join(lines)
