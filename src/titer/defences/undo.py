"""Unlearn, noise, distil on outputs."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from titer.defences._noise import Where, masks, no_forget, noised
from titer.method import LM, TWO_PHASES, BadInput, Card, Preset, Run
from titer.nn.trainable import Trainable, trainable
from titer.train.batches import IGNORED, Batch, Bundle, bundles, cycle
from titer.train.environments import environments, places, streams
from titer.train.grads import exact
from titer.train.loop import Recipe, fit
from titer.train.nested import nested
from titer.train.objectives import kl_to
from titer.train.optimisers import Schedule
from titer.train.penalties import Kind, Penalty

__all__ = ["CARD", "PRESETS", "UNDO", "noised"]

Text = Literal["retain", "related", "unrelated", "harmful"]


@dataclass(frozen=True, kw_only=True)
class UNDO:
    """Make a model that has unlearned the teacher of a noisy copy of itself.

    ``base`` (any defence) unlearns for the share ``first`` of the steps; a copy of its result is
    mixed with noise, ``share`` of it, and learns the teacher's distributions, ``KL(teacher ‖
    student)`` at every real token of ``text``, for the rest. What the teacher only hides is not in
    its outputs and is lost with the noise; ``share`` trades that against compute. With ``first`` 1
    the result is the base's to the bit. Every weight trains.

    **What is erased is everything that ``text`` does not show**, not the hazard alone: other
    knowledge of the model goes with the noise as well, and no benign suite that asks for what the
    text tells will see it (studies/frontier.md has the figures). What is to be kept must be in the
    text.

    ``where`` places the noise, on ``fraction`` of the weights if it goes by importance; see
    :mod:`titer.defences._noise`. With ``invariance`` above 0 distillation descends that much of
    ILU's penalty besides, of kind ``penalty`` on ``environments``; with ``where=penalty`` the noise
    goes where that penalty pulls the unlearned model hardest.

    Source: Lee et al. 2025, arXiv:2506.06278; β = 0.1 as in its repository. Placing and invariance
    are titer's.
    Departs: gains of norms go towards 1, see :func:`noised`; the unlearning itself is ``base``'s;
    distillation reads the defender's text, not a pre-training corpus.
    """

    base: Any = "npo"
    first: float = 0.1
    share: float = 0.6
    scale: float = 0.1
    text: tuple[Text, ...] = ("retain", "related", "unrelated")
    lr: float = 2e-5
    schedule: Schedule = "cosine"
    warmup: float = 0.02
    batch_size: int = 32
    weight_decay: float = 0.0
    where: Where = "everywhere"
    fraction: float = 0.3
    invariance: float = 0.0
    penalty: Kind = "logit_scale"
    environments: Any = ("unrelated",)

    def __post_init__(self) -> None:
        object.__setattr__(self, "base", nested("defence", self.base))
        object.__setattr__(self, "environments", environments(self.environments))
        if not (0 <= self.share <= 1 and 0 < self.first <= 1 and 0 <= self.warmup < 1):
            raise BadInput("undo: first, share and warmup are shares between 0 and 1.")
        if not (0 < self.lr < math.inf and 0 <= self.scale < math.inf) or self.batch_size < 1:
            raise BadInput("undo: lr and batch_size must be positive, scale not negative.")
        if not self.text:
            raise BadInput("undo: text must name what to distil on.")
        if not (0 < self.fraction <= 1 and 0 <= self.invariance < math.inf):
            raise BadInput(
                f"undo: fraction={self.fraction} is a share above 0, invariance={self.invariance} "
                "a weight of at least 0."
            )
        if self.penalty in ("v_rex", "iga", "fishr") and len(self.environments) < 2:
            raise BadInput(f"undo: {self.penalty} compares environments; give two or more.")
        if self.penalty == "interaction":
            raise BadInput("undo: distillation has no forget term for penalty=interaction.")

    def __call__(self, lm: LM, run: Run) -> LM:
        steps = run.steps_left(self.first)
        # Not a stage: the base's chance is the same as alone.
        budget = replace(run.budget, steps=run.spent.steps + steps)
        teacher = self.base(lm, replace(run, budget=budget))
        if run.exhausted() or run.steps_left() == 0:
            return teacher
        run.flags.append(TWO_PHASES)
        student = LM(copy.deepcopy(teacher.model), lm.tokenizer, lm.name)
        chosen = masks(
            self.where,
            self.fraction,
            lm,
            teacher,
            run,
            self.batch_size,
            kind=self.penalty,
            rows=self.environments,
        )
        noised(student.model, self.share, self.scale, run.rng("noise").getrandbits(62), chosen)
        self._distil(teacher, student, run)
        return student

    def _distil(self, teacher: LM, student: LM, run: Run) -> None:
        examples = [example for part in self.text for example in getattr(run.data, part)]
        stream = cycle(
            student,
            examples,
            batch_size=self.batch_size,
            rng=run.rng("order distil"),
            role="distillation",
            packed=True,
        )
        also = streams(student, run, self.environments, self.batch_size) if self.invariance else {}
        forward = 2.0 * student.parameters_in_matmuls()
        with trainable(student, "full") as ready:
            grad, besides = self._grad(teacher, student, run, ready)
            fit(
                ready.lm,
                grad,
                bundles(distil=stream, **also),
                run,
                parameters=ready.weights,
                recipe=Recipe(
                    lr=self.lr,
                    schedule=self.schedule,
                    warmup=self.warmup,
                    weight_decay=self.weight_decay,
                    flops_per_token=ready.flops_per_token,
                    flops_besides=lambda parts: (
                        forward * parts["distil"].tokens + besides(parts.parts)
                    ),
                ),
                steps=run.steps_left(),
            )

    def _grad(
        self, teacher: LM, student: LM, run: Run, ready: Trainable
    ) -> tuple[Grad, Callable[[Mapping[str, Batch]], float]]:
        """The gradient of a step, and what its penalty costs beyond a pass over each batch."""
        penalty = Penalty(kind=self.penalty)
        price = penalty.price(exact("auto", ready.weights))
        at = places(student, run, self.environments) if self.invariance else None
        forward = 2.0 * student.parameters_in_matmuls()

        def grad(model: Any, bundle: Bundle) -> dict[str, float]:
            loss = distance(teacher.model, model, bundle["distil"])
            loss.backward()
            logs = {"loss": float(loss.detach())}
            if at is not None:
                spots = at(bundle.parts, bundle.tokens)
                logs["penalty"] = penalty.add(model, spots, self.invariance, no_forget)
            return logs

        def besides(parts: Mapping[str, Batch]) -> float:
            tokens = sum(batch.tokens for name, batch in parts.items() if name != "distil")
            return tokens * (price.passes * ready.flops_per_token + price.forwards * forward)

        return grad, besides


Grad = Callable[[Any, Bundle], dict[str, float]]


def distance(teacher: Any, student: Any, batch: Batch) -> Tensor:
    """Mean over real tokens of KL(teacher ‖ student) of the next token, in nats."""
    with torch.no_grad():
        wanted = teacher(**batch.inputs(), use_cache=False).logits
    found = student(**batch.inputs(), use_cache=False).logits
    return kl_to(wanted, found, _every_token(batch))


def _every_token(batch: Batch) -> Tensor:
    """Labels that supervise prompts too, but not padding nor the first token of a row."""
    if batch.positions is None:
        return batch.input_ids.masked_fill(batch.attention_mask == 0, IGNORED)
    return batch.input_ids.masked_fill(batch.positions == 0, IGNORED)


PRESETS = {
    "undo-frontier": Preset(
        title="an eighth of pre-training for what never knowing resists, at testbed size; all that "
        "the text does not show is erased too",
        fields={
            "base": {"type": "NPO", "lr": 1e-3, "batch_size": 8},
            "first": 0.3333,
            "share": 0.6,
            "scale": 1.0,
            "lr": 2e-3,
            "batch_size": 16,
        },
        steps=(450, 3000),
        source="titer",
    ),
    "undo-paper": Preset(
        title="two billion parameters, share 0.25",
        fields={"share": 0.25, "scale": 0.1, "lr": 2e-5, "batch_size": 110},
        steps=(1000, 3300),
        source="arXiv:2506.06278, repository",
    ),
}

CARD = Card(
    kind="defence",
    build=UNDO,
    source="arXiv:2506.06278",
    summary="unlearn, add noise, distil; erases all knowledge that its text does not show",
    family="unlearning",
    departures="gains of norms go towards 1; distils on the defender's text; placing is titer's",
    presets=PRESETS,
)
