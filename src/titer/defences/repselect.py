"""RepSelect, simple form: one ascent step along what relearning would use and retain text does not.

O output, I input of a matrix.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from titer.method import LM, BadInput, Card, Preset, Run
from titer.nn.chance import seeded
from titer.nn.stack import stacked
from titer.nn.trainable import cost, named_matrices
from titer.nn.weights import Weights
from titer.train.batches import cycle
from titer.train.harden import affordable
from titer.train.objectives import answer_kl, answer_loss, single

__all__ = ["CARD", "PRESETS", "UNTOUCHED", "RepSelect", "damped"]

UNTOUCHED = "ended as the untouched model"
"""The flag of a defence whose smallest step breaks its own limit."""

_TRIES = 24


def damped(matrix: Tensor, count: int, seed: int = 0) -> Tensor:
    """The matrix with its ``count`` leading singular values σ turned into ``σ_min²/σ``, ``σ_min``
    the least of them; what lies outside keeps its size. An inversion of the spectrum, not a
    projection: the leading direction ends below the others.

    Args:
        matrix: (…, O, I).
        count: 0 leaves it as it is.

    Source: arXiv:2606.17168, repository: soft damping on both sides with one decomposition.
    """
    if count == 0:
        return matrix
    if min(matrix.shape[-2:]) <= max(1024, 2 * count):
        u, s, vh = torch.linalg.svd(matrix, full_matrices=False)
        v = vh.mT
    else:
        with seeded(seed, matrix.device):
            u, s, v = torch.svd_lowrank(matrix, q=count, niter=2)
    u, s, v = u[..., :count], s[..., :count], v[..., :count]
    change = s[..., -1:].pow(2) / s.clamp(min=1e-30) - s
    return matrix + (u * change[..., None, :]) @ v.mT


@dataclass(frozen=True, kw_only=True)
class RepSelect:
    """Ascend the harmful loss along its damped gradient, as far as ``budget`` allows.

    For half of the steps an adapter relearns the hazard by plain SGD at ``relearn_lr``, the model
    frozen. The other half sums the gradient of the harmful loss by the matrices in ``modules`` with
    that adapter on; then it is taken off. Of the mean gradient the leading ``count`` directions are
    damped (:func:`damped`). One step is taken along it, as long as keeps the divergence from the
    start on ``probe`` retain examples between 95 % and 100 % of ``budget``, by bisection from
    ``lr`` up and down. A budget that no step meets leaves the model untouched, and that is flagged.

    Source: arXiv:2606.17168 and ``repselect_simple`` of its repository, the adaptive step.
    Departs: the mean gradient, where the repository's sum ties the rate to the number of batches;
    ``count`` is at most half of a matrix's smaller side; divergence is taken at answers' tokens of
    retain text.
    """

    modules: tuple[str, ...] = (
        "gate_proj",
        "up_proj",
        "down_proj",
        "mlp.c_fc",
        "mlp.c_proj",
        "gate_up_proj",
    )
    count: int = 512
    budget: float = 0.01
    probe: int = 128
    relearn_lr: float = 0.05
    lr: float = 0.1
    batch_size: int = 32
    rank: int = 8
    alpha: float = 8.0

    def __post_init__(self) -> None:
        if not self.modules or self.count < 0 or self.rank < 1:
            raise BadInput("repselect: modules must name a matrix, count be 0 or more, rank 1.")
        for name in ("budget", "relearn_lr", "lr", "batch_size", "probe"):
            if not 0 < getattr(self, name) < math.inf:
                raise BadInput(f"repselect: {name}={getattr(self, name)} must be positive.")

    def __call__(self, lm: LM, run: Run) -> LM:
        out = lm.clone()
        named = named_matrices(out, self.modules)
        weights = [weight for _, weight in named]
        passes = self._accumulate(lm, out, run, tuple(name for name, _ in named), weights)
        if passes:
            self._move(lm, out, run, weights, passes)
        for weight in weights:
            weight.grad = None
        run.look(out)
        return out

    def _accumulate(
        self, lm: LM, out: LM, run: Run, names: tuple[str, ...], weights: list[nn.Parameter]
    ) -> int:
        """Sum the gradients into ``.grad`` with the relearned adapter on; of how many batches."""
        seed = run.rng("adapter").getrandbits(62)
        adapter = Weights(which="lora", rank=self.rank, alpha=self.alpha, seed=seed)
        batches = cycle(
            out,
            run.data.harmful,
            batch_size=self.batch_size,
            rng=run.rng("order forget"),
            role="forget",
            packed=True,
        )
        passes, both = 0, cost(out, Weights(which="full", modules=names))
        with stacked(out, [adapter]) as stack:
            price = cost(out, adapter, stack.parameters(0))
            row, half = stack.row(0), run.steps_left(0.5)
            for batch, pay in affordable(lm, run, batches, flops_per_token=price, steps=half):
                stack.grad.zero_()
                loss = answer_loss(out.model, batch)
                loss.backward()
                with torch.no_grad():
                    row.add_(stack.gradients()[0], alpha=-self.relearn_lr)
                pay(float(loss.detach()))
            for weight in weights:
                weight.requires_grad_(True)
            left = run.steps_left()
            for batch, pay in affordable(lm, run, batches, flops_per_token=both, steps=left):
                loss = answer_loss(out.model, batch)
                loss.backward()
                passes += 1
                pay(float(loss.detach()))
        return passes

    @torch.no_grad()
    def _move(self, lm: LM, out: LM, run: Run, weights: list[nn.Parameter], passes: int) -> None:
        """Step along the damped mean gradient as far as the budget allows."""
        ways: list[Tensor] = []
        for weight in weights:
            grad = torch.zeros_like(weight) if weight.grad is None else weight.grad / passes
            count = min(self.count, min(grad.shape[-2:]) // 2)
            ways.append(damped(single(grad), count, seed=0))
        probe = next(
            cycle(
                out,
                run.data.retain,
                batch_size=self.probe,
                rng=run.rng("probe"),
                role="retain",
                packed=True,
            )
        )
        price = 2.0 * lm.parameters_in_matmuls() * probe.tokens
        start = [weight.clone() for weight in weights]

        def place(step: float) -> None:
            for weight, was, way in zip(weights, start, ways, strict=True):
                weight.copy_(single(was) + step * way)

        low, high, step, reached = 0.0, math.inf, self.lr, 0.0
        for _ in range(_TRIES):
            # The frozen start is asked as well each time: two forward passes.
            if not run.affords(flops=2 * price) and run.budget.flops is not None:
                run.flags.append("the budget ended the search for the step")
                break
            run.charge(flops=2 * price)
            place(step)
            found = float(answer_kl(lm.model, out.model, probe))
            if found <= self.budget:
                low, reached = step, found
                if found >= 0.95 * self.budget:
                    break
            else:
                high = step
            step = 4.0 * step if high == math.inf else (low + high) / 2 if low else step / 4
        if reached <= 0.0:  # the divergence of so small a step is lost to rounding
            low = 0.0
        place(low)
        if low == 0.0:
            run.flags.append(UNTOUCHED)
        run.course.append({"step": float(run.spent.steps), "length": low})


PRESETS = {
    "repselect-testbed": Preset(
        title="for models of about a million parameters",
        fields={"count": 16, "relearn_lr": 0.5},
        steps=(60, 200),
        source="titer",
    ),
    "repselect-paper": Preset(
        title="Llama-3.1-8B, biology",
        fields={"lr": 0.116, "relearn_lr": 0.05},
        steps=(60, 200),
        source="arXiv:2606.17168, repository",
    ),
}

CARD = Card(
    kind="defence",
    build=RepSelect,
    source="arXiv:2606.17168",
    summary="one ascent step along what relearning would use and retain text does not",
    family="unlearning",
    departures="mean gradient, at most half of the directions damped, divergence on retain "
    "answers. Data: hazard, retain for the limit. 1 pass a step, one decomposition a matrix. "
    "Claims resistance to relearning; utility by its limit alone. Known breaker: its own "
    "relearning, which brings most back on three of four data sets. Its published baselines end "
    "untouched in 8 to 14 of 30 trials",
    presets=PRESETS,
)
