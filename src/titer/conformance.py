"""A kit for authors of plug-ins: does a method keep the promises that every method makes?

Everything runs in memory on models of about twenty thousand weights, in seconds, on a CPU::

    from titer.conformance import check, check_attack

    check_attack(MyAttack(lr=1e-3))     # an object, before it is packaged
    check("attack", "my_attack")        # the installed plug-in, its card and presets included

A broken promise raises :class:`NonConforming` with one sentence that says which. A good test of a
plug-in is one such call; titer runs the same checks over its own catalogue.
"""

from __future__ import annotations

import copy
import json
import math
import random
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from titer.core import catalogue
from titer.core.data import Example
from titer.core.errors import BadInput, BudgetExceeded, TiterError
from titer.core.lm import LM
from titer.core.method import Attack, Defence, Insight, Measure, Run
from titer.core.records import Budget, Card, Kind, Reading, part
from titer.worlds._tiny import ARCHITECTURES, Architecture, tiny_case, tiny_data, tiny_lm

__all__ = [
    "ARCHITECTURES",
    "Architecture",
    "NonConforming",
    "check",
    "check_attack",
    "check_defence",
    "check_measure",
    "tiny_data",
    "tiny_lm",
]

_STEPS = 3
_SEED = 3
_CHECKPOINTS = (0, 1, 3)


class NonConforming(TiterError, AssertionError):
    """A method breaks a promise that the rest of titer builds on."""


def _need(condition: bool, sentence: str) -> None:
    if not condition:
        raise NonConforming(sentence)


# -- what must stay as it was -----------------------------------------------------------------


def _scramble(seed: int) -> None:
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)


def _settings() -> tuple[object, ...]:
    """Everything global that a method might disturb, as comparable values."""
    _, keys, *rest = cast(tuple[Any, ...], np.random.get_state())
    return (
        torch.get_rng_state().numpy().tobytes(),
        random.getstate(),
        (keys.tobytes(), *rest),
        torch.is_grad_enabled(),
        torch.get_default_dtype(),
    )


def _guarded(name: str, lm: LM, call: Callable[[], Any], *, watched: bool = False) -> Any:
    """Make a call and check that neither its argument nor anything global has changed.

    While it is ``watched``, global chance is the watcher's affair.
    """
    weights, config = lm.digest(), lm.model.config.to_dict()
    flags = [weight.requires_grad for weight in lm.model.parameters()]
    settings = _settings()
    result = call()
    now = [weight.requires_grad for weight in lm.model.parameters()]
    _need(lm.digest() == weights, f"{name} changes the weights of its argument; clone it first.")
    _need(now == flags, f"{name} changes requires_grad on its argument; clone it first.")
    _need(lm.model.config.to_dict() == config, f"{name} changes its argument's config.")
    _need(not lm.model.training, f"{name} leaves its argument in training mode.")
    _need(not _hooks(lm.model), f"{name} leaves a hook on its argument: {_hooks(lm.model)}.")
    grads = [key for key, weight in lm.model.named_parameters() if weight.grad is not None]
    _need(not grads, f"{name} leaves a gradient on its argument's {', '.join(grads[:1])}.")
    _need(
        watched or _settings() == settings,
        f"{name} disturbs global chance or torch's defaults; draw from run.rng(...) or `seeded`.",
    )
    return result


def _hooks(model: nn.Module) -> str:
    """The first module or weight that carries a hook, or nothing.

    Those of transformers do not count: it leaves some once hidden states were asked for.
    """
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    holders = [*model.named_modules(), *model.named_parameters()]
    for key, holder in holders:
        for kind in (*kinds, "_post_accumulate_grad_hooks"):
            hooks: dict[int, Any] = getattr(holder, kind, None) or {}
            homes = [str(getattr(hook, "__module__", "")) for hook in hooks.values()]
            if any(not home.startswith("transformers.") for home in homes):
                return key or type(holder).__name__
    return ""


