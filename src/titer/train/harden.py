"""What defences that train share: batches of several roles, phases, and what all of it costs.

B rows, T tokens. Losses are in nats, and scalars.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from torch import Tensor

from titer.core.data import Example
from titer.core.errors import BadInput
from titer.core.lm import LM
from titer.core.method import Run
from titer.nn.trainable import Parameters, Trainable, trainable
from titer.train.batches import Batch, Bundle, bundles, cycle
from titer.train.loop import Recipe, fit
from titer.train.objectives import cross_entropy
from titer.train.optimisers import Optimiser, Schedule

__all__ = [
    "REFUSAL",
    "Phase",
    "Source",
    "Training",
    "affordable",
    "aligned",
    "halves",
    "harden",
    "logits",
    "refusing",
    "safe_loss",
]

REFUSAL = "I'm sorry, but I can't help with that."
"""What a refusal says where the data hold none."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """How a defence trains; every field is a setting of the defence that passes it.

    A defence makes one when it is built, so that a bad setting shows before any work. ``lr`` is a
    step's rate, ``batch_size`` counts rows of each batch, ``rank`` and ``alpha`` are LoRA's where
    ``parameters`` is ``lora``, and ``modules`` are the paths of the layers that train; none
    means all.

    Raises:
        BadInput: a rate, a batch or a rank that is not positive.
    """

    lr: float
    batch_size: int
    weight_decay: float
    parameters: Parameters
    rank: int
    alpha: float
    modules: tuple[str, ...] = ()

    @classmethod
    def of(cls, defence: Any, modules: Sequence[str] = ()) -> Training:
        """The settings of a defence that has them under these names.

        Raises:
            BadInput: a setting that no training can have.
        """
        settings = {spec.name: getattr(defence, spec.name) for spec in fields(cls)[:-1]}
        return cls(**settings, modules=tuple(modules))

    def __post_init__(self) -> None:
        if not 0 < self.lr < math.inf or self.batch_size < 1 or self.rank < 1:
            raise BadInput(
                f"lr={self.lr}, batch_size={self.batch_size}, rank={self.rank}; "
                "all three must be positive."
            )


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A part of the training with an optimiser of its own.

    ``grad`` as in the loop. ``share`` of the steps that are left go to it. ``also`` holds batches
    beyond those of the sources, by name. A batch costs one pass forward and backward; ``passes``
    says by name how many more, and ``forwards`` how many more forward passes.
    """

    grad: Callable[[Any, Bundle], dict[str, float]]
    share: float = 1.0
    also: Mapping[str, Iterator[Batch | None]] = field(
        default_factory=dict[str, Iterator[Batch | None]]
    )
    passes: Mapping[str, float] = field(default_factory=dict[str, float])
    forwards: Mapping[str, float] = field(default_factory=dict[str, float])


@dataclass(frozen=True, kw_only=True)
class Source:
    """Examples of one role, a batch a step.

    ``order`` names the chance that shuffles them, the role's own if empty: sources of equally many
    examples and one order stay side by side, row by row. ``every`` so many steps there is a batch,
    none in between; ``repeat`` so many steps it is the same one. ``packed``: rows of unlike length
    may share rows, for means over tokens. ``rows`` takes the place of the training's batch size.
    """

    examples: Sequence[Example]
    order: str = ""
    every: int = 1
    repeat: int = 1
    packed: bool = False
    rows: int | None = None

    def stream(self, lm: LM, run: Run, role: str, rows: int) -> Iterator[Batch | None]:
        """Batches for ever.

        Raises:
            BadInput: there are no examples.
        """
        found = cycle(
            lm,
            self.examples,
            batch_size=self.rows or rows,
            rng=run.rng(f"order {self.order or role}"),
            role=role,
            packed=self.packed,
        )
        return _paced(found, self.every, self.repeat)


def _paced(stream: Iterator[Batch], every: int, repeat: int) -> Iterator[Batch | None]:
    while True:
        yield from [next(stream)] * repeat
        yield from [None] * (every - 1)


def logits(model: Any, batch: Batch) -> Tensor:
    """The model's output on a batch, (B, T, V), with its gradient."""
    return model(**batch.inputs(), use_cache=False).logits


def refusing(examples: Sequence[Example], known: Sequence[Example] = ()) -> tuple[Example, ...]:
    """The same prompts, declined: by their own refusal, else by the first that the ``known``
    examples (these, if none are given) hold, else by :data:`REFUSAL`."""
    spare = next((one.refusal for one in known or examples if one.refusal), REFUSAL)
    return tuple(replace(one, answer=one.refusal or spare) for one in examples)


