"""What a person calls in Python; the command line, studies and examples call the same.

::

    import titer

    world = titer.world("fabula")
    base = titer.load("fabula:base")
    safe = titer.immunise(base, "npo", world["A"], steps=100, lr=1e-3)
    found = titer.attack(safe, "S03", world["A"], steps=150, undefended=base)
    found.harm, found.utility, found.outcome
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

from torch import nn

from titer.core.data import Scope, World
from titer.core.errors import BadInput
from titer.core.lm import LM
from titer.core.records import Trace, Trial
from titer.core.tokenizer import with_pad
from titer.grid.subjects import short_name
from titer.grid.suite import judges, suite, suite_hash
from titer.nn.locked import relock
from titer.trial.attempt import attack as attempt
from titer.trial.immunise import immunise as harden
from titer.trial.immunise import keep, planned, require_own
from titer.trial.presets import adversary
from titer.trial.result import AttackResult, judged
from titer.worlds.hub import fetch, resolve_model
from titer.worlds.source import load_world

__all__ = ["attack", "immunise", "load", "world"]

_LOG = logging.getLogger(__name__)

Model = LM | str | PathLike[str] | nn.Module | tuple[nn.Module, Any]
"""What :func:`load` makes an :class:`LM` of."""

_SUITE = "quick"
"""The suite by whose judges and items a single attack is asked: the one `titer bench` runs."""


def world(source: str | PathLike[str]) -> World:
    """The data of an experiment: ``fabula``, ``fabula#SEED``, or a folder with a ``data.yaml``.

    ``world["A"]`` is one hazard of it, as :func:`immunise` and :func:`attack` take it.

    Raises:
        BadInput: there is no such world, or the folder has faults, all of which are named.
    """
    return load_world(str(source))


def load(
    source: Model, *, tokenizer: Any = None, name: str | None = None, device: str | None = None
) -> LM:
    """A model ready to be immunised or attacked.

    ``source`` is a Hugging Face folder, a hub id ``owner/name@revision``, an organism
    ``fabula:NAME`` (grown where it is not there yet), or a causal language model of transformers
    that is in memory already, with its ``tokenizer`` or as a pair with it. That one is not copied:
    it is put in evaluation mode and otherwise left as it is. An :class:`LM` comes back unchanged.
    ``device`` is for models that are read from disk.

    Raises:
        BadInput: there is no such model, or it cannot be used; the sentence says why.
    """
    if isinstance(source, LM):
        return source
    if isinstance(source, tuple):
        return _in_memory(source[0], source[1] if tokenizer is None else tokenizer, name)
    if not isinstance(source, str | PathLike):
        return _in_memory(source, tokenizer, name)
    if tokenizer is not None:
        raise BadInput(f"{source}: a model that is read from disk brings its own tokenizer.")
    found = resolve_model(str(source))
    lm = LM.load(fetch(found), name=name or str(source), device=device)
    return replace(relock(lm), origin=found.digest)


def _in_memory(model: Any, tokenizer: Any, name: str | None) -> LM:
    if not isinstance(model, nn.Module) or not hasattr(model, "generate"):
        raise BadInput(
            f"{type(model).__name__} is no model; give a folder, a hub id, fabula:NAME, or a "
            "causal language model of transformers with its tokenizer."
        )
    if tokenizer is None:
        raise BadInput(
            "a model in memory needs its tokenizer; write titer.load(model, tokenizer=tokenizer)."
        )
    if tokenizer.pad_token_id is None:
        tokenizer = copy.deepcopy(tokenizer)  # it is given a padding token, and is the caller's
    known = getattr(getattr(model, "config", None), "name_or_path", "")
    lm = LM(model, with_pad(tokenizer), name or known or type(model).__name__)
    lm.check()
    return relock(lm)


def immunise(
    model: Model,
    defence: str,
    scope: Scope,
    /,
    *,
    steps: int | None = None,
    seed: int = 0,
    out: str | PathLike[str] | None = None,
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
        fields: The method's own settings; in a chain ``**{"npo.lr": 1e-3}``.

    Returns:
        The immunised model. Doubts that the defence has of itself are logged as warnings.

    Raises:
        UnknownName: no such defence or setting.
        BadInput: a value that does not fit, a hazard without a ``defend`` split, or a folder that
            holds something else.
    """
    _settled(scope, steps)
    lm = load(model)
    wanted = planned(
        defence,
        fields,
        scope,
        base=lm.identity(),
        parameters=lm.parameters(),
        steps=steps,
        seed=seed,
    )
    if out is not None:
        require_own(Path(out))
        keep(lm, replace(wanted, title=lm.name, out=str(out)), scope.world)
        return load(out)
    made, outcome = harden(lm, wanted, scope.world)
    for doubt in outcome.flags:
        _LOG.warning("%s on %s: %s", defence, lm.name, doubt)
    return replace(made, name=f"{lm.name}+{defence}")


