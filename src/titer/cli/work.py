"""What ``titer immunise`` and ``titer attack`` do, once parsed."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import typer

import titer
from titer.api import rehearse
from titer.cli.dry_run import not_grown
from titer.cli.options import OneModel, Telling, few_threads, settings_of
from titer.cli.output import say, say_or_print
from titer.cli.progress import shown, stepping
from titer.core.files import atomic_folder, require_place, write_atomic
from titer.core.protocol import COHERENCE, HARM, SELECT, is_utility
from titer.core.reading import load_json
from titer.core.records import Trace
from titer.core.study import Study

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["run_attack", "run_immunise"]


def _study(model: str, one: OneModel) -> Study:
    return Study(
        models=(model,),
        data=one.data,
        domain=one.domain,
        settings=settings_of(one.settings),
        out=one.out,
    )


def run_immunise(name: str, model: str, one: OneModel, told: Telling) -> None:
    """One defence, or a chain of them, on one model."""
    asked, out = _study(model, one), one.out
    rehearse.settled(asked, one.steps, defence=name)
    if told.dry_run:
        if not not_grown(rehearse.ungrown(asked, alone=True), as_json=told.as_json):
            would = rehearse.immunise(asked, name, one.steps, one.seed)
            say = f"would spend {would.steps} steps."
            say_or_print(told.as_json, {"would": asdict(would)}, say)
        return
    with shown(quiet=told.quiet) as tell:
        scope = rehearse.scope_of(asked, tell)
    lm = titer.load(model)
    few_threads(lm.parameters())
    how: dict[str, Any] = {"steps": one.steps, "seed": one.seed, "out": out, **asked.settings}
    with stepping(f"{name} on {model}", quiet=told.quiet, verbose=told.verbose) as watch:
        titer.immunise(lm, name, scope, watch=watch, **how)
    facts = load_json((out / "titer.json").read_text(encoding="utf-8"))
    say_or_print(
        told.as_json,
        facts,
        f"{name} on {model}: {facts['spent']['steps']} steps, {facts['seconds']:.1f} s. "
        f"The model is in {out}; measure it with `titer bench {out}`.",
    )


def run_attack(name: str, model: str, one: OneModel, told: Telling, *, save: bool) -> None:
    """One attack on one model, judged at every checkpoint."""
    asked, out = _study(model, one), one.out
    _require_places(out, save=save)
    rehearse.settled(asked, one.steps, attack=name)
    if told.dry_run:
        if not not_grown(rehearse.ungrown(asked, alone=True), as_json=told.as_json):
            would = rehearse.attack(asked, name, one.steps, one.seed)
            say_or_print(told.as_json, asdict(would), f"would spend {would.budget.steps} steps.")
        return
    with shown(quiet=told.quiet) as tell:
        scope = rehearse.scope_of(asked, tell)
    lm = titer.load(model)
    few_threads(lm.parameters())
    how: dict[str, Any] = {"steps": one.steps, "seed": one.seed, **asked.settings}
    with stepping(f"{name} on {model}", quiet=told.quiet, verbose=told.verbose) as watch:
        found = titer.attack(lm, name, scope, watch=watch, keep_model=save, **how)
    trace = found.trace
    write_atomic(out / "trace.json", json.dumps(trace.to_json(), indent=1, sort_keys=True))
    write_atomic(
        out / "generations.jsonl",
        "".join(json.dumps(row, sort_keys=True) + "\n" for row in found.generations),
    )
    if found.model is not None:
        with atomic_folder(out / "model") as scratch:
            found.model.save(scratch)
    say_or_print(told.as_json, trace.to_json(), _trace_text(name, model, trace, out))
    if trace.status != "ok":
        say(f"titer: {_failure(trace, out, save=save)}", err=True)
        raise typer.Exit(2 if trace.refused else 1)


def _require_places(out: Path, *, save: bool) -> None:
    """Refuse a folder in which the result of an attack would find no place."""
    for name in ("trace.json", "generations.jsonl"):
        require_place(out / name, "--out", "file")
    if save:
        require_place(out / "model", "--out", "new folder")


def _failure(trace: Trace, out: Path, *, save: bool) -> str:
    """Why there is no result, and that nothing but the trace was kept."""
    last = (trace.error.strip().splitlines() or ["no reason given"])[-1]
    stale = " (the one in it is of an earlier attack)" if (out / "model").exists() else ""
    nothing = f"no model was saved{stale}" if save or stale else "nothing was saved"
    return (
        f"the attack {trace.status} and says nothing of the model; {nothing} but what was seen on "
        f"the way ({out / 'trace.json'}): {trace.refused or last}"
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
