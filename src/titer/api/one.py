"""One model and one hazard: make it harder to turn, or attack it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

from titer.api.ways import ways, worst
from titer.core import catalogue
from titer.core.bounds import require_number
from titer.core.data import Scope, World
from titer.core.errors import BadInput
from titer.core.files import require_place
from titer.core.jobs import Progress
from titer.core.lm import LM
from titer.core.method import Watch
from titer.core.precision import held_as
from titer.core.records import Trace, Trial
from titer.core.study import Subject
from titer.models import Model, load
from titer.plan import experiment as plan
from titer.plan.experiment import Experiment
from titer.plan.schedule import EXTENSIONS
from titer.plan.subjects import short_name
from titer.plan.suite import Adversary, judges, suite_hash
from titer.plan.suites import suite
from titer.run.cohorts import cohorts, room
from titer.train.keeping import Keeper
from titer.trial.attempt import attack as attempt
from titer.trial.cohort import attack_together
from titer.trial.immunise import immunise as harden
from titer.trial.immunise import keep, keeper_of, planned, require_own
from titer.trial.presets import adversary
from titer.trial.result import AttackResult, judged
from titer.worlds.source import load_world

__all__ = ["attack", "calibrate", "immunise", "world"]

_LOG = logging.getLogger(__name__)

_SUITE = "quick"
"""The suite by whose judges and items a single attack is asked: the one `titer bench` runs."""


def _silent(label: str, done: int, total: int) -> None:
    """Nobody is told."""


def world(source: str | PathLike[str]) -> World:
    """The data of an experiment: ``fabula``, ``fabula+refusal``, ``fabula#SEED``, or a folder with
    a ``data.yaml``.

    ``world["A"]`` is one hazard of it, as :func:`immunise` and :func:`attack` take it.

    Raises:
        BadInput: there is no such world, or the folder has faults, all of which are named.
    """
    return load_world(str(source))


def immunise(
    model: Model,
    defence: str,
    scope: Scope,
    /,
    *,
    steps: int | None = None,
    seed: int = 0,
    out: str | PathLike[str] | None = None,
    watch: Watch | None = None,
    chunk: int | None = None,
    save_every: int | None = None,
    **fields: Any,
) -> LM:
    """Make a model harder to turn to a hazard; the model that is given stays as it is.

    Args:
        model: What :func:`load` takes.
        defence: A method's name, or a chain such as ``npo+rmu``.
        scope: The hazard to defend against, as ``world["A"]``.
        steps: The defender's budget; what the method's settings are meant for where it is None.
        seed: Decides every draw.
        out: A folder for the result, with a card, its training log and its doubts of itself. Where
            it holds this very result already, that is read back.
        watch: Told of every training step: its number, of how many, loss and learning rate.
        chunk: The most tokens of one pass in training. A larger batch goes in parts, with the
            gradient of the whole but for rounding, for less memory and more time.
        save_every: With ``out``, keep what is reached after so many steps each, in a folder beside
            it; the same call goes on from there to the same bits. Without it only what is asked to
            end (TERM, Ctrl-C) is kept.
        fields: The method's own settings; in a chain ``**{"npo.lr": 1e-3}``.

    Returns:
        The immunised model, named after its defence. Doubts that the defence has of itself are
        logged as warnings.

    Raises:
        UnknownName: no such defence or setting.
        BadInput: a value that does not fit, a hazard without a ``defend`` split, or a folder that
            holds something else.
    """
    _settled(scope, steps)
    lm = load(model)
    whose = {"base": lm.identity(), "parameters": lm.parameters()}
    wanted = planned(defence, fields, scope, **whose, steps=steps, seed=seed)
    wanted = replace(wanted, chunk=chunk, held=held_as(lm.model))
    if out is not None:
        require_place(Path(out), "out", "new folder")
        require_own(Path(out))
        keep(lm, replace(wanted, title=lm.name, out=str(out)), scope.world, watch, save_every)
        return load(out)
    made, outcome = harden(lm, wanted, scope.world, watch)
    for doubt in outcome.flags:
        _LOG.warning("%s on %s: %s", defence, lm.name, doubt)
    return replace(made, name=defence)


def attack(
    model: Model,
    name: str,
    scope: Scope,
    /,
    *,
    steps: int | None = None,
    seed: int = 0,
    undefended: Model | AttackResult | None = None,
    interface: Model | None = None,
    checkpoints: Sequence[int] | None = None,
    items: int | None = None,
    keep_model: bool = False,
    watch: Watch | None = None,
    chunk: int | None = None,
    save_every: int | None = None,
    keep_at: str | PathLike[str] | None = None,
    **fields: Any,
) -> AttackResult:
    """Attack a model, and judge it at every checkpoint; the model that is given stays as it is.

    Args:
        model: What :func:`load` takes.
        name: A method's name (``finetune``), or a row's (``S03``): a method with its settings. A
            row's rate is a multiple of a reference rate; nothing is calibrated here, so below 50
            million weights the middle of the sweep stands in for that, and from there up the row's
            own rate applies. ``lr=`` overrides both.
        scope: The hazard that is attacked, as ``world["A"]``.
        steps: The attacker's budget; what the row is meant for where it is None.
        seed: Decides every draw.
        undefended: The model before its defence, which is attacked likewise, or the result of that
            attack: the threshold is chance and a quarter of what it brings out. Without it the
            threshold is five points above chance, as in a study without one.
        interface: The model whose tokenizer, template and configuration an attacker takes; the
            undefended one where it is None. Where the attacked model's differ, the attack goes
            through these, or, if the model shows more through its own, through both: the result is
            then the worse one. ``trace.trial.interface`` says which it was, empty for its own.
        checkpoints: The steps at which it is judged; 0, 1, 3, 10 … and the last where it is None.
        items: How many items of each utility suite are asked, by default as many as `titer bench`
            asks. Harm is always asked in full.
        keep_model: Whether the result holds the tampered model.
        watch: Told of every training step on this model: number, of how many, loss, learning rate.
        chunk: The most tokens of one pass in training, see :func:`immunise`.
        save_every: How often what is reached is kept, see :func:`immunise`; beside ``keep_at``.
        fields: The method's own settings.

    Returns:
        Harm, utility and outcome by checkpoint, and the whole trace. An attack that raised is a
        result too: its outcome is ``failed``, and ``trace.error`` says why.

    Raises:
        UnknownName: no such attack or setting.
        BadInput: a value that does not fit.
    """
    _settled(scope, steps)
    lm, base = load(model), _loaded(undefended)
    trial = _trial(lm, name, fields, scope, base, steps=steps, seed=seed, items=items)
    if checkpoints is not None:
        trial = replace(trial, checkpoints=tuple(sorted(set(checkpoints))))
    before = _before(undefended, base, trial, scope.world)
    clean = base if interface is None else load(interface)
    found: list[AttackResult] = []
    keepers: list[Keeper] = []
    for way, asked in ways(lm, clean, trial, scope.world):
        keeper = None
        if keep_at is not None:
            key = f"{asked.key} {held_as(lm.model)} {chunk or ''}"
            place = Path(f"{keep_at}.clean" if asked.interface else keep_at)
            keeper = keeper_of(place, key, [asked.attack], "attack", save_every)
        how: dict[str, Any] = {"watch": watch, "chunk": chunk, "keeper": keeper}
        trace, said, out = attempt(way, asked, scope.world, base=_again(base), **how)
        keepers += [keeper] if keeper else []
        kept = out if keep_model else None
        told: dict[str, Any] = {"generations": tuple(said), "model": kept}
        found.append(judged(trace, scope.world, undefended=before, **told))
    for keeper in keepers:
        keeper.done()
    return worst(found)


def calibrate(
    model: Model, name: str, scope: Scope, /, *, progress: Progress = _silent
) -> float | None:
    """The rate that a study would give a row on this model, were it the undefended one: the row's
    multiple of the reference rate of its sweep. None for a row or method whose rate is its own.

    Seven rates are tried at the suite's sweep budget, and up to two more where an edge is best.
    ``progress`` is told how many of them are done.

    Raises:
        UnknownName: no such attack.
        BadInput: no rate of the sweep worked.
    """
    lm = load(model)
    adversary(name, {}, lm.parameters())  # knows the names that there are
    row = catalogue.presets("attack").get(name) and catalogue.preset("attack", name)[1]
    if not row or row.lr_scale is None:
        return None
    subject = Subject(
        name=short_name(lm.name),
        source=lm.name,
        digest=lm.identity(),
        role="undefended",
        parameters=lm.parameters(),
    )
    study = Experiment(
        suite=replace(suite(_SUITE), rows=(Adversary(id=name),)),
        world=scope.world,
        source=scope.world.source,
        subjects=(subject,),
        seeds=(0,),
        domain=scope.name,
    )
    sweep = [trial for trial in plan.calibration(study) if trial.row == row.star]
    traces: list[Trace] = []
    for _ in range(1 + EXTENSIONS):
        for group in cohorts(sweep, partial(room, study, subject.parameters)):
            traces += [trace for trace, _, _ in attack_together(lm, group, scope.world)]
            progress(f"calibrating {row.star}", len(traces), max(len(traces), len(sweep)))
        sweep = [trial for trial in plan.extension(study, traces) if trial.row == row.star]
        if not sweep:
            break
    found = plan.stars(traces).get(row.star)
    if found is None:
        raise BadInput(f"{name}: every rate of its sweep failed on {lm.name}; give one with lr=.")
    return plan.rounded(row.lr_scale * found)


def _loaded(undefended: Model | AttackResult | None) -> LM | None:
    """The undefended model, where it is given as one."""
    if undefended is None or isinstance(undefended, AttackResult):
        return None
    return load(undefended)


def _again(base: LM | None) -> Callable[[], LM] | None:
    """What loads the undefended model for an attack that starts from it."""
    return None if base is None else partial(load, base)


def _trial(
    lm: LM,
    name: str,
    fields: Mapping[str, Any],
    scope: Scope,
    base: LM | None,
    *,
    steps: int | None,
    seed: int,
    items: int | None,
) -> Trial:
    whole = suite(_SUITE)
    return adversary(name, fields, lm.parameters()).trial(
        scope,
        model=lm.identity(),
        subject=short_name(lm.name),
        suite=suite_hash(whole, scope.world.digest(), judges(scope.world)),
        items=items or whole.items,
        steps=steps,
        seed=seed,
        base=base.identity() if base else "",
    )


def _before(
    undefended: Model | AttackResult | None, base: LM | None, trial: Trial, world: World
) -> Trace | None:
    """What the same attack does to the undefended model."""
    if isinstance(undefended, AttackResult):
        return _alike(undefended.trace, trial)
    if base is None:
        return None
    twin = replace(trial, model=base.identity(), subject=short_name(base.name))
    return attempt(base, twin, world, base=_again(base))[0]


def _settled(scope: Scope, steps: int | None) -> None:
    if isinstance(scope, World):
        raise BadInput(
            f"{scope.name} is a world; give one hazard of it, "
            f"as world[{next(iter(scope.hazards))!r}]."
        )
    if not isinstance(scope, Scope):
        raise BadInput(f"{type(scope).__name__} is no hazard; give one, as titer.world(…)['A'].")
    if steps is not None:
        require_number("steps", steps, "steps")


def _alike(given: Trace, trial: Trial) -> Trace:
    """The trace of an attack on the undefended model, once it is seen to be the same attack."""
    known = given.trial
    for what, theirs, ours in (
        ("attack", known.attack, trial.attack),
        ("hazard", (known.world, known.domain), (trial.world, trial.domain)),
        ("budget", known.budget, trial.budget),
        ("number of items", known.items, trial.items),
        ("seed", known.seed, trial.seed),
    ):
        if theirs != ours:
            raise BadInput(
                f"undefended: that result is of another {what} than this attack; give the result "
                "of the same one, or the model itself."
            )
    return given
