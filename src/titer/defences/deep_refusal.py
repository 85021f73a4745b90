"""DeepRefusal: learn to refuse while the refusal direction is ablated at random."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from titer.method import LM, BadInput, Card, Preset, Run
from titer.nn.directions import positions
from titer.nn.hooks import blocks
from titer.nn.taps import sites, tapped
from titer.nn.trainable import Parameters, Trainable
from titer.train.batches import Bundle, collate
from titer.train.harden import Phase, Source, Training, harden, logits
from titer.train.loop import descend
from titer.train.objectives import row_losses
from titer.train.recovery import recovering

__all__ = ["CARD", "PRESETS", "DeepRefusal", "ablated_by_chance", "refusal_direction"]


def refusal_direction(lm: LM, run: Run, depth: float, count: int = 64) -> Tensor:
    """The unit difference of mean states of harmful and retain prompts at their last token, after
    the block at ``depth``; (D,)."""
    means: list[Tensor] = []
    for examples in (run.data.harmful[:count], run.data.retain[:count]):
        rows = [(one.id, lm.encode(one.prompt, "", limit=lm.context_length())) for one in examples]
        batch = collate(rows, lm.tokenizer.pad_token_id, lm.device)
        layer = int(depth * len(blocks(lm.model)))
        means.append(positions(lm.model, batch.inputs(), 1)[:, layer, 0].mean(0))
    found = means[0] - means[1]
    return found / found.norm().clamp(min=1e-12)


@contextmanager
def ablated_by_chance(
    model: Any, modules: list[nn.Module], unit_D: Tensor, p: float, draw: torch.Generator
) -> Iterator[list[float]]:
    """Inside, each token at what enters each block and at each module's output loses its part along
    ``unit_D`` with chance p; yields the share that did, place by place."""
    shares: list[float] = []

    def cut(state: Tensor) -> Tensor:
        unit = unit_D.to(state)
        hit = (torch.rand(state.shape[:-1], generator=draw) < p).to(state)
        shares.append(float(hit.mean()))
        return state - hit[..., None] * (state @ unit)[..., None] * unit

    def enter(_module: nn.Module, given: tuple[Any, ...], words: dict[str, Any]) -> Any:
        if given:
            return (cut(given[0]), *given[1:]), words
        return given, {**words, "hidden_states": cut(words["hidden_states"])}

    def leave(_module: nn.Module, _inputs: Any, output: Any) -> Any:
        if isinstance(output, tuple):
            return (cut(output[0]), *output[1:])
        return cut(output)

    handles = [block.register_forward_pre_hook(enter, with_kwargs=True) for block in blocks(model)]
    handles += [module.register_forward_hook(leave) for module in modules]
    try:
        yield shares
    finally:
        for handle in handles:
            handle.remove()


@dataclass(frozen=True, kw_only=True)
class DeepRefusal:
    """``benign · S_retain + refuse · S_refusal`` (sums over answers' tokens) while the refusal
    direction is ablated by chance ``p`` at block inputs, attention and MLP outputs.

    The direction is found once, by difference of means after the block at ``depth``. With
    ``begun`` a refusal comes only after 20 to 25 tokens of the harmful answer.

    Source: Xie et al. 2025, arXiv:2509.15202, and its repository.
    Departs: p is drawn once for each place and token, where the repository draws it for the place
    and again for the token, 0.0025 in all; masks count from the answer and end tokens are
    supervised, where the repository's count from the padded start and lose them.
    """

    p: float = 0.05
    depth: float = 0.6
    begun: float = 0.2
    lengths: tuple[int, int] = (20, 25)
    benign: float = 0.8
    refuse: float = 0.2
    lr: float = 1e-4
    batch_size: int = 8
    weight_decay: float = 0.0
    parameters: Parameters = "lora"
    rank: int = 8
    alpha: float = 16.0

    resumes = False

    def __post_init__(self) -> None:
        if not all(0 <= x <= 1 for x in (self.p, self.begun)) or not 0 <= self.depth < 1:
            raise BadInput("deep_refusal: p, begun and depth are shares, depth below 1.")
        if len(self.lengths) != 2 or not 1 <= self.lengths[0] <= self.lengths[1]:
            raise BadInput(f"deep_refusal: lengths={self.lengths}; give two, rising, from 1 on.")
        if not (0 <= self.benign < float("inf") and 0 <= self.refuse < float("inf")):
            raise BadInput("deep_refusal: benign and refuse must not be negative.")
        Training.of(self)

    def __call__(self, lm: LM, run: Run) -> LM:
        unit = refusal_direction(lm, run, self.depth)
        places = [sites(lm.model, site) for site in ("attention", "mlp")]
        draw = torch.Generator().manual_seed(run.rng("ablation").getrandbits(62))

        def loss(model: Any, bundle: Bundle) -> Tensor:
            modules = [one for names in places for one in tapped(model, names)]
            weights = {"retain": self.benign, "safe": self.refuse}
            with ablated_by_chance(model, modules, unit, self.p, draw):
                terms = [
                    weight * row_losses(logits(model, batch), batch.labels, "sum").mean()
                    for role, weight in weights.items()
                    for batch in [bundle[role]]
                ]
            return torch.stack(terms).sum()

        def plan(ready: Trainable) -> list[Phase]:
            late = recovering(
                ready.lm,
                run.data.harmful,
                rows=self.batch_size,
                rng=run.rng("recovery"),
                chance=self.begun,
                lengths=self.lengths,
            )
            return [Phase(grad=descend(loss), also={"safe": late})]

        sources = {"retain": Source(examples=run.data.retain)}
        return harden(lm, run, Training.of(self), sources, plan)


PRESETS = {
    "deep_refusal-testbed": Preset(
        title="for models of about a million parameters",
        fields={"lr": 3e-3, "batch_size": 32, "lengths": (1, 4)},
        steps=(250, 1000),
        source="titer",
    ),
    "deep_refusal-paper": Preset(
        title="Llama-3-8B-Instruct", fields={}, steps=(250, 1000), source="arXiv:2509.15202"
    ),
    "deep_refusal-code": Preset(
        title="the ablation as often as its repository's",
        fields={"p": 0.0025},
        steps=(250, 1000),
        source="arXiv:2509.15202, repository",
    ),
}

CARD = Card(
    kind="defence",
    build=DeepRefusal,
    source="arXiv:2509.15202",
    summary="refusing is learned while the refusal direction is ablated at random",
    family="alignment",
    departures="one draw of p; masks from the answer on. Data: hazard with refusals and harmful "
    "answers, retain. 1 pass a step. Claims resistance to ablation and to begun answers, none "
    "to fine-tuning. Known breaker: the public base with a little of the difference, then "
    "ablation",
    presets=PRESETS,
)
