"""Representation misdirection for unlearning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from titer.core.config import hidden_size
from titer.method import LM, BadInput, Card, Preset, Run
from titer.nn.hooks import blocks, residual
from titer.nn.trainable import named_matrices
from titer.train.batches import Batch, collate, encode_all
from titer.train.objectives import activation_distance, unit_target
from titer.train.unlearn import Terms, Training, descend_terms

__all__ = ["CARD", "PRESETS", "RMU"]

_MEASURED = 32


@dataclass(frozen=True, kw_only=True)
class RMU:
    """Push hazardous activations after block ``layer`` to one fixed random vector; pin the rest.

    ``steering`` is the length of that vector: with ``scale`` ``own`` in units of the model's own
    activations there, the median length over tokens of the hazard (its first 32 examples); with
    ``absolute`` as it is. A length found on one model says nothing of another: after block 7 of 30
    SmolLM2-135M has a median of 121, beside which the paper's 6.5 is nothing. ``retain_weight`` is
    the pull of the frozen model's activations on retain text. Only matrices named in ``modules``
    train, in the ``depth`` blocks up to and including ``layer``. ``layer`` None takes a quarter of
    the depth, at least the first block with ``depth`` before it: block 7 of 32.

    Source: Li et al. 2024, arXiv:2403.03218, with settings for Zephyr-7B from its repository, which
    ``rmu-paper`` has; the length in units of the model's own is Adaptive RMU's, Dang et al. 2024,
    arXiv:2408.06223.
    Departs: Adaptive RMU takes the mean length over the first batch, which the first token of each
    row decides where it is many times longer than the others. Matrices are chosen by name, not by
    index; padding does not count, where the repository has it in the mean; means are over all
    tokens of the batch, so that a row of twice the length weighs twice, where the paper takes a
    mean over rows of each row's mean. On rows of one length the three agree.
    """

    layer: int | None = None
    depth: int = 3
    modules: tuple[str, ...] = ("mlp.down_proj", "mlp.c_proj")
    steering: float = 3.0
    scale: Literal["own", "absolute"] = "own"
    retain_weight: float = 1200.0
    lr: float = 5e-5
    batch_size: int = 4
    weight_decay: float = 0.01
    parameters: Literal["full", "lora"] = "full"
    rank: int = 16
    alpha: float = 32.0

    def __post_init__(self) -> None:
        if not self.modules or self.depth < 1:
            raise BadInput("rmu: modules must name at least one matrix and depth be at least 1.")
        Training.of(self)

    def terms(self, lm: LM, run: Run) -> Terms:
        """Hazardous activations to a random vector, the others where they were.

        Raises:
            BadInput: the model has no such block or no matrix of these names.
        """
        count = len(blocks(lm.model))
        layer = max(round(count * 7 / 32), min(self.depth, count) - 1)
        layer = layer if self.layer is None else self.layer
        if not 0 <= layer < count:
            raise BadInput(f"rmu: layer={layer} does not exist; {lm.name} has 0 to {count - 1}.")
        window = range(max(0, layer - self.depth + 1), layer + 1)
        names = [name for name, _ in named_matrices(lm, self.modules, window)]
        width = hidden_size(lm.model.config)
        if bare := [n for n in window if not any(name.startswith(f"{n}.") for name in names)]:
            run.flags.append(f"no matrix of these names in block {', '.join(map(str, bare))}")
        length = self.steering * (_own_length(lm, run, layer) if self.scale == "own" else 1.0)
        target = length * unit_target(width, run.rng("direction").getrandbits(62))
        target = target.to(lm.device)

        def forget(model: Any, batch: Batch) -> Tensor:
            pushed = residual(model, batch.inputs(), layer)
            return activation_distance(pushed, target, batch.attention_mask)

        def retain(model: Any, batch: Batch) -> Tensor:
            with torch.no_grad():
                pinned = residual(lm.model, batch.inputs(), layer)
            held = residual(model, batch.inputs(), layer)
            return self.retain_weight * activation_distance(held, pinned, batch.attention_mask)

        return Terms(forget=forget, retain=retain, frozen=("retain",), modules=tuple(names))

    def __call__(self, lm: LM, run: Run) -> LM:
        return descend_terms(self, lm, run, self.terms(lm, run))


@torch.no_grad()
def _own_length(lm: LM, run: Run, layer: int) -> float:
    """The median length of the model's activations after a block, at tokens of the hazard."""
    rows = encode_all(lm, run.data.harmful[:_MEASURED])
    if not rows:
        return 0.0  # there is nothing to forget, which is said where batches are drawn
    batch = collate(rows, lm.tokenizer.pad_token_id, lm.device)
    hidden = residual(lm.model, batch.inputs(), layer)[batch.attention_mask.bool()]
    return float(hidden.float().norm(dim=-1).median())


PRESETS = {
    "rmu-paper": Preset(
        title="the paper's length, for Zephyr-7B",
        fields={"steering": 6.5, "scale": "absolute"},
        steps=(150, 1000),
        source="arXiv:2403.03218",
    ),
    "rmu-135m": Preset(
        title="for models of some hundred million parameters; the last of three tried that keeps "
        "utility, and it hides little",
        fields={"lr": 5e-4, "retain_weight": 10.0},
        steps=(30, 30),
        source="titer",
        found=134_515_008,
    ),
    "rmu-testbed": Preset(
        title="for models of about a million parameters",
        fields={
            "lr": 2e-3,
            "layer": 1,
            "depth": 2,
            "batch_size": 32,
            "retain_weight": 3.0,
        },
        steps=(150, 1000),
        source="titer",
    ),
}

CARD = Card(
    kind="defence",
    build=RMU,
    source="arXiv:2403.03218",
    summary="hazardous activations go to a random vector, benign ones stay",
    family="unlearning",
    departures="length of the target in units of the model's own; matrices by name; padding does "
    "not count, rows weigh by their length",
    version=2,
    presets=PRESETS,
)