def _ordinary(name: str, before: LM, after: LM) -> None:
    """The result is a plain Hugging Face model that stands on its own."""
    _need(isinstance(after, LM), f"{name} returns {type(after).__name__}; it must return an LM.")
    model = after.model
    shared = {weight.data_ptr() for weight in before.model.parameters()} & {
        weight.data_ptr() for weight in model.parameters()
    }
    _need(not shared, f"{name} returns a model that shares memory with its argument; clone it.")
    adapters = [key for key, part in model.named_modules() if "peft" in type(part).__module__]
    _need(
        not adapters and not hasattr(model, "peft_config"),
        f"{name} leaves PEFT layers ({', '.join(adapters[:1])}) or its config; merge them.",
    )
    _need(not _hooks(model), f"{name} leaves a hook on its result: {_hooks(model)}.")
    _need(not model.training, f"{name} returns a model in training mode.")
    was = {key: weight.requires_grad for key, weight in before.model.named_parameters()}
    now = {key: weight.requires_grad for key, weight in model.named_parameters()}
    changed = sorted(key for key in was.keys() & now.keys() if was[key] != now[key])
    _need(not changed, f"{name} does not restore requires_grad of {', '.join(changed[:1])}.")
    after.check()
    with tempfile.TemporaryDirectory() as folder:
        after.save(folder)
        again = LM.load(folder)
    _need(
        again.digest() == after.digest(),
        f"{name}: the result, saved and loaded, has other weights; it is no ordinary model.",
    )


# -- attacks and defences ---------------------------------------------------------------------


class _Watch:
    """Takes looks, and does what a careless measure might do to chance."""

    def __init__(self) -> None:
        self.steps: list[int] = []

    def __call__(self, lm: LM, run: Run) -> None:
        self.steps.append(run.spent.steps)
        torch.rand(3)


def _perform(
    name: str, method: Attack, lm: LM, budget: Budget, checkpoints: Sequence[int] = ()
) -> tuple[LM, Run, list[int]]:
    watch = _Watch()
    run = Run(
        budget=budget, data=tiny_data(), seed=_SEED, emit=watch, checkpoints=tuple(checkpoints)
    )
    try:
        after = _guarded(name, lm, lambda: method(lm, run), watched=bool(checkpoints))
    except BudgetExceeded as error:
        raise NonConforming(f"{name} overspends: {error}") from error
    _need(isinstance(after, LM), f"{name} returns {type(after).__name__}; it must return an LM.")
    over = run.spent.over(budget)
    _need(not over, f"{name} spends {' and '.join(over)}.")
    return after, run, watch.steps


