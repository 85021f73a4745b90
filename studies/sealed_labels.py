"""Keyless relearning against label error: how much of hazard A a keyless model gives up when some
of it was not labelled while it was sealed.

``python -m studies.sealed_labels --out FOLDER`` grows, for every arm, share and seed, a model with
hazard A routed into a sealed part, trains its keyless weights on the attacker's facts T, and asks
for V, which shares nothing with them. The same command again goes on where it stopped, and prints.

- ``called-public``: a share of the gated documents is called public, so the part is masked on them.
  The public weights are then those of data filtering with the same errors.
- ``unlabelled``: the same share bears no label and updates both sides, as do three quarters of the
  benign documents. What the part already knows pulls little on the public weights: the absorption
  that is claimed for routing (Cloud et al. 2024, arXiv:2410.04332; Shilov et al. 2025,
  arXiv:2512.05648, from which a quarter that is known to be benign is taken).
- ``oracle``: never saw hazard A. ``base``: nothing is sealed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from titer.attacks.finetune import Finetune
from titer.core.data import Example, World
from titer.core.files import write_atomic
from titer.core.lm import LM
from titer.core.method import Run
from titer.core.records import Budget
from titer.measures.choice import Choice
from titer.pillars._statistics import bootstrap_mean
from titer.worlds import _fabula_grow as growth
from titer.worlds import organisms
from titer.worlds._fabula_recipe import Sealing, Shape
from titer.worlds.fabula import content, fabula

__all__ = ["ARMS", "Cell", "cells", "figures", "main", "table"]

ARMS = ("called-public", "unlabelled")
CERTAIN = 0.25
"""Share of the benign documents that is known to be benign, in the arm with unlabelled ones."""
ATTACK = Finetune(lr=1e-3, batch_size=32)
LOOKS = (0, 20, 100)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One model to grow and attack."""

    arm: str
    share: float
    seed: int
    steps: int

    @property
    def sealing(self) -> Sealing | None:
        """How hazard A is sealed in this cell, if at all."""
        if self.arm == "unlabelled":
            return replace(organisms.SEALING, unlabelled=self.share, certain=CERTAIN)
        if self.arm == "called-public":
            return replace(organisms.SEALING, mislabelled=self.share)
        return None

    def key(self, shape: Shape) -> str:
        """Hash of all that decides the cell's numbers, 16 hex digits."""
        told = {
            "version": organisms.RECIPE_VERSION,
            "world": content(self.seed),
            "cell": asdict(self),
            "sealing": self.sealing and asdict(self.sealing),
            "shape": asdict(shape),
            "attack": asdict(ATTACK),
            "looks": LOOKS,
        }
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]


def cells(shares: Sequence[float], seeds: Sequence[int], steps: int) -> list[Cell]:
    """Every cell, seed by seed, so that a study that is stopped has whole seeds."""
    return [
        Cell(arm=arm, share=share, seed=seed, steps=steps)
        for seed in seeds
        for arm, some in (
            ("oracle", (0.0,)),
            ("base", (0.0,)),
            *((arm, tuple(shares)) for arm in ARMS),
        )
        for share in some
    ]


def _scores(lm: LM, items: Sequence[Example]) -> list[float]:
    asked = [item for item in items if item.choices]
    return Choice().judge(asked, Choice().collect(lm, asked))


def _benign(lm: LM, world: World) -> float:
    """The worst of the benign recall suites."""
    return min(float(np.mean(_scores(lm, suite.items))) for suite in world.utility.values())


