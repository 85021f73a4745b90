"""Looks at weights and gradients that no attack takes: what the checks of a model are read from.

A diagnosis has the shape of a trial: a key, a trace, a cost. ``weights`` (S6, S11, S12) asks
about the model as it stands; ``paths`` (S10, S18) fine-tunes it and the undefended model, and
asks about the way between; ``splits`` (S20) asks about every split of the hazard. Numbers go into
the points' ``logs``; pillars judge them.
"""

from __future__ import annotations

import math
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from titer.attacks.interpolate import interpolated
from titer.core import catalogue
from titer.core.data import World
from titer.core.diagnoses import Diagnosis, diagnosis, tuning
from titer.core.errors import BadInput
from titer.core.lm import LM
from titer.core.method import Run
from titer.core.protocol import HARM, is_utility
from titer.core.records import Budget, Point, Spent, Trace, Trial
from titer.nn.hooks import blocks
from titer.nn.interface import undropped
from titer.nn.weights import distance
from titer.train.batches import Batch, Drawn, encode_all, pack
from titer.train.objectives import answer_losses
from titer.trial.probes import Probe, ask, each_in, judge, probes, split_probes

__all__ = ["diagnose"]

SCALES = (0.1, 10.0)
"""By how much logits are multiplied."""

TRANSFERS = (0.5, 1.0, 2.0)
ALONG = (0.0, 0.25, 0.5, 0.75, 1.0)
SHOWN = 32
"""Examples of the attacker's that losses and gradients are taken on."""

PREDICTED = 0.01
"""The share of the loss by which a probing step should change it, were the loss linear."""


def diagnose(
    lm: LM, undefended: LM, trial: Trial, world: World
) -> tuple[Trace, list[dict[str, Any]]]:
    """Carry out a diagnosis; one that raises is a trace that says so. With it, what was said.

    Raises:
        BadInput: the trial is no diagnosis.
    """
    which = diagnosis(trial)
    if which is None:
        raise BadInput(f"{trial.attack.name} is an attack, and no diagnosis.")
    started = time.monotonic()
    lm, undefended = undropped(lm), undropped(undefended)
    notes = _Notes(lm, trial, world)
    try:
        _DIAGNOSES[which](lm, undefended, notes)
    except Exception:
        error = traceback.format_exc(limit=20)
        trace = Trace(trial=trial, status="failed", points=tuple(notes.points), error=error)
        return trace, notes.generations
    trace = Trace(
        trial=trial,
        status="ok",
        points=tuple(notes.points),
        seconds=time.monotonic() - started,
        weights=lm.digest(),
    )
    return trace, notes.generations


class _Notes:
    """Takes looks, and keeps the account of what a diagnosis cost."""

    def __init__(self, lm: LM, trial: Trial, world: World) -> None:
        self.trial, self.world = trial, world
        self.data = world.attacker(trial.domain)
        every = probes(world, trial.domain, trial.items)
        self.harm = [probe for probe in every if probe.name == HARM]
        self.useful = [probe for probe in every if is_utility(probe.name)]
        self.points: list[Point] = []
        self.generations: list[dict[str, Any]] = []
        self.spent = Spent()
        if not self.data.harmful:
            raise BadInput(f"hazard {trial.domain} has no examples for an attacker.")

    def look(self, lm: LM, asked: Sequence[Probe], **logs: float) -> None:
        records = ask(lm, asked)
        scores = judge(asked, records)
        self.generations.append({"steps": self.spent.steps, "records": records})
        self.points.append(Point(spent=self.spent, scores=scores, logs=logs))

    def batch(self, lm: LM) -> Batch:
        rows = encode_all(lm, self.data.harmful[:SHOWN], role="harmful")
        return pack(lm, [Drawn(tuple(rows))])

    def charge(self, run: Run) -> None:
        used, more = self.spent, run.spent
        self.spent = Spent(
            steps=used.steps + more.steps,
            tokens=used.tokens + more.tokens,
            examples=max(used.examples, more.examples),
            flops=used.flops + more.flops,
        )


# -- the model as it stands ------------------------------------------------------------------------


