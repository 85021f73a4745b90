"""Round the weights: what a small update hides, coarse levels give back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from titer.attacks._panel import Panel, affordable, search, split
from titer.method import LM, BadInput, Card, Preset, Run
from titer.nn.hooks import blocks
from titer.nn.quantise import gptq_model, rtn_model
from titer.nn.reach import of_matrices, tell
from titer.train.batches import encode_all

__all__ = ["CARD", "PRESETS", "Quantise"]

Method = Literal["rtn", "gptq"]


@dataclass(frozen=True, kw_only=True)
class Quantise:
    """Round every matrix inside the blocks to ``bits``, to nearest or by GPTQ, and keep the best.

    Every pair of method and bits is tried, and the attacker's own held-out answers choose among
    those that move benign answers by at most ``max_kl`` nats a token. GPTQ is calibrated on benign
    examples. Levels are spread evenly over each row's range. The result holds the rounded values in
    its own dtype, so it is an ordinary model, and no smaller. Embedding and head stay as they are.

    Source: Zhang et al. 2024, arXiv:2410.16454; GPTQ of Frantar et al. 2022, arXiv:2210.17323.
    Departs: AWQ is not tried; rows are not cut into groups.
    """

    methods: tuple[Method, ...] = ("rtn", "gptq")
    bits: tuple[int, ...] = (8, 4, 3)
    max_kl: float = 0.25
    prompts: int = 128
    held: int = 32

    def __post_init__(self) -> None:
        if not (self.methods and self.bits and all(1 <= b <= 16 for b in self.bits)):
            raise BadInput(
                f"quantise: methods={self.methods}, bits={self.bits}; give at least one of each, "
                "bits from 1 to 16."
            )
        if min(self.prompts, self.held) < 1:
            raise BadInput(
                f"quantise: prompts={self.prompts} and held={self.held}; 1 or more each."
            )

    def __call__(self, lm: LM, run: Run) -> LM:
        run.look(lm)
        used, held = split(run, self.prompts, self.held)
        panel = Panel(lm, run, held)
        tell(run, of_matrices(lm.model).share, "weights of the blocks")
        # GPTQ passes over its text once a block, for each number of bits.
        passes = len(self.bits) * len(blocks(lm.model)) if "gptq" in self.methods else 0
        rows = encode_all(lm, used.retain) if passes else []
        text = [
            {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
            for batch in affordable(lm, run, rows, per_token=2.0 * passes)
        ]

        def pairs() -> Iterator[tuple[Method, int]]:
            for bits in self.bits:
                for method in self.methods:
                    if method == "rtn" or text:
                        yield method, bits

        def build(pair: tuple[Method, int]) -> LM:
            method, bits = pair
            out = lm.clone()
            if method == "rtn":
                rtn_model(out, bits)
            else:
                gptq_model(out, text, bits)
            return out

        return search(lm, run, panel, pairs(), build, self.max_kl)


PRESETS = {
    "W03": Preset(
        family="weight surgery",
        title="rounded to 8, 4 or 3 bits, to nearest or by GPTQ",
        fields={"methods": ("rtn", "gptq"), "bits": (8, 4, 3)},
        steps=(0, 0),
        source="arXiv:2410.16454",
    ),
}

CARD = Card(
    kind="attack",
    build=Quantise,
    source="arXiv:2410.16454, arXiv:2210.17323",
    summary="weights rounded to few bits, to nearest or by GPTQ; no training",
    family="weights",
    access="weights",
    departures="no AWQ; one grid a row, no groups",
    presets=PRESETS,
)