def _check_method(name: str, method: Attack, architecture: Architecture) -> None:
    lm = tiny_lm(architecture)
    name = f"{name} on {architecture}"
    budget = Budget(steps=_STEPS)
    _scramble(1)
    after, run, looks = _perform(name, method, lm, budget, _CHECKPOINTS)
    _ordinary(name, lm, after)
    strays = sorted(set(looks) - set(_CHECKPOINTS))
    _need(not strays, f"{name} reports at step {strays[:1]}, where no checkpoint was asked for.")
    _need(len(looks) == len(set(looks)), f"{name} reports one checkpoint twice: {looks}.")
    due = [step for step in _CHECKPOINTS if step <= run.spent.steps]
    _need(looks == due, f"{name} reports at {looks}, but {due} were asked for; call run.look(lm).")

    _scramble(2)
    again, rerun, _ = _perform(name, method, lm, budget)
    _need(
        again.digest() == after.digest() and rerun.losses == run.losses,
        f"{name}: the seed does not decide the result; something draws from global chance, "
        "or being watched changes it.",
    )
    _perform(name, method, lm, Budget(steps=_STEPS, tokens=run.spent.tokens // 2))
    if run.spent.steps:
        same, _, _ = _perform(name, method, lm, Budget(steps=0))
        _need(same.digest() == lm.digest(), f"{name} changes the model with no step to spend.")


def _check_card(card: Card) -> None:
    name = card.build.__name__
    for label in ("source", "summary", "family", "departures"):
        _need(bool(getattr(card, label).strip()), f"{name}: the card's {label} is empty.")
    _need(card.version >= 1, f"{name}: the card's version is {card.version}; count from 1.")
    _check_class(card.build, card.departures)
    for key, row in card.presets.items():
        known = {spec.name for spec in fields(card.build)}
        _need(
            set(row.fields) <= known,
            f"{name}: preset {key} sets {sorted(set(row.fields) - known)}, which it has not.",
        )
        card.build(**row.fields)
        _need(bool(row.title and row.source), f"{name}: preset {key} needs a title and a source.")
        _need(min(row.steps) >= 0, f"{name}: preset {key} has a negative number of steps.")
        _need(
            (row.lr_scale is None) == (not row.star),
            f"{name}: preset {key} needs both lr_scale and star, or neither.",
        )


def _check_class(build: type[Any], departures: str = "") -> None:
    name = build.__name__
    _need(is_dataclass(build), f"{name} is no dataclass; its fields are its configuration.")
    frozen = cast(Any, build).__dataclass_params__.frozen
    _need(frozen, f"{name} is not frozen: write @dataclass(frozen=True, kw_only=True).")
    written = build.__doc__ or ""
    _need(
        bool(written.strip()) and not written.startswith(f"{name}("),
        f"{name} has no docstring; say what it does and where it is from.",
    )
    for spec in fields(build):
        free = spec.default is not MISSING or spec.default_factory is not MISSING
        _need(
            free or spec.name in departures,
            f"{name}: the field {spec.name} has no default and the card's departures do not say "
            "why.",
        )


def _opened(subject: Any, kind: Kind) -> tuple[str, Any]:
    """The name and the object behind a card or an object, their form checked."""
    if isinstance(subject, Card):
        _need(subject.kind == kind, f"the card is of kind {subject.kind}, not {kind}.")
        _check_card(subject)
        subject = subject.build()
    else:
        _check_class(type(subject), ", ".join(spec.name for spec in fields(subject)))
    name = type(subject).__name__
    plain = json.dumps(part(name, subject).fields, allow_nan=False)
    _need(plain != "", f"{name} has fields that JSON cannot hold.")
    return name, subject


def check_attack(
    subject: Card | Attack, *, architectures: Sequence[Architecture] = ARCHITECTURES
) -> None:
    """Check an attack, by its card or as an object.

    Raises:
        NonConforming: it breaks a promise.
    """
    name, method = _opened(subject, "attack")
    for architecture in architectures:
        _check_method(name, method, architecture)


def check_defence(
    subject: Card | Defence, *, architectures: Sequence[Architecture] = ARCHITECTURES
) -> None:
    """Check a defence, by its card or as an object.

    Raises:
        NonConforming: it breaks a promise.
    """
    name, method = _opened(subject, "defence")
    for architecture in architectures:
        _check_method(name, method, architecture)


# -- measures ---------------------------------------------------------------------------------


def check_measure(
    subject: Card | Measure | Insight, *, architectures: Sequence[Architecture] = ARCHITECTURES
) -> None:
    """Check a measure that scores items or looks inside, by its card or as an object.

    Raises:
        NonConforming: it breaks a promise.
    """
    name, found = _opened(subject, "measure")
    if hasattr(found, "look"):
        for architecture in architectures:
            _check_look(f"{name} on {architecture}", found, architecture)
        return
    measure: Measure = found
    items = tiny_data().harmful[:6]
    if missing := [key for key in getattr(found, "needs", ()) if not getattr(found, key)]:
        _check_needs(name, measure, missing, items)
        return
    for architecture in architectures:
        _check_scores(f"{name} on {architecture}", measure, tiny_lm(architecture), items)


def _check_needs(
    name: str, measure: Measure, missing: Sequence[str], items: tuple[Example, ...]
) -> None:
    """A measure that cannot judge before something is set says so, and names it."""
    try:
        measure.collect(tiny_lm(), items)
    except BadInput as error:
        _need(missing[0] in str(error), f"{name} does not say that it needs {missing[0]}: {error}")
        return
    raise NonConforming(f"{name} judges without {' and '.join(missing)}, which it says it needs.")


def _check_scores(name: str, measure: Measure, lm: LM, items: tuple[Example, ...]) -> None:
    _scramble(1)
    records = _guarded(name, lm, lambda: measure.collect(lm, items))
    _scramble(2)
    again = _guarded(name, lm, lambda: measure.collect(lm, items))
    _need(len(records) == len(items), f"{name} collects {len(records)} records of {len(items)}.")
    _need(records == again, f"{name} collects other records the second time.")
    try:
        read = json.loads(json.dumps(records, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise NonConforming(f"{name} collects what JSON cannot hold ({error}).") from error
    kept = copy.deepcopy(read)
    scores = measure.judge(items, read)
    _need(read == kept, f"{name} changes the records it judges.")
    _need(
        scores == measure.judge(items, records), f"{name} judges otherwise once records are saved."
    )
    _need(len(scores) == len(items), f"{name} gives {len(scores)} scores for {len(items)} items.")
    _need(
        all(isinstance(score, float) and math.isfinite(score) for score in scores),
        f"{name} gives scores that are not finite floats.",
    )
    turned = items[::-1]
    other = measure.judge(turned, measure.collect(lm, turned))[::-1]
    _need(
        all(
            math.isclose(a, b, rel_tol=1e-3, abs_tol=1e-6)
            for a, b in zip(scores, other, strict=True)
        ),
        f"{name} scores an item by its place; records must follow the order of the items.",
    )
    _need(
        measure.judge(items[:3], records[:3]) == scores[:3],
        f"{name}: an item's score depends on the other items.",
    )


def _check_look(name: str, insight: Insight, architecture: Architecture) -> None:
    case = tiny_case(architecture)
    _scramble(1)
    readings = _guarded(
        name, case.lm, lambda: _guarded(name, case.base, lambda: insight.look(case))
    )
    _scramble(2)
    _need(list(readings) == list(insight.look(case)), f"{name} reads otherwise the second time.")
    _need(bool(readings), f"{name} reads nothing; an unknown value is a reading too.")
    _need(all(isinstance(one, Reading) for one in readings), f"{name} gives what is no Reading.")
    places = [(one.what, one.place) for one in readings]
    _need(len(places) == len(set(places)), f"{name} reads one thing at one place twice.")
    for one in readings:
        found = one.estimate
        known = [end for end in (found.low, found.value, found.high) if end is not None]
        _need(all(map(math.isfinite, known)), f"{name}: {one.what} is not finite.")
        _need(known == sorted(known), f"{name}: {one.what} lies outside of its interval.")
        _need(found.value is not None or bool(found.note), f"{name}: {one.what}: say why not.")


def check(kind: Kind, name: str) -> None:
    """Check a method of the catalogue by name: titer's own or an installed plug-in's.

    Raises:
        NonConforming: it breaks a promise.
        UnknownName: there is no such method.
        BadInput: the plug-in cannot be loaded.
    """
    card = catalogue.card(kind, name)
    checks: dict[Kind, Callable[[Card], None]] = {
        "attack": check_attack,
        "defence": check_defence,
        "measure": check_measure,
    }
    method = card.build()
    plain = json.loads(json.dumps(part(name, method, card.version).fields))
    _need(
        catalogue.build(kind, name, plain) == method,
        f"{name}: built from its own written fields, it is another method; type its fields.",
    )
    checks[kind](card)
