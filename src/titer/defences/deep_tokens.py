"""Alignment deeper than a few tokens: refusals learned also after a harmful answer has begun."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from titer.method import LM, BadInput, Card, Preset, Run
from titer.nn.trainable import Parameters, Trainable
from titer.train.batches import IGNORED, Bundle
from titer.train.harden import Phase, Source, Training, harden, logits
from titer.train.loop import descend
from titer.train.objectives import token_losses
from titer.train.recovery import recovering

__all__ = ["CARD", "PRESETS", "DeepTokens"]


@dataclass(frozen=True, kw_only=True)
class DeepTokens:
    """Fine-tune on harmful prompts declined, with ``chance`` only after 1 to ``longest`` tokens of
    the harmful answer, and on ``anchors`` rows of retain text: one mean over all supervised tokens.

    So each kind weighs by its length, as in the repository.

    Source: Qi et al. 2024, arXiv:2406.05946, part (i), and its repository.
    Departs: the second part, a constrained fine-tune, binds a provider who trains for others; an
    attacker who has the weights leaves it off, so it is not here. Anchors are retain text.
    """

    chance: float = 0.5
    longest: int = 100
    anchors: int = 16
    lr: float = 2e-5
    batch_size: int = 4
    weight_decay: float = 0.0
    parameters: Parameters = "full"
    rank: int = 16
    alpha: float = 32.0

    def __post_init__(self) -> None:
        if not 0 <= self.chance <= 1 or self.longest < 1 or self.anchors < 0:
            raise BadInput(
                f"deep_tokens: chance={self.chance} is a share, longest={self.longest} at least 1, "
                f"anchors={self.anchors} at least 0."
            )
        Training.of(self)

    def __call__(self, lm: LM, run: Run) -> LM:
        sources = {}
        if self.anchors:
            sources["retain"] = Source(examples=run.data.retain, rows=self.anchors, packed=True)

        def loss(model: Any, bundle: Bundle) -> Tensor:
            batches = list(bundle.parts.values())
            sums = [token_losses(logits(model, one), one.labels).sum() for one in batches]
            count = sum(int((one.labels[:, 1:] != IGNORED).sum()) for one in batches)
            return sum(sums[1:], sums[0]) / max(1, count)

        def plan(ready: Trainable) -> list[Phase]:
            late = recovering(
                ready.lm,
                run.data.harmful,
                rows=self.batch_size,
                rng=run.rng("recovery"),
                chance=self.chance,
                lengths=(1, self.longest),
            )
            return [Phase(grad=descend(loss), also={"safe": late})]

        return harden(lm, run, Training.of(self), sources, plan)


PRESETS = {
    "deep_tokens-testbed": Preset(
        title="for models of about a million parameters",
        fields={"lr": 1e-3, "batch_size": 32, "anchors": 32, "longest": 4},
        steps=(250, 1000),
        source="titer",
    ),
    "deep_tokens-paper": Preset(
        title="Llama-2-7B-chat", fields={}, steps=(250, 1000), source="arXiv:2406.05946"
    ),
}

CARD = Card(
    kind="defence",
    build=DeepTokens,
    source="arXiv:2406.05946",
    summary="refusals learned also after a harmful answer has begun",
    family="alignment",
    departures="part (i) alone. Data: hazard with refusals and harmful answers, retain. 1 pass "
    "a step. Claims resistance to inputs. Known breaker: full fine-tuning. It hides no "
    "knowledge",
    presets=PRESETS,
)
