"""What the commands do, once parsed."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import typer

import titer
from titer.cli.dry_run import not_grown
from titer.cli.output import console, print_json, say, say_or_print
from titer.cli.progress import shown, stepping
from titer.core.errors import BadInput
from titer.core.protocol import COHERENCE, HARM, SELECT, is_utility
from titer.core.records import Trace
from titer.core.study import Study
from titer.plan.request import assemble, check, grow_missing
from titer.run.store import atomic_folder, write_atomic
from titer.trial.immunise import parse_defence, planned, require_own
from titer.trial.presets import adversary, is_testbed
from titer.verdict import Verdict

__all__ = [
    "few_threads",
    "print_verdict",
    "run_attack",
    "run_immunise",
]


def few_threads(parameters: int) -> None:
    """A small model on several threads is slower than on one, and far slower on a busy machine."""
    import torch

    if is_testbed(parameters):
        torch.set_num_threads(1)


def print_verdict(verdict: Verdict, folder: Path, *, as_json: bool) -> None:
    """The table of a verdict, or the same content as JSON."""
    from titer.report.answers import told
    from titer.report.tables import terminal

    if as_json:
        print_json(verdict.to_json())
        return
    console().print(terminal(verdict))
    typer.echo(f"report: {folder / 'report' / 'index.html'}")
    if line := told(folder):
        typer.echo(line)


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
    verbose: bool,
    dry_run: bool,
) -> None:
    """One defence, or a chain of them, on one model."""
    parse_defence(name, settings)
    if steps is not None and steps < 1:
        raise BadInput(f"--steps {steps}: a budget of no steps does nothing; give 1 or more.")
    require_own(out)
    checked = check(Study(models=(model,), data=data, domain=domain, out=out), alone=True)
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
    with stepping(f"{name} on {model}", quiet=quiet, verbose=verbose) as watch:
        titer.immunise(lm, name, scope, steps=steps, seed=seed, out=out, watch=watch, **settings)
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
    verbose: bool,
    dry_run: bool,
) -> None:
    """One attack on one model, judged at every checkpoint."""
    adversary(name, settings, 0)  # what is wrong with them is said before anything is grown
    if steps is not None and steps < 1:
        raise BadInput(f"--steps {steps}: a budget of no steps does nothing; give 1 or more.")
    if out.exists() and any(out.iterdir()) and not (out / "trace.json").exists():
        raise BadInput(f"{out} exists and holds no attack; choose another --out.")
    checked = check(Study(models=(model,), data=data, domain=domain, out=out), alone=True)
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
    how: dict[str, Any] = {"steps": steps, "seed": seed, "keep_model": save, **settings}
    with stepping(f"{name} on {model}", quiet=quiet, verbose=verbose) as watch:
        found = titer.attack(lm, name, scope, watch=watch, **how)
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
    if trace.status != "ok":
        say(f"titer: {_failure(trace, out, save=save)}", err=True)
        raise typer.Exit(2 if _refused(trace) else 1)


_REFUSAL = re.compile(
    r"^titer\.core\.errors\.(?:BadInput|NotFinite|UnknownName): (.*)", re.MULTILINE | re.DOTALL
)


def _refused(trace: Trace) -> str:
    """What the attack refused of its input, empty where it failed otherwise."""
    found = _REFUSAL.search(trace.error)
    return " ".join(found[1].split()) if found else ""


def _failure(trace: Trace, out: Path, *, save: bool) -> str:
    """Why there is no result, and that nothing but the trace was kept."""
    last = (trace.error.strip().splitlines() or ["no reason given"])[-1]
    stale = " (the one in it is of an earlier attack)" if (out / "model").exists() else ""
    nothing = f"no model was saved{stale}" if save or stale else "nothing was saved"
    return (
        f"the attack {trace.status} and says nothing of the model; {nothing} but what was seen on "
        f"the way ({out / 'trace.json'}): {_refused(trace) or last}"
    )


def _trace_text(name: str, model: str, trace: Trace, out: Path) -> str:
    lines = [f"{name} on {model}: {trace.status}, {trace.seconds:.1f} s"]
    if trace.cut and trace.cut.share:
        lines.append(f"watch: {trace.cut.text}.")
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