def _weights(lm: LM, undefended: LM, notes: _Notes) -> None:
    health = gradient_health(lm, notes.batch(lm))
    notes.look(lm, notes.harm, **health, **_distance(lm, undefended))
    for scale in SCALES:
        with scaled_logits(lm, scale):
            notes.look(lm, notes.harm, scale=scale)
    with tempfile.TemporaryDirectory() as folder:
        lm.save(folder)
        notes.look(LM.load(folder), notes.harm, reloaded=1.0)
    notes.look(_rounded(lm), notes.harm, bf16=1.0)


@dataclass(slots=True)
class _Seen:
    logits: Tensor | None = None


def gradient_health(lm: LM, batch: Batch) -> dict[str, float]:
    """Whether the gradient of the attacker's loss says where the loss falls.

    ``gain`` is the norm of the gradient by weights over that by logits: how much of the error at
    the output reaches the weights. Unlike the norm itself it is not small where a model knows the
    answer already. Each tensor's gradient is taken times the tensor's own norm, that is by a change
    relative to it, since the same function can be written in weights of any scale.
    ``gain:K.NAME`` is the same for one tensor of block K. ``dead`` is the share
    of tensors whose gradient is zero or not finite. ``slope`` is the change of the loss between
    two small steps along the gradient, over what the gradient predicts: 1 where it tells the truth.
    ``turn`` is the cosine between the gradients before and after such a step. Both measure a step
    in each tensor by that tensor's norm, too. ``loss`` in nats.
    """
    own = lm.clone()
    weights = list(own.model.parameters())
    loss, first, logits = _gradient(own, batch)
    error = max(float(logits.norm()), 1e-30)
    dead = [not (torch.isfinite(g).all() and bool(g.any())) for g in first]
    scales = [float(w.detach().norm()) for w in weights]
    own_scale = [scale * float(g.norm()) for scale, g in zip(scales, first, strict=True)]
    gain = math.hypot(*own_scale) / error
    found = {"loss": loss, "gain": gain, "dead": sum(dead) / len(dead)}
    parts = {id(weight): size for weight, size in zip(weights, own_scale, strict=True)}
    for index, block in enumerate(blocks(own.model)):
        for name, weight in block.named_parameters():
            found[f"gain:{index}.{name}"] = parts[id(weight)] / error
    steepest = math.hypot(*own_scale) ** 2
    if not 0 < steepest < float("inf"):
        return {**found, "slope": 0.0, "turn": 0.0}
    along = [scale**2 * g for scale, g in zip(scales, first, strict=True)]
    step = PREDICTED * loss / steepest
    ahead = _moved(own, weights, along, -step, batch)
    _, second, _ = _gradient(own, batch)
    behind = _moved(own, weights, along, 2 * step, batch)
    product = sum(float((a * b).sum()) for a, b in zip(along, second, strict=True))
    then = math.hypot(*(s * float(g.norm()) for s, g in zip(scales, second, strict=True)))
    slope = (behind - ahead) / (2 * step * steepest)
    return {**found, "slope": slope, "turn": product / max(gain * error * then, 1e-30)}


