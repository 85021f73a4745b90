"""Directional ablation whose place and strength are searched for, block by block."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from titer.attacks._panel import Panel, Score, better, means, search, split
from titer.attacks._tpe import suggest
from titer.method import LM, BadInput, Card, Preset, Run
from titer.nn.directions import Cut, cuttable, orthogonalise, orthonormal
from titer.nn.edits import writers
from titer.nn.reach import tell

__all__ = ["CARD", "PRESETS", "SearchAblation"]

_KNOBS = 3 + 2 * 4
Point = tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class SearchAblation:
    """Search over what to ablate where: harm down, divergence inside ``max_kl``.

    A trial takes the difference-of-means direction of one (fractional) block for all blocks, or of
    each block for itself, at one place of the prompt; and for attention and MLP outputs each a
    strength that falls off linearly from ``peak`` (up to ``strongest``) at a centre block to a
    floor at some distance, and is 0 beyond. A tree-structured Parzen estimator proposes. One trial
    is one step of the budget, so a trace shows harm over trials; no gradient is taken.

    Source: the Heretic repository (p-e-w/heretic), whose search this follows.
    Departs: one objective with a bound where Heretic trades two off; the ranges are ours; rows
    keep no norm; the edit is made in the weights, not in an adapter; harm is the likelihood of
    harmful answers, not counted refusals.
    """

    max_kl: float = 0.25
    strongest: float = 1.5
    last: int = 4
    prompts: int = 128
    held: int = 32

    def __post_init__(self) -> None:
        if not (self.strongest > 0 and min(self.last, self.prompts, self.held) >= 1):
            raise BadInput(
                f"search_ablation: strongest={self.strongest} must be positive; last={self.last}, "
                f"prompts={self.prompts} and held={self.held} at least 1."
            )

    def __call__(self, lm: LM, run: Run) -> LM:
        run.look(lm)
        if run.steps_left() < 1:
            return lm.clone()
        used, held = split(run, self.prompts, self.held)
        panel = Panel(lm, run, held, steps=1)
        bad, good = (means(lm, run, group, self.last) for group in (used.harmful, used.retain))
        if bad is None or good is None:
            return lm.clone()
        tell(run, cuttable(lm), "direction that a whole cut takes out")
        directions_LPD = bad - good
        ranked: list[tuple[Point, Score]] = []

        def told(point: Point, score: Score) -> None:
            place = next(
                (i for i, (_, s) in enumerate(ranked) if better(score, s, self.max_kl)), len(ranked)
            )
            ranked.insert(place, (point, score))

        def build(point: Point) -> LM:
            out = lm.clone()
            orthogonalise(out, self._cuts(out, point, directions_LPD))
            return out

        rng = run.rng("trials")

        def trials() -> Iterator[Point]:
            while True:
                yield suggest([point for point, _ in ranked], _KNOBS, rng)

        return search(lm, run, panel, trials(), build, self.max_kl, told)

    def _cuts(self, lm: LM, point: Point, directions_LPD: Tensor) -> dict[str, Cut]:
        own, where, spot, *kernels = point
        depth, spots = directions_LPD.shape[:2]
        field_LD = directions_LPD[:, min(int(spot * spots), spots - 1)]
        at = where * (depth - 1)
        low = min(int(at), max(0, depth - 2))
        shared_D = torch.lerp(field_LD[low], field_LD[min(low + 1, depth - 1)], at - low)
        cuts: dict[str, Cut] = {}
        seen: dict[int, int] = {}
        homes = {writer.home: writer for writer in writers(lm.model)}  # experts as one
        for writer in homes.values():
            part = min(seen.get(writer.layer, 0), 1)  # attention writes first
            seen[writer.layer] = part + 1
            strength = self._strength(kernels[4 * part : 4 * part + 4], writer.layer, depth)
            direction_D = field_LD[writer.layer] if own > 0.5 else shared_D
            if strength and float(direction_D.norm()) > 0:
                cuts[writer.home] = Cut(orthonormal([direction_D]), strength)
        return cuts

    def _strength(self, kernel: list[float], layer: int, depth: int) -> float:
        peak, centre, floor, reach = kernel
        distance = abs(layer - centre * (depth - 1)) / max(1.0, reach * depth)
        if distance > 1:
            return 0.0
        return self.strongest * peak * (1 - distance * (1 - floor))


PRESETS = {
    "V02": Preset(
        family="representations",
        title="ablation searched for, block by block",
        fields={"max_kl": 0.25},
        steps=(60, 200),
        source="p-e-w/heretic",
    ),
}

CARD = Card(
    kind="attack",
    build=SearchAblation,
    source="p-e-w/heretic",
    summary="ablation with place and strength searched for by Parzen estimators; a step is a trial",
    family="representation",
    access="weights",
    departures="one bounded objective, ranges ours, edits in the weights, no norm kept",
    presets=PRESETS,
)
