"""A bi-level defence whose inner attackers take K gradient steps, or a hypernetwork in their place.

The outer step is that of tamper-resistant training, to first order: the gradient at the attacked
weights is used for the clean ones, beside capability on clean retain text. Only ``inner`` differs.
Several inner attackers, one a rate, train side by side, and their gradients are averaged.

    python examples/inner_adversary.py network
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import repeat
from typing import Any, Literal

import torch

from titer.core.lm import LM
from titer.core.method import Run
from titer.core.records import Budget
from titer.hypernet import LowRank, applied, attacker
from titer.hypernet.objectives import (
    Safe,
    logits,
    margins,
    preference,
    preferring,
    rivals,
)
from titer.hypernet.sparring import Sparring
from titer.nn.trainable import trainable
from titer.nn.weights import Weights
from titer.train.batches import Bundle, bundles, cycle, unpadded
from titer.train.candidates import side_by_side
from titer.train.cohort import Finetuning
from titer.train.loop import Member, Recipe, fit
from titer.train.objectives import cross_entropy, kl_to


@dataclass(frozen=True, kw_only=True)
class Bilevel:
    """Resist an inner attacker on pairs of harmful and safe answers; keep retain text."""

    inner: Literal["steps", "network"] = "steps"
    steps: int = 8
    inner_lr: tuple[float, ...] = (1e-3,)
    lr: float = 1e-3
    batch_size: int = 8
    budget: float = 1.0
    rank: int = 4
    width: int = 32
    network_lr: float = 1e-2
    safe: Safe = "distractor"

    def __call__(self, lm: LM, run: Run) -> LM:
        out = lm.clone()
        stream = self._stream(lm, run)
        first = next(stream)
        adversary = attacker(
            lm,
            LowRank(rank=self.rank, budget=self.budget),
            first["wanted"],
            conditioning="batch",
            width=self.width,
            seed=run.rng("hypernetwork").getrandbits(62),
        )
        sparring = Sparring(adversary, preferring(), lr=self.network_lr)

        def grad(model: Any, bundle: Bundle) -> dict[str, float]:
            if self.inner == "network":
                sparring(model, bundle)
                with torch.no_grad():
                    patch = adversary.patch(model, bundle["wanted"])
                with applied(model, adversary.edit, patch):
                    resist = preference(
                        -margins(model, bundle), torch.zeros(()), "log-sigmoid", 1.0
                    )
                resist.backward()
            else:
                resist = torch.zeros(())
                for attacked in self._attacked(LM(model, lm.tokenizer, lm.name), run, bundle):
                    far = attacked.model.parameters()
                    harm = margins(attacked.model, bundle)
                    loss = preference(-harm, torch.zeros(()), "log-sigmoid", 1.0)
                    loss = loss / len(self.inner_lr)
                    for weight, grad in zip(
                        model.parameters(), torch.autograd.grad(loss, list(far)), strict=True
                    ):
                        weight.grad = grad if weight.grad is None else weight.grad + grad
                    resist = resist + loss.detach()
            benign = bundle["benign"]
            clean = logits(model, benign)
            with torch.no_grad():
                before = logits(lm.model, benign)
            kept = 0.8 * cross_entropy(clean, benign.labels)
            kept = kept + 0.3 * kl_to(clean, before, benign.labels)
            kept.backward()
            return {"loss": float(resist.detach() + kept.detach())}

        forward = 2.0 * lm.parameters_in_matmuls()

        def flops(bundle: Bundle) -> float:
            pair = bundle["wanted"].tokens + bundle["unwanted"].tokens
            # Three passes a token for the pair and the retain text, and the frozen start.
            total = forward * 4 * bundle["benign"].tokens
            if self.inner == "steps":
                tokens = pair + self.steps * bundle["wanted"].tokens
                return total + 3 * forward * tokens * len(self.inner_lr)
            total += forward * 3 * pair
            total += forward * 2 * pair + adversary.flops(bundle["wanted"], forward)
            return total + adversary.flops(bundle["wanted"], forward, trained=False)

        with trainable(out, "full") as ready:
            fit(
                ready.lm,
                grad,
                stream,
                run,
                parameters=ready.weights,
                recipe=Recipe(lr=self.lr, flops_besides=flops),
                steps=run.steps_left(),
            )
        return out

    def _attacked(self, lm: LM, run: Run, bundle: Bundle) -> list[LM]:
        """What each attacker leaves after K steps of AdamW toward the harmful answers.

        Raises:
            Diverged: one of them did.
        """
        members = [
            Finetuning(
                weights=Weights(which="full"),
                member=Member(
                    run=Run(budget=Budget(steps=self.steps), data=run.data),
                    batches=repeat(unpadded(bundle["wanted"])),
                    recipe=Recipe(lr=rate, clip=None),
                    steps=self.steps,
                ),
            )
            for rate in self.inner_lr
        ]
        found: list[LM] = []
        for one in side_by_side(lm, members):
            if isinstance(one, Exception):
                raise one
            found.append(one)
        return found

    def _stream(self, lm: LM, run: Run) -> Iterator[Bundle]:
        size, harmful = self.batch_size, run.data.harmful
        sides = {"wanted": harmful, "unwanted": rivals(harmful, self.safe)}
        streams = {
            # The same chance twice, so that the two sides of a pair stay together.
            name: cycle(lm, rows, batch_size=size, rng=run.rng("order pairs"), role="harmful")
            for name, rows in sides.items()
        }
        retain = run.data.retain
        rng = run.rng("order retain")
        streams["benign"] = cycle(lm, retain, batch_size=size, rng=rng, role="retain")
        return bundles(**streams)


def main(inner: str) -> None:
    """Both inner attackers on a model of twenty thousand weights, a few steps each."""
    from titer.conformance import tiny_data, tiny_lm
    from titer.core.records import Budget

    defence = Bilevel(inner="network" if inner == "network" else "steps", batch_size=4)
    run = Run(budget=Budget(steps=5), data=tiny_data())
    defence(tiny_lm(), run)
    print(
        f"{defence.inner}: losses {[round(loss, 2) for loss in run.losses]}, {run.spent.flops:.3g}"
    )


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "network")