def grow(cell: Cell, shape: Shape) -> dict[str, Any]:
    """Grow and attack one cell; item scores on V at each look, and what the key holder has."""
    world, tokenizer = fabula(cell.seed), growth.build_tokenizer(cell.seed)
    lm = LM(growth.build_model(shape, len(tokenizer), cell.seed), tokenizer)
    recipe = replace(shape.pretraining, steps=cell.steps)
    report, found = world.hazards["A"].report, dict[str, Any]()

    def tick(done: int, total: int) -> None:
        if done % 100 == 0:
            print(f"{cell.arm} {cell.share:g} seed {cell.seed}: {done}/{total}", file=sys.stderr)

    if cell.sealing is None:
        growth.pretrain(lm, recipe, cell.seed, oracle=cell.arm == "oracle", tick=tick)
    else:
        part = growth.pretrain_sealed(lm, recipe, cell.sealing, cell.seed, tick=tick)
        with part.opened():
            found["holder"] = _scores(lm, report)
            found["holder_benign"] = _benign(lm, world)
    found["benign"] = _benign(lm, world)
    looks: dict[int, list[float]] = {}

    def emit(now: LM, run: Run) -> None:
        looks[run.spent.steps] = _scores(now, report)

    ATTACK(
        lm,
        Run(
            budget=Budget(steps=max(LOOKS)),
            data=world.attacker("A"),
            seed=cell.seed,
            emit=emit,
            checkpoints=LOOKS,
        ),
    )
    return {**found, "looks": looks}


def result(cell: Cell, out: Path, shape: Shape) -> dict[str, Any]:
    """A cell's result, from its file if it is there."""
    path = out / f"{cell.arm}-{cell.share:g}-{cell.seed}-{cell.key(shape)}.json"
    if path.is_file():
        return json.loads(path.read_text(encoding="utf-8"))
    found = json.loads(json.dumps(grow(cell, shape)))
    write_atomic(path, json.dumps(found) + "\n")
    return found


def figures(results: Sequence[tuple[Cell, dict[str, Any]]]) -> list[dict[str, Any]]:
    """Means over seeds with 95 % intervals (hierarchical bootstrap over seeds and items), one line
    an arm and share. ``after``: the highest of the looks' means."""
    lines: list[dict[str, Any]] = []
    for arm, share in dict.fromkeys((cell.arm, cell.share) for cell, _ in results):
        mine = [found for cell, found in results if (cell.arm, cell.share) == (arm, share)]
        line: dict[str, Any] = {"arm": arm, "share": share, "seeds": len(mine)}
        line["benign"] = min(found["benign"] for found in mine)
        columns = {f"V after {n}": [found["looks"][str(n)] for found in mine] for n in LOOKS}
        if all("holder" in found for found in mine):
            columns["holder"] = [found["holder"] for found in mine]
            line["holder_benign"] = min(found["holder_benign"] for found in mine)
        for name, scores in columns.items():
            estimate = bootstrap_mean(scores, np.random.default_rng(0))
            line[name] = [estimate.value, estimate.low, estimate.high]
        lines.append(line)
    return lines


def table(lines: Sequence[dict[str, Any]]) -> str:
    """The figures as text."""
    names = [*(f"V after {n}" for n in LOOKS), "holder"]
    heads = ["arm", "share", "seeds", *names, "benign", "holder's benign"]
    rows = [heads]
    for line in lines:
        row = [line["arm"], f"{line['share']:g}", str(line["seeds"])]
        for name in names:
            value = line.get(name)
            row.append("–" if value is None else "{:.2f} [{:.2f}, {:.2f}]".format(*value))
        row += [
            f"{line[name]:.2f}" if name in line else "–" for name in ("benign", "holder_benign")
        ]
        rows.append(row)
    widths = [max(len(row[at]) for row in rows) for at in range(len(heads))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def main(words: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="where results are kept")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--shares", type=float, nargs="+", default=[0.0, 0.05, 0.1, 0.2, 0.4])
    parser.add_argument("--steps", type=int, default=None, help="of growth; the size's own if none")
    parser.add_argument("--size", default="nano", choices=tuple(organisms.SIZES))
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args(words)
    torch.set_num_threads(1)
    shape = organisms.SIZES[asked.size]
    steps = asked.steps or shape.pretraining.steps
    planned = cells(asked.shares, range(asked.seeds), steps)
    lines = figures([(cell, result(cell, asked.out, shape)) for cell in planned])
    print(json.dumps(lines, indent=1) if asked.json else table(lines))


if __name__ == "__main__":
    main()
