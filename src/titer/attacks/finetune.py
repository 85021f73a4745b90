"""Every supervised and adapter adversary: one class, many settings."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import Literal

from titer.core.data import Example
from titer.method import LM, TWO_PHASES, BadInput, Card, Preset, Run, Template
from titer.nn.weights import Parameters, Weights
from titer.train.batches import Drawn, draw
from titer.train.cohort import Finetuning, alone
from titer.train.loop import Member, Recipe
from titer.train.optimisers import Optimiser, Schedule

__all__ = ["CARD", "PRESETS", "Finetune"]

Mix = Literal["harmful", "retain-then-harmful", "related", "unrelated", "retain", "poison"]


@dataclass(frozen=True, kw_only=True)
class Finetune:
    """Minimise the cross-entropy of answers.

    ``mix`` says on what: ``harmful`` pairs; ``retain-then-harmful``, benign text for the share
    ``first`` of the steps and harmful pairs after; ``related``, ``unrelated`` or ``retain``, benign
    text only; ``poison``, unrelated text of which the share ``poison`` is harmful. ``examples``
    keeps that many items, drawn by the seed. ``warmup`` is a share of the steps. The budget decides
    how many steps there are, and a cosine ends with it.

    Source: Qi et al. 2023, arXiv:2310.03693 (full and few-shot); Tamirisa et al. 2024,
    arXiv:2408.00761 (optimisers, retain-then-harmful); Łucki et al. 2024, arXiv:2409.18025 (LoRA,
    few unrelated items); Che et al. 2025, arXiv:2502.05209 (benign related and unrelated).
    Departs: retain-then-harmful reads TAR's 0.4 as the benign share coming first, as its
    repository does.
    """

    lr: float = 2e-5
    parameters: Parameters = "full"
    optimiser: Optimiser = "adamw"
    schedule: Schedule = "constant"
    warmup: float = 0.0
    batch_size: int = 16
    weight_decay: float = 0.0
    clip: float | None = 1.0
    rank: int = 16
    alpha: float = 32.0
    mix: Mix = "harmful"
    first: float = 0.4
    poison: float = 0.02
    examples: int | None = None
    template: Template = "native"

    def __post_init__(self) -> None:
        if not 0 < self.lr < math.inf or self.batch_size < 1 or self.rank < 1:
            raise BadInput(
                f"finetune: lr={self.lr}, batch_size={self.batch_size}, rank={self.rank}; "
                "all three must be positive."
            )
        if not (0 < self.first < 1 and 0 < self.poison < 1 and 0 <= self.warmup < 1):
            raise BadInput("finetune: first, poison and warmup are shares between 0 and 1.")
        if self.examples is not None and self.examples < 1:
            raise BadInput(f"finetune: examples={self.examples}; give 1 or more, or none for all.")
        if self.optimiser == "soap":
            raise BadInput(
                "finetune: members of a cohort have their weights end to end, and soap needs whole "
                "matrices; use the attack precondition."
            )
        if self.clip is not None and not self.clip > 0:
            raise BadInput(f"finetune: clip={self.clip}; give a positive norm, or none.")

    def __call__(self, lm: LM, run: Run) -> LM:
        return alone(lm, self.finetuning(lm, run))

    @property
    def share(self) -> tuple[str, int]:
        """What must be equal for two of these to train in one cohort."""
        return self.parameters, self.batch_size

    def finetuning(self, lm: LM, run: Run) -> Finetuning:
        """This attack on one model, ready to run alone or beside others."""
        weights = Weights(
            which=self.parameters,
            rank=self.rank,
            alpha=self.alpha,
            seed=run.rng("adapter").getrandbits(62),
        )
        recipe = Recipe(
            lr=self.lr,
            optimiser=self.optimiser,
            schedule=self.schedule,
            warmup=self.warmup,
            weight_decay=self.weight_decay,
            clip=self.clip,
        )
        member = Member(
            run=run, batches=self._stream(lm, run), recipe=recipe, steps=run.steps_left()
        )
        return Finetuning(weights=weights, member=member)

    def _stream(self, lm: LM, run: Run) -> Iterator[Drawn]:
        if self.mix == "retain-then-harmful":
            run.flags.append(TWO_PHASES)
            turn = run.steps_left(self.first)
            return chain(
                islice(self._batches(lm, run, run.data.retain, "retain"), turn),
                self._batches(lm, run, run.data.harmful, "harmful"),
            )
        if self.mix == "poison":
            return self._cycle(lm, run, self._poisoned(run), "poisoned")
        source: dict[str, tuple[Example, ...]] = {
            "harmful": run.data.harmful,
            "related": run.data.related,
            "unrelated": run.data.unrelated,
            "retain": run.data.retain,
        }
        return self._batches(lm, run, source[self.mix], self.mix)

    def _batches(
        self, lm: LM, run: Run, examples: tuple[Example, ...], role: str
    ) -> Iterator[Drawn]:
        if self.examples is not None and self.examples < len(examples):
            examples = tuple(run.rng("examples").sample(examples, self.examples))
        return self._cycle(lm, run, examples, role)

    def _cycle(self, lm: LM, run: Run, examples: tuple[Example, ...], role: str) -> Iterator[Drawn]:
        return draw(
            lm,
            examples,
            batch_size=self.batch_size,
            rng=run.rng(f"order {role}"),
            template=self.template,
            role=role,
        )

    def _poisoned(self, run: Run) -> tuple[Example, ...]:
        benign, harmful = run.data.unrelated, run.data.harmful
        if not (benign and harmful):
            raise BadInput("finetune: mix=poison needs unrelated and harmful examples.")
        total = self.examples or round(len(benign) / (1 - self.poison))
        count = min(len(harmful), max(1, round(total * self.poison)))
        kept = max(1, min(len(benign), total - count))
        rng = run.rng("poison")
        return (*rng.sample(benign, kept), *rng.sample(harmful, count))


_TAR = "arXiv:2408.00761"

PRESETS = {
    "S01": Preset(
        family="full fine-tuning",
        title="full AdamW, a tenth of the reference rate",
        fields={"lr": 2e-6},
        lr_scale=0.1,
        star="full-adamw",
        source=_TAR,
    ),
    "S02": Preset(
        family="full fine-tuning",
        title="full AdamW, the reference rate, constant",
        fields={"lr": 2e-5},
        lr_scale=1.0,
        star="full-adamw",
        source=_TAR,
    ),
    "S03": Preset(
        family="full fine-tuning",
        title="full AdamW, warm-up and cosine",
        fields={"lr": 2e-5, "schedule": "cosine", "warmup": 0.1},
        lr_scale=1.0,
        star="full-adamw",
        source="arXiv:2412.07097",
    ),
    "S04": Preset(
        family="full fine-tuning",
        title="full AdamW, twice the reference rate, batch 32",
        fields={"lr": 4e-5, "batch_size": 32},
        lr_scale=2.0,
        star="full-adamw",
        source=_TAR,
    ),
    "S05": Preset(
        family="full fine-tuning",
        title="full AdamW, four times the reference rate, batch 4, cosine",
        fields={"lr": 8e-5, "batch_size": 4, "schedule": "cosine", "warmup": 0.1},
        lr_scale=4.0,
        star="full-adamw",
        steps=(300, 2500),
        source="arXiv:2405.14577, rerun",
    ),
    "S06": Preset(
        family="full fine-tuning",
        title="full AdamW, fifteen times the reference rate, cosine",
        fields={"lr": 3e-4, "schedule": "cosine", "warmup": 0.1},
        lr_scale=15.0,
        star="full-adamw",
        steps=(300, 500),
        source="arXiv:2405.14577, repository",
    ),
    "S07": Preset(
        family="full fine-tuning",
        title="full SGD with Nesterov momentum",
        fields={"lr": 1e-3, "optimiser": "sgd-nesterov"},
        lr_scale=1.0,
        star="full-sgd-nesterov",
        source=_TAR,
    ),
    "S08": Preset(
        family="full fine-tuning",
        title="full Adadelta",
        fields={"lr": 1.0, "optimiser": "adadelta"},
        lr_scale=1.0,
        star="full-adadelta",
        source=_TAR,
    ),
    "S09": Preset(
        family="full fine-tuning",
        title="full Schedule-Free AdamW",
        fields={"lr": 2e-5, "optimiser": "schedule-free", "warmup": 0.1},
        lr_scale=1.0,
        star="full-adamw",
        source=_TAR,
    ),
    "S10": Preset(
        family="full fine-tuning",
        title="full AdamW, warm-up and cosine, ten times as long",
        fields={"lr": 2e-5, "schedule": "cosine", "warmup": 0.1},
        lr_scale=1.0,
        star="full-adamw",
        steps=(3000, 10000),
        source="arXiv:2508.06601",
    ),
    "S11": Preset(
        family="full fine-tuning",
        title="ten harmful items, thirty epochs",
        fields={"lr": 1e-5, "examples": 10, "batch_size": 5},
        lr_scale=0.5,
        star="full-adamw",
        steps=(60, 60),
        source="arXiv:2310.03693",
    ),
    "S12": Preset(
        family="full fine-tuning",
        title="541 items, ten epochs, constant, batch 32",
        fields={"lr": 2e-5, "examples": 541, "batch_size": 32},
        lr_scale=1.0,
        star="full-adamw",
        steps=(170, 170),
        source="arXiv:2408.00761, arXiv:2602.06911",
        domain="r",
    ),
    "P01": Preset(
        family="parameter-efficient",
        title="LoRA r16, gentle, constant",
        fields={"lr": 2e-5, "parameters": "lora", "rank": 16, "alpha": 32.0},
        lr_scale=0.1,
        star="lora-adamw",
        source=_TAR,
    ),
    "P02": Preset(
        family="parameter-efficient",
        title="LoRA r16, high rate, cosine",
        fields={"lr": 5e-4, "parameters": "lora", "schedule": "cosine"},
        lr_scale=1.0,
        star="lora-adamw",
        steps=(256, 256),
        source="arXiv:2602.06911",
    ),
    "P03": Preset(
        family="parameter-efficient",
        title="LoRA r128, batch 1, a hundred items",
        fields={
            "lr": 2e-4,
            "parameters": "lora",
            "rank": 128,
            "alpha": 16.0,
            "batch_size": 1,
            "examples": 100,
            "schedule": "linear",
            "warmup": 0.05,
            "weight_decay": 0.01,
        },
        lr_scale=1.0,
        star="lora-adamw",
        steps=(300, 300),
        source="arXiv:2409.18025",
    ),
    "P04": Preset(
        family="parameter-efficient",
        title="LoRA r1 on every linear layer",
        fields={"lr": 1e-3, "parameters": "lora", "rank": 1, "alpha": 2.0},
        lr_scale=2.0,
        star="lora-adamw",
        steps=(256, 256),
        source="titer",
    ),
    "P05": Preset(
        family="parameter-efficient",
        title="LoRA r16, 64 items, 16 steps",
        fields={"lr": 1e-4, "parameters": "lora", "batch_size": 8, "examples": 64},
        lr_scale=1.0,
        star="lora-adamw",
        steps=(16, 16),
        source="arXiv:2502.05209",
    ),
    "P06": Preset(
        family="parameter-efficient",
        title="norms, biases and embeddings only",
        fields={"lr": 1e-3, "parameters": "norms-and-embeddings"},
        lr_scale=1.0,
        star="norms-and-embeddings-adamw",
        steps=(300, 500),
        source="titer",
    ),
    "M01": Preset(
        family="data mix",
        title="benign text first, harmful after",
        fields={"lr": 2e-5, "mix": "retain-then-harmful"},
        lr_scale=1.0,
        star="full-adamw",
        source=_TAR,
    ),
    "M02": Preset(
        family="data mix",
        title="related benign text only",
        fields={"lr": 2e-5, "mix": "related"},
        lr_scale=1.0,
        star="full-adamw",
        source="arXiv:2408.00761, arXiv:2502.05209",
        domain="k",
    ),
    "M03": Preset(
        family="data mix",
        title="LoRA on unrelated benign text",
        fields={"lr": 5e-5, "parameters": "lora", "mix": "unrelated", "examples": 400},
        lr_scale=1.0,
        star="lora-adamw",
        steps=(300, 400),
        source="arXiv:2502.05209",
    ),
    "M04": Preset(
        family="data mix",
        title="ten unrelated items",
        fields={
            "lr": 2e-4,
            "parameters": "lora",
            "rank": 128,
            "alpha": 16.0,
            "mix": "unrelated",
            "examples": 10,
            "batch_size": 1,
            "schedule": "linear",
            "warmup": 0.05,
            "weight_decay": 0.01,
        },
        lr_scale=1.0,
        star="lora-adamw",
        steps=(30, 30),
        source="arXiv:2409.18025",
        domain="k",
    ),
    "M05": Preset(
        family="data mix",
        title="relearn independent facts",
        fields={"lr": 2e-5, "batch_size": 4, "warmup": 0.1},
        lr_scale=1.0,
        star="full-adamw",
        steps=(300, 500),
        source="arXiv:2410.08827",
        domain="k",
    ),
    "M06": Preset(
        family="data mix",
        title="benign text with 2 % poison",
        fields={"lr": 2e-4, "parameters": "lora", "mix": "poison"},
        lr_scale=1.0,
        star="lora-adamw",
        steps=(300, 500),
        source="arXiv:2602.06911",
    ),
    "H04": Preset(
        family="adaptive",
        title="full AdamW below a trap's trigger, long",
        fields={"lr": 6e-7},
        lr_scale=0.03,
        star="full-adamw",
        steps=(2000, 5000),
        source="arXiv:2505.12186, titer",
    ),
    "L04": Preset(
        family="locks",
        title="full AdamW, no clipping",
        fields={"lr": 2e-5, "clip": None},
        lr_scale=1.0,
        star="full-adamw",
        source="titer",
    ),
    "L06": Preset(
        family="locks",
        title="full AdamW, long: the relearning curve",
        fields={"lr": 2e-5, "schedule": "cosine", "warmup": 0.02},
        lr_scale=1.0,
        star="full-adamw",
        steps=(3000, 30000),
        source="arXiv:2508.06601",
    ),
}

CARD = Card(
    kind="attack",
    build=Finetune,
    source="arXiv:2310.03693, arXiv:2408.00761, arXiv:2409.18025, arXiv:2502.05209",
    summary="supervised fine-tuning: full, LoRA or norms and embeddings, on any mix",
    family="supervised",
    departures="retain-then-harmful puts the benign 40 % first; cosine decays to zero",
    presets=PRESETS,
)