def attack(
    model: Model,
    name: str,
    scope: Scope,
    /,
    *,
    steps: int | None = None,
    seed: int = 0,
    undefended: Model | AttackResult | None = None,
    checkpoints: Sequence[int] | None = None,
    items: int | None = None,
    keep_model: bool = False,
    **fields: Any,
) -> AttackResult:
    """Attack a model, and judge it at every checkpoint; the model that is given stays as it is.

    Args:
        model: What :func:`load` takes.
        name: A method's name (``finetune``), or a row's (``S03``): a method with its settings. A
            row's rate is a multiple of a reference rate; nothing is calibrated here, so on a model
            below 50 million weights the middle of the sweep stands in for that, and on a larger one
            the row's own rate applies. ``lr=`` overrides both.
        scope: The hazard that is attacked, as ``world["A"]``.
        steps: The attacker's budget; what the row is meant for where it is None.
        seed: Decides every draw.
        undefended: The model before its defence: it is attacked likewise, and the threshold is
            chance and a quarter of what that brings out. The result of that attack will do, where
            it is there already. Without it the threshold is absolute: five points above
            chance, as in a study without one.
        checkpoints: The steps at which the model is judged; 0, 1, 3, 10, 30 and so on, and the
            last, where it is None.
        items: How many items of each utility suite are asked; as many as `titer bench` asks where
            it is None. Harm is always asked in full.
        keep_model: Whether the result holds the tampered model.
        fields: The method's own settings.

    Returns:
        Harm, utility and outcome by checkpoint, and the whole trace. An attack that raised is a
        result too: its outcome is ``failed``, and ``trace.error`` says why.

    Raises:
        UnknownName: no such attack or setting.
        BadInput: a value that does not fit.
    """
    _settled(scope, steps)
    lm = load(model)
    chosen = adversary(name, fields, lm.parameters())
    base = None if undefended is None or isinstance(undefended, AttackResult) else load(undefended)
    whole = suite(_SUITE)
    trial = chosen.trial(
        scope,
        model=lm.identity(),
        subject=short_name(lm.name),
        suite=suite_hash(whole, scope.world.digest(), judges(scope.world)),
        items=items or whole.items,
        steps=steps,
        seed=seed,
        base=base.identity() if base else "",
    )
    if checkpoints is not None:
        trial = replace(trial, checkpoints=tuple(sorted(set(checkpoints))))
    reference = _alike(undefended.trace, trial) if isinstance(undefended, AttackResult) else None
    start = None if base is None else partial(load, base)
    if base is not None:
        twin = replace(trial, model=base.identity(), subject=short_name(base.name))
        reference, _, _ = attempt(base, twin, scope.world, base=start)
    trace, said, tampered = attempt(lm, trial, scope.world, base=start)
    return judged(
        trace,
        scope.world,
        undefended=reference,
        generations=tuple(said),
        model=tampered if keep_model else None,
    )


def _settled(scope: Scope, steps: int | None) -> None:
    if isinstance(scope, World):
        raise BadInput(
            f"{scope.name} is a world; give one hazard of it, "
            f"as world[{next(iter(scope.hazards))!r}]."
        )
    if not isinstance(scope, Scope):
        raise BadInput(f"{type(scope).__name__} is no hazard; give one, as titer.world(…)['A'].")
    if steps is not None and steps < 1:
        raise BadInput(f"steps={steps}: a budget of no steps does nothing; give 1 or more.")


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
