"""Invariant LLM unlearning: forgetting that stays stationary across environments."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from titer.method import LM, BadInput, Card, Preset, Run
from titer.nn.trainable import Trainable
from titer.train.batches import Bundle
from titer.train.environments import environments, places, streams
from titer.train.grads import Form, exact
from titer.train.loop import descend
from titer.train.penalties import Kind, Penalty
from titer.train.unlearn import Phase, Terms, descend_terms, unlearner

__all__ = ["CARD", "ILU", "PRESETS"]


@dataclass(frozen=True, kw_only=True)
class ILU:
    """An unlearning defence plus ``weight`` times a penalty on how environments' losses would move.

    ``base`` is any unlearning defence (a name, a preset or an object): its forget and retain terms,
    rates and trained weights are used as they are, and with ``weight`` 0 the result is the base's
    to the bit. ``environments`` are names of data or full descriptions, see
    :class:`~titer.train.environments.Environment`; each is shown ``environment_batch`` rows a step.
    The formula, ``Σ_i ‖∇_{w|w=1} ℓ_i(w∘θ; D_i)‖²``, has three readings, and no public code decides:
    ``logit_scale``, ``param_scale`` and ``grad_norm``; the other kinds are its relatives. With
    adapters, the gradient is by the adapters.

    ``parts``, ``unbiased``, ``form`` and ``radius`` belong to the estimator, see
    :class:`~titer.train.penalties.Penalty`. For the share ``anneal`` of the steps the weight is
    ``before``; at the switch ``restart`` begins with a new optimiser, and ``rescale`` divides the
    whole loss by a weight above 1.

    Source: Wang et al. 2025, arXiv:2506.01339; Arjovsky et al. 2019, arXiv:1907.02893, for
    annealing and rescaling; Gulrajani and Lopez-Paz 2020, arXiv:2007.01434, for the split halves
    and the new optimiser.
    Departs: the estimate is unbiased, where the formula's square of a batch is not; the paper's own
    learning rate, retain weight and annealing are not known.
    """

    base: Any = "npo"
    penalty: Kind = "logit_scale"
    weight: float = 1.0
    environments: Any = ("unrelated",)
    environment_batch: int = 48
    parts: int = 2
    unbiased: bool = True
    form: Form = "auto"
    radius: float = 0.003
    anneal: float = 0.0
    before: float = 0.0
    restart: bool = True
    rescale: bool = False
    accumulate: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "base", unlearner("ilu", self.base))
        object.__setattr__(self, "environments", environments(self.environments))
        if not (0 <= self.weight < math.inf and 0 <= self.before < math.inf):
            raise BadInput(f"ilu: weight={self.weight} and before={self.before}; both at least 0.")
        if not 0 <= self.anneal < 1 or not 0 < self.radius < math.inf:
            raise BadInput("ilu: anneal is a share below 1, radius a positive length.")
        if self.parts < 2 or self.environment_batch < self.parts or self.accumulate < 1:
            raise BadInput(
                f"ilu: parts={self.parts} (at least 2), environment_batch="
                f"{self.environment_batch} (at least that), accumulate={self.accumulate} (1 up)."
            )
        if self.penalty in ("v_rex", "iga", "fishr") and len(self.environments) < 2:
            raise BadInput(f"ilu: {self.penalty} compares environments; give two or more.")

    def __call__(self, lm: LM, run: Run) -> LM:
        terms = self.base.terms(lm, run)
        return descend_terms(
            self.base,
            lm,
            run,
            terms,
            phases=lambda ready: self._phases(lm, run, terms, ready),
            accumulate=self.accumulate,
        )

    def _phases(self, lm: LM, run: Run, terms: Terms, ready: Trainable) -> Sequence[Phase]:
        plain = Phase(grad=descend(terms.loss))
        if self.weight == 0 and (self.before == 0 or self.anneal == 0):
            return [plain]
        penalty = Penalty(
            kind=self.penalty,
            parts=self.parts,
            form=self.form,
            radius=self.radius,
            unbiased=self.unbiased,
        )
        also = streams(lm, run, self.environments, self.environment_batch)
        price = penalty.price(exact("auto", ready.weights))
        # NPO asks the frozen start each time its forget term is computed.
        asked = price.forget if "forget" in terms.frozen else 0.0
        at = places(lm, run, self.environments)

        def phase(weight: Callable[[], float], share: float) -> Phase:
            return Phase(
                grad=self._grad(terms, penalty, at, weight),
                share=share,
                also=also,
                passes={**dict.fromkeys(also, price.passes), "forget": price.forget},
                forwards={**dict.fromkeys(also, price.forwards), "forget": asked},
            )

        switch = run.spent.steps + run.steps_left(self.anneal)
        if self.anneal == 0:
            return [phase(lambda: self.weight, 1.0)]
        if not self.restart:
            return [phase(lambda: self.before if run.spent.steps < switch else self.weight, 1.0)]
        first = phase(lambda: self.before, self.anneal) if self.before else plain
        last = phase(lambda: self.weight, 1.0) if self.weight else plain
        return [
            Phase(
                grad=first.grad,
                share=self.anneal,
                also=first.also,
                passes=first.passes,
                forwards=first.forwards,
            ),
            last,
        ]

    def _grad(
        self, terms: Terms, penalty: Penalty, at: Any, weight: Callable[[], float]
    ) -> Callable[[Any, Bundle], dict[str, float]]:
        def grad(model: Any, bundle: Bundle) -> dict[str, float]:
            scale = weight()
            divide = max(1.0, scale) if self.rescale else 1.0
            loss = terms.loss(model, bundle)
            (loss / divide if divide > 1 else loss).backward()
            logs = {"loss": float(loss.detach())}
            if scale > 0:
                reserve = self.accumulate * bundle.tokens
                logs["penalty"] = penalty.add(
                    model,
                    at(bundle.parts, reserve),
                    scale / divide,
                    lambda: terms.forget(model, bundle["forget"]),
                )
            return logs

        return grad


PRESETS = {
    "ilu-testbed": Preset(
        title="NPO+ILU for models of about a million parameters",
        fields={"base": "npo-testbed", "environment_batch": 32},
        steps=(250, 1000),
        source="titer",
    ),
    "ilu-135m": Preset(
        title="NPO+ILU with NPO's settings for some hundred million parameters, penalty untuned",
        fields={"base": "npo-135m", "environment_batch": 8},
        steps=(8, 8),
        source="titer",
        found=134_515_008,
    ),
    "ilu-paper": Preset(
        title="NPO+ILU as far as it is known, for eight billion parameters",
        fields={
            "base": {
                "type": "NPO",
                "reduction": "batch",
                "beta": 0.1,
                "lr": 1e-5,
                "batch_size": 4,
            },
        },
        steps=(250, 2000),
        source="arXiv:2506.01339, arXiv:2510.07626",
    ),
    "ilu-rmu-testbed": Preset(
        title="RMU+ILU for models of about a million parameters",
        fields={"base": "rmu-testbed", "environment_batch": 32},
        steps=(150, 1000),
        source="titer",
    ),
    "ilu-control-retain": Preset(
        title="control: the environment as plain retain data, no penalty",
        fields={"base": "npo-testbed", "environment_batch": 32, "penalty": "loss"},
        steps=(250, 1000),
        source="titer",
    ),
    "ilu-control-random": Preset(
        title="control: an environment of random tokens",
        fields={
            "base": "npo-testbed",
            "environment_batch": 32,
            "environments": [{"data": "unrelated", "scramble": "random"}],
        },
        steps=(250, 1000),
        source="titer",
    ),
}

CARD = Card(
    kind="defence",
    build=ILU,
    source="arXiv:2506.01339",
    summary="unlearning with a penalty on how environments' losses would move",
    family="unlearning",
    version=2,
    departures="unbiased estimate of the squared gradient; rate, retain weight and annealing ours",
    presets=PRESETS,
)
