"""TokenBuncher: answers to hazardous prompts lose their entropy; reinforcement finds no signal.

B rows, T tokens, V vocabulary, G answers a prompt.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from titer.method import LM, BadInput, Card, Encoded, Preset, Run
from titer.nn.trainable import Parameters, Trainable
from titer.train.batches import IGNORED, Batch, Bundle, collate, draw
from titer.train.harden import Phase, Source, Training, harden, logits
from titer.train.objectives import answer_kl, row_losses, single
from titer.train.policy import entropy, group_advantage
from titer.train.rollouts import sample

__all__ = ["CARD", "PRESETS", "TokenBuncher", "noisy", "sureness"]


def sureness(logits_BTV: Tensor, labels_BT: Tensor) -> Tensor:
    """Minus the mean entropy of the distributions that each row's answer was drawn from, (B,)."""
    mask = labels_BT[:, 1:] != IGNORED
    spread = entropy(single(logits_BTV[:, :-1])) * mask
    return -spread.sum(-1) / mask.sum(-1).clamp(min=1)


def noisy(logits_BTV: Tensor, labels_BT: Tensor, share: float, source: torch.Generator) -> Tensor:
    """Cross-entropy to ``1 − share`` on the label and ``share`` spread by uniform draws over all
    tokens, mean over supervised tokens."""
    mask = labels_BT[:, 1:] != IGNORED
    logs = torch.log_softmax(single(logits_BTV[:, :-1][mask]), -1)
    tail = torch.rand(logs.shape, generator=source).to(logs)
    wanted = share * tail / tail.sum(-1, keepdim=True)
    wanted.scatter_add_(
        -1, labels_BT[:, 1:][mask][:, None], torch.full_like(logs[:, :1], 1.0 - share)
    )
    return -(wanted * logs).sum(-1).mean()


@dataclass(frozen=True, kw_only=True)
class TokenBuncher:
    """GRPO on hazardous prompts with minus the mean entropy of what is sampled as the reward, and
    ``kept`` times KL(start ‖ model) on retain answers; after the share ``first`` of the steps every
    other one teaches a noisy tail instead: ``tail`` of the mass beside the sampled token.

    Source: Feng et al. 2025, arXiv:2508.20697; ``tail``, rate and group of its repository.
    Departs: the tail's share is taken once, where the repository scales by it twice; the divergence
    is on retain text, where the repository has the same prompts for both; one step a batch of
    rollouts, so that ratios are 1; all rollouts teach the tail, in the repository only those of no
    negative advantage.
    """

    prompts: int = 32
    group: int = 4
    length: int = 24
    kept: float = 0.001
    tail: float = 0.1
    first: float = 0.125
    lr: float = 1e-6
    batch_size: int = 8
    weight_decay: float = 0.0
    parameters: Parameters = "full"
    rank: int = 16
    alpha: float = 32.0

    resumes = False

    def __post_init__(self) -> None:
        if self.prompts < 1 or self.group < 2 or self.length < 1:
            raise BadInput("token_buncher: prompts and length are at least 1, group at least 2.")
        if not (0 <= self.kept < math.inf and 0 <= self.tail < 1 and 0 <= self.first <= 1):
            raise BadInput("token_buncher: kept must not be negative; tail and first are shares.")
        Training.of(self)

    def __call__(self, lm: LM, run: Run) -> LM:
        begun, total = run.spent.steps, run.steps_left()
        source = torch.Generator().manual_seed(run.rng("tail").getrandbits(62))

        def grad(model: Any, bundle: Bundle) -> dict[str, float]:
            said, step = bundle["said"], run.spent.steps - begun
            out = logits(model, said)
            if step >= self.first * total and step % 2:
                loss = noisy(out, said.labels, self.tail, source)
            else:
                loss = self.bunched(out, said)
                if self.kept:
                    loss = loss + self.kept * answer_kl(lm.model, model, bundle["retain"])
            loss.backward()
            return {"loss": float(loss.detach())}

        def plan(ready: Trainable) -> list[Phase]:
            # Sampling reads each token once more.
            said = self._rollouts(ready.lm, run)
            return [Phase(grad=grad, also={"said": said}, forwards={"said": 1.0})]

        sources = {}
        if self.kept:
            sources["retain"] = Source(examples=run.data.retain, packed=True)
        frozen = ("retain",) if self.kept else ()
        return harden(lm, run, Training.of(self), sources, plan, frozen=frozen)

    def bunched(self, logits_BTV: Tensor, said: Batch) -> Tensor:
        """The policy gradient's surrogate: ``−mean A log π(y) / |y|``."""
        rewards = sureness(logits_BTV.detach(), said.labels).view(-1, self.group)
        gained = group_advantage(rewards).flatten()
        return (gained * row_losses(logits_BTV, said.labels, "mean")).mean()

    def _rollouts(self, lm: LM, run: Run) -> Iterator[Batch]:
        """Answers sampled from the model as it is at each step, ``group`` a prompt."""
        drawn = draw(
            lm,
            run.data.harmful,
            batch_size=self.prompts,
            rng=run.rng("order prompts"),
            role="harmful",
        )
        for step in drawn:
            asked = [row.ids[: row.prompt] for _, row in step.rows]
            found = sample(
                lm,
                asked,
                generator=torch.Generator().manual_seed(
                    run.rng(f"rollouts {run.spent.steps}").getrandbits(62)
                ),
                group=self.group,
                max_new_tokens=self.length,
            )
            names = [name for name in step.ids for _ in range(self.group)]
            rows = [
                (name, Encoded((*prompt, *answer), len(prompt)))
                for name, prompt, answer in zip(names, found.prompts, found.answers, strict=True)
            ]
            yield collate(rows, lm.tokenizer.pad_token_id, lm.device)


PRESETS = {
    "token_buncher-testbed": Preset(
        title="for models of about a million parameters",
        fields={"lr": 3e-4, "prompts": 16, "length": 8, "kept": 1.0},
        steps=(120, 200),
        source="titer",
    ),
    "token_buncher-paper": Preset(
        title="Qwen2.5-3B and larger",
        fields={"length": 1024},
        steps=(120, 200),
        source="arXiv:2508.20697, repository",
    ),
}

CARD = Card(
    kind="defence",
    build=TokenBuncher,
    source="arXiv:2508.20697",
    summary="answers to hazardous prompts lose their entropy; reinforcement finds no signal",
    family="collapse",
    departures="the tail's share once; divergence on retain text; one step a batch. Data: "
    "hazard prompts, retain. 1 pass and sampling a step. Claims resistance to reinforcement and "
    "stability. Known breaker: supervised fine-tuning, which it does not claim to meet",
    presets=PRESETS,
)