def aligned(
    run: Run, retain_weight: float, *, harmful: bool = True, packed: bool = False
) -> dict[str, Source]:
    """What alignment trains on: ``safe``, the hazard's prompts declined; ``harmful``, the same rows
    answered; ``retain``, if it has a weight. ``safe`` and ``harmful`` come side by side."""
    found = {"safe": Source(examples=refusing(run.data.harmful), order="pairs", packed=packed)}
    if harmful:
        found["harmful"] = Source(examples=run.data.harmful, order="pairs", packed=packed)
    if retain_weight:
        found["retain"] = Source(examples=run.data.retain, packed=packed)
    return found


def safe_loss(model: Any, bundle: Bundle, retain_weight: float) -> Tensor:
    """Cross-entropy of the refusals, and of what is kept, if it has a weight."""
    found = cross_entropy(logits(model, bundle["safe"]), bundle["safe"].labels)
    if retain_weight:
        kept = bundle["retain"]
        found = found + retain_weight * cross_entropy(logits(model, kept), kept.labels)
    return found


def halves(examples: Sequence[Example]) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """Two parts of about equal size that share nobody: units go to either in turn, in their order.

    Raises:
        BadInput: there are fewer than two units.
    """
    units = {unit: place for place, unit in enumerate(dict.fromkeys(e.unit for e in examples))}
    if len(units) < 2:
        raise BadInput(
            f"the hazard's {len(examples)} examples are about {len(units)} entity; a defence that "
            "holds some back needs two or more."
        )
    first = tuple(one for one in examples if units[one.unit] % 2 == 0)
    return first, tuple(one for one in examples if units[one.unit] % 2)


def harden(
    lm: LM,
    run: Run,
    training: Training,
    sources: Mapping[str, Source],
    plan: Callable[[Trainable], Sequence[Phase]],
    *,
    frozen: Sequence[str] = (),
    accumulate: int = 1,
    optimiser: Optimiser = "adamw",
    schedule: Schedule = "constant",
    warmup: float = 0.0,
    clip: float | None = 1.0,
) -> LM:
    """Train a copy of ``lm`` phase by phase, each step on a bundle of one batch a source.

    ``frozen`` names the batches that a loss also shows to the frozen start: 2 operations a weight
    and token on top. ``plan`` is given what trains and says how; ``accumulate`` bundles make a
    step.

    Args:
        lm: The model to start from; it is not touched.
        run: What may be spent.
        training: Rate, batch size and which weights train.
        sources: What each role's batches are drawn from.

    Returns:
        An ordinary model, adapters merged.

    Raises:
        Diverged: some weights are not finite at the end.
        BadInput: a source has no examples.
    """
    out = lm.clone()
    forward = 2.0 * lm.parameters_in_matmuls()
    streams = {
        role: source.stream(out, run, role, training.batch_size) for role, source in sources.items()
    }
    with trainable(
        out,
        training.parameters,
        rank=training.rank,
        alpha=training.alpha,
        seed=run.rng("adapter").getrandbits(62),
        modules=training.modules,
    ) as ready:
        phases = plan(ready)
        for phase in phases:
            steps = run.steps_left(phase.share)
            if steps == 0 and phase is not phases[-1]:
                continue
            fit(
                ready.lm,
                phase.grad,
                bundles(**streams, **phase.also),
                run,
                parameters=ready.weights,
                recipe=Recipe(
                    lr=training.lr,
                    optimiser=optimiser,
                    schedule=schedule,
                    warmup=warmup,
                    clip=clip,
                    weight_decay=training.weight_decay,
                    accumulate=accumulate,
                    flops_per_token=ready.flops_per_token,
                    flops_besides=_besides(phase, frozen, ready.flops_per_token, forward),
                ),
                steps=steps,
            )
    return out


def affordable(
    lm: LM, run: Run, batches: Iterator[Batch], *, flops_per_token: float, steps: int
) -> Iterator[tuple[Batch, Callable[[float], None]]]:
    """For a defence with a loop of its own: up to ``steps`` batches that the budget affords, each
    with what is to be called with the loss once its step is taken. ``lm`` is looked at before each
    step where a checkpoint is due, and by the defence itself after the last."""
    for _ in range(steps):
        run.look(lm)
        batch = next(batches)
        flops = flops_per_token * batch.tokens
        if run.exhausted() or not run.affords(tokens=batch.tokens, examples=batch.ids, flops=flops):
            return

        def pay(loss: float, batch: Batch = batch, flops: float = flops) -> None:
            run.charge(steps=1, tokens=batch.tokens, examples=batch.ids, flops=flops)
            run.log(loss)

        yield batch, pay


def _besides(
    phase: Phase, frozen: Sequence[str], both: float, forward: float
) -> Callable[[Bundle], float]:
    """What a bundle costs beyond one pass forward and backward of every batch."""

    def price(bundle: Bundle) -> float:
        def tokens(name: str) -> int:
            return bundle[name].tokens if name in bundle.parts else 0

        found = forward * sum(tokens(name) for name in frozen)
        found += both * sum(more * tokens(name) for name, more in phase.passes.items())
        return found + forward * sum(more * tokens(name) for name, more in phase.forwards.items())

    return price
