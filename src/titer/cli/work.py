"""What ``titer immunise`` and ``titer attack`` do, once parsed."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import typer

import titer
from titer.api import rehearse
from titer.api.one import calibrate as calibrate_rate
from titer.cli.dry_run import not_grown, rehearse_one
from titer.cli.options import OneModel, Telling, bytes_of, few_threads, settings_of
from titer.cli.output import note, say, say_or_print
from titer.cli.progress import shown, stepping
from titer.core.errors import BadInput
from titer.core.files import atomic_folder, require_place, write_atomic
from titer.core.protocol import COHERENCE, HARM, SELECT, is_utility
from titer.core.reading import load_json
from titer.core.records import Trace
from titer.core.study import Study
from titer.trial.immunise import planned
from titer.trial.origin import of_attack, rates

if TYPE_CHECKING:
    from pathlib import Path

    from titer.core.lm import LM

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
    asked, out, memory = _study(model, one), one.out, bytes_of(one.memory)
    rehearse.settled(asked, one.steps, defence=name)
    if told.dry_run:
        if not not_grown(rehearse.ungrown(asked, alone=True), as_json=told.as_json):
            plan = rehearse.immunise(asked, name, one.steps, one.seed)
            rehearse_one(asked, plan, plan.steps, as_json=told.as_json)
        return
    with shown(quiet=told.quiet) as tell:
        scope = rehearse.scope_of(asked, tell)
    lm = titer.load(model, **one.how_held())
    few_threads(lm.parameters())
    size = {"base": lm.identity(), "parameters": lm.parameters()}
    wanted = planned(name, asked.settings, scope, **size, steps=one.steps, seed=one.seed)
    if not told.quiet:
        for rate in rates("defence", wanted.parts, asked.settings):
            note(f"{rate.text}; {wanted.steps:,} steps")
    how: dict[str, Any] = {"steps": one.steps, "seed": one.seed, "out": out, **asked.settings}
    how["save_every"] = one.save_every
    if memory:
        data, steps = scope.world.defender(scope.name), wanted.steps // len(wanted.parts)
        how["chunk"] = rehearse.chunk("defence", lm, wanted.parts, data, steps, memory)
    with stepping(f"{name} on {model}", quiet=told.quiet, verbose=told.verbose) as watch:
        titer.immunise(lm, name, scope, watch=watch, **how)
    facts = load_json((out / "titer.json").read_text(encoding="utf-8"))
    for flag in facts["flags"]:
        note(f"watch: {flag}.")
    if facts["effect"] and not told.quiet:
        note(facts["effect"]["says"])
    say_or_print(
        told.as_json,
        facts,
        f"{name} on {model}: {facts['spent']['steps']} steps, {facts['seconds']:.1f} s. "
        f"The model is in {out}; measure it with",
    )
    if not told.as_json:
        typer.echo(f"  {_measured_by(asked)}")


def _measured_by(asked: Study) -> str:
    """The whole command that measures what was made against what it was made from."""
    study = replace(
        asked, models=(str(asked.out),), undefended=asked.models[0], settings={}, out=Study().out
    )
    return study.command()


def run_attack(
    name: str,
    model: str,
    one: OneModel,
    told: Telling,
    *,
    save: bool,
    undefended: str | None,
    calibrate: bool,
) -> None:
    """One attack on one model, judged at every checkpoint."""
    asked, out = replace(_study(model, one), undefended=undefended), one.out
    memory = bytes_of(one.memory)
    _require_places(out, save=save)
    if calibrate and "lr" in asked.settings:
        raise BadInput("--calibrate finds the rate that --set lr= gives; leave one of them out.")
    rehearse.settled(asked, one.steps, attack=name)
    if told.dry_run:
        if not not_grown(rehearse.ungrown(asked, alone=True), as_json=told.as_json):
            trial = rehearse.attack(asked, name, one.steps, one.seed)
            rehearse_one(asked, trial, trial.budget.steps or 0, as_json=told.as_json)
        return
    with shown(quiet=told.quiet) as tell:
        scope = rehearse.scope_of(asked, tell)
    lm = titer.load(model, **one.how_held())
    few_threads(lm.parameters())
    how: dict[str, Any] = {"steps": one.steps, "seed": one.seed, **asked.settings}
    how["interface"] = rehearse.clean_of(asked, lm)
    how |= {"save_every": one.save_every, "keep_at": out}
    if memory:
        trial = rehearse.attack(asked, name, one.steps, one.seed)
        steps, data = trial.budget.steps or 0, scope.world.attacker(scope.name)
        how["chunk"] = rehearse.chunk("attack", lm, [trial.attack], data, steps, memory)
    rate = of_attack(name, asked.settings, lm.parameters())
    if calibrate and rate and rate.origin == "stand-in":
        with shown(quiet=told.quiet) as tell:
            how["lr"] = calibrate_rate(lm, name, scope, progress=tell)
        rate = replace(rate, origin="calibrated", value=how["lr"])
    if rate and not told.quiet:
        note(rate.text)
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
    if not told.as_json:
        say(_through(trace, how["interface"]))
    if trace.status != "ok":
        say(f"titer: {_failure(trace, out, save=save)}", err=True)
        raise typer.Exit(2 if trace.refused else 1)


def _through(trace: Trace, clean: LM | None) -> str:
    """Whose tokenizer, template and configuration an attack went through."""
    if clean is None:
        return (
            "It went through the model's own tokenizer, template and configuration; "
            "--undefended MODEL has those of another compared."
        )
    if trace.trial.interface:
        return f"It went through the tokenizer, template and configuration of {clean.name}."
    return f"It went through the model's own interface, which shows as much as {clean.name}'s."


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