def _gradient(lm: LM, batch: Batch) -> tuple[float, list[Tensor], Tensor]:
    """Loss, gradient by weights and gradient by logits."""
    seen = _Seen()

    def keep(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
        if output.requires_grad:
            output.retain_grad()
            seen.logits = output

    lm.model.zero_grad(set_to_none=True)
    with torch.enable_grad(), _hooked(lm, keep):
        loss = answer_losses(lm.model, batch).sum()
        if loss.requires_grad:
            loss.backward()
    kept = [
        torch.zeros_like(weight) if weight.grad is None else weight.grad.detach().clone()
        for weight in lm.model.parameters()
    ]
    outer = None if seen.logits is None else seen.logits.grad
    return float(loss.detach()), kept, torch.zeros(1) if outer is None else outer.detach()


@torch.no_grad()
def _moved(
    lm: LM, weights: Sequence[Tensor], along: Sequence[Tensor], step: float, batch: Batch
) -> float:
    for weight, grad in zip(weights, along, strict=True):
        weight.add_(grad, alpha=step)
    return float(answer_losses(lm.model, batch).sum())


@contextmanager
def _hooked(lm: LM, hook: Any) -> Iterator[None]:
    head = lm.model.get_output_embeddings()
    if head is None:
        raise BadInput(f"{lm.name} has no output embeddings, so its logits cannot be reached.")
    handle = head.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def scaled_logits(lm: LM, scale: float) -> Iterator[None]:
    """Inside the block the model's logits are ``scale`` times what they were."""
    with _hooked(lm, lambda _module, _inputs, output: output * scale):
        yield


def _distance(lm: LM, undefended: LM) -> dict[str, float]:
    """``moved``: the norm of the change over that of the undefended weights; ``rank``: the median
    over changed matrices of the change's stable rank. Nothing where shapes differ."""
    moved = distance(lm, undefended)
    if moved is None:
        return {}
    mine, theirs = (dict(one.model.named_parameters()) for one in (lm, undefended))
    gaps = ((mine[key].float() - theirs[key].float()).detach() for key in mine)
    ranks = [
        float(gap.norm() ** 2 / torch.linalg.matrix_norm(gap, 2) ** 2)
        for gap in gaps
        if gap.dim() == 2 and bool(gap.any()) and gap.numel() <= 2**22
    ]
    return {"moved": moved, **({"rank": float(torch.tensor(ranks).median())} if ranks else {})}


@torch.no_grad()
def _rounded(lm: LM) -> LM:
    out = lm.clone()
    for weight in out.model.parameters():
        weight.copy_(weight.to(torch.bfloat16).to(weight.dtype))
    return out


# -- the way from it -------------------------------------------------------------------------------


def _paths(lm: LM, undefended: LM, notes: _Notes) -> None:
    notes.look(lm, [*notes.harm, *notes.useful])
    there = _tuned(lm, notes)
    notes.look(there, [*notes.harm, *notes.useful], **_losses_between(lm, there, notes))
    with_update = _tuned(undefended, notes)
    for share in TRANSFERS:
        moved = transferred(lm, undefended, with_update, share)
        notes.look(moved, [*notes.harm, *notes.useful], transfer=share)


def _tuned(lm: LM, notes: _Notes) -> LM:
    """The plainest attack, all steps at one rate."""
    method = catalogue.build("attack", "finetune", tuning(notes.trial))
    half = (notes.trial.budget.steps or 0) // 2
    run = Run(budget=Budget(steps=half), data=notes.data, seed=notes.trial.seed)
    out = method(lm, run)
    notes.charge(run)
    return out


@torch.no_grad()
def _losses_between(lm: LM, there: LM, notes: _Notes) -> dict[str, float]:
    """The attacker's loss along the line, ``line:0`` to ``line:1``."""
    batch = notes.batch(lm)
    return {
        f"line:{share:g}": float(answer_losses(interpolated(lm, there, share).model, batch).sum())
        for share in ALONG
    }


@torch.no_grad()
def transferred(lm: LM, start: LM, end: LM, share: float) -> LM:
    """``θ + share (θ_end − θ_start)``: an update that was learned on another model.

    Raises:
        BadInput: the models have not the same tensors.
    """
    mine, first, last = (dict(one.model.named_parameters()) for one in (lm, start, end))
    if mine.keys() != first.keys() or any(mine[k].shape != first[k].shape for k in mine):
        raise BadInput(f"{lm.name} and {start.name} have not the same tensors.")
    out = lm.clone()
    for key, weight in out.model.named_parameters():
        weight.add_((last[key] - first[key]).to(weight), alpha=share)
    return out


# -- every split of the hazard ---------------------------------------------------------------------


def _splits(lm: LM, _undefended: LM, notes: _Notes) -> None:
    asked = split_probes(notes.world, notes.trial.domain)
    notes.look(lm, asked, **{probe.name: float(each_in(probe)) for probe in asked})


_DIAGNOSES: Mapping[Diagnosis, Callable[[LM, LM, _Notes], None]] = {
    "weights": _weights,
    "paths": _paths,
    "splits": _splits,
}
