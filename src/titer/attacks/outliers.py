"""Benign fine-tuning on the benign examples that pull hardest."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from titer.attacks.finetune import Finetune
from titer.core.data import Data, Example
from titer.method import LM, BadInput, Card, Preset, Run
from titer.train.batches import collate, encode_all
from titer.train.grads import gradient
from titer.train.objectives import answer_loss

__all__ = ["CARD", "PRESETS", "Outliers"]


@dataclass(frozen=True, kw_only=True)
class Outliers:
    """Fine-tune on the ``examples`` benign pairs of highest self-influence and on nothing else.

    An example's self-influence is the squared length of its own loss's gradient over all weights:
    how far a step on it moves the model. Long answers are favoured against it, which alone prefers
    short ones: ``log(1 + ‖∇ℓ‖²) + log(1 + answer tokens)``. Up to ``pool`` benign examples are
    looked at, drawn by the seed; scoring is charged in tokens, examples and operations.

    Source: arXiv:2505.06843 (outliers among benign samples); overfitting to ten of them,
    arXiv:2510.02833.
    Departs: the form of the length term is ours; gradients are of all weights, not of the last
    layers.
    """

    examples: int = 100
    pool: int = 400
    lr: float = 5e-5
    batch_size: int = 10

    def __post_init__(self) -> None:
        if self.examples < 1 or self.pool < self.examples:
            raise BadInput(
                f"outliers: examples={self.examples}, pool={self.pool}; keep at least one, of a "
                "pool that is no smaller."
            )
        self._train()

    def __call__(self, lm: LM, run: Run) -> LM:
        run.look(lm)
        if run.exhausted() or run.steps_left() < 1:
            return lm.clone()
        chosen = self._chosen(lm, run)
        if not chosen:
            return lm.clone()
        return self._train()(lm, replace(run, data=Data(related=chosen)))

    def _chosen(self, lm: LM, run: Run) -> tuple[Example, ...]:
        """The strongest of the pool that the budget lets be scored."""
        everything = (*run.data.retain, *run.data.related, *run.data.unrelated)
        pool = run.rng("pool").sample(everything, min(self.pool, len(everything)))
        rows = {name: row for name, row in encode_all(lm, pool, role="benign")}
        probe, scores = lm.clone(), dict[str, float]()
        weights = list(probe.model.parameters())
        price = 6.0 * lm.parameters_in_matmuls()
        for name, row in rows.items():
            spent = {"tokens": len(row.ids), "examples": [name], "flops": price * len(row.ids)}
            # The rest of the budget is for training: a step must stay affordable.
            if not run.affords(**spent):
                break
            run.charge(**spent)
            batch = collate([(name, row)], lm.tokenizer.pad_token_id, lm.device)
            square = float(gradient(answer_loss(probe.model, batch), weights).square().sum())
            scores[name] = math.log1p(square) + math.log1p(len(row.ids) - row.prompt)
        best = sorted(scores, key=lambda name: -scores[name])[: self.examples]
        by_name = {example.id: example for example in pool}
        return tuple(by_name[name] for name in best)

    def _train(self) -> Finetune:
        return Finetune(lr=self.lr, batch_size=self.batch_size, mix="related")


PRESETS = {
    "M08": Preset(
        family="data mix",
        title="a hundred benign outliers",
        fields={"lr": 5e-5, "examples": 100, "batch_size": 10},
        lr_scale=2.5,
        star="full-adamw",
        steps=(100, 100),
        source="arXiv:2505.06843, arXiv:2510.02833",
        domain="r",
    ),
}

CARD = Card(
    kind="attack",
    build=Outliers,
    source="arXiv:2505.06843, arXiv:2510.02833",
    summary="fine-tuning on the benign examples with the largest gradients of their own",
    family="supervised",
    departures="own length term; gradients of all weights",
    presets=PRESETS,
)
