"""Keyless relearning against label error: how much of hazard A a keyless model gives up when some
of it was not labelled while it was sealed.

``python -m studies.sealed_labels --out FOLDER`` grows, for every arm, share and seed, a model with
hazard A routed into a sealed part, trains its keyless weights on the attacker's facts T, and asks
for V, which shares nothing with them. The same command again goes on where it stopped, and prints.

- ``called-public``: a share of the gated documents is called public, so the part is masked on them.
  The public weights are then those of data filtering with the same errors.
- ``unlabelled``: the same share bears no label and updates both sides, as do the benign documents
  that are not known to be benign. What the part already knows pulls little on the public weights:
  the absorption that is claimed for routing (Cloud et al. 2024, arXiv:2410.04332; Shilov et al.
  2025, arXiv:2512.05648, whose code takes a quarter as known). ``certain`` is the share of benign
  documents that is known to be benign: benign text without a label is absorbed as well, so read V
  beside ``benign``.
- ``oracle`` never saw hazard A, in ``base`` nothing is sealed, ``sealed`` has no errors: the
  organisms of these names.

The public weights stand still while a part settles, so that stage is left out where errors are
made: this is about the keyless side alone.
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
from titer.evidence.resample import bootstrap_mean
from titer.measures.choice import Choice
from titer.worlds import _fabula_grow as growth
from titer.worlds import organisms
from titer.worlds._fabula_recipe import Sealing
from titer.worlds.fabula import fabula

__all__ = ["ARMS", "Cell", "cells", "figures", "main", "table"]

ORGANISMS = ("oracle", "base", "sealed")
ARMS = ("called-public", "unlabelled")
ATTACK = Finetune(lr=1e-3, batch_size=32)
LOOKS = (0, 20, 100)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One model to grow and attack."""

    arm: str
    share: float
    seed: int
    certain: float = 1.0

    @property
    def sealing(self) -> Sealing | None:
        """How hazard A is sealed in this cell; None for an organism."""
        plain = replace(organisms.SEALING, closing=0.0, replay=0.0)
        if self.arm == "unlabelled":
            return replace(plain, unlabelled=self.share, certain=self.certain)
        return replace(plain, mislabelled=self.share) if self.arm == "called-public" else None

    def key(self, size: str) -> str:
        """Hash of all that decides the cell's numbers, 16 hex digits."""
        told = {
            "cell": asdict(self),
            "organism": organisms.key("base" if self.sealing else self.arm, size, self.seed),
            "sealing": self.sealing and asdict(self.sealing),
            "attack": asdict(ATTACK),
            "looks": LOOKS,
        }
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]


def cells(
    shares: Sequence[float], seeds: Sequence[int], certain: Sequence[float] = (0.9,)
) -> list[Cell]:
    """Every cell, seed by seed, so that a study that is stopped has whole seeds."""
    found: list[Cell] = []
    for seed in seeds:
        found += [Cell(arm=arm, share=0.0, seed=seed) for arm in ORGANISMS]
        # Without errors it is `sealed`.
        found += [Cell(arm="called-public", share=share, seed=seed) for share in shares if share]
        found += [
            Cell(arm="unlabelled", share=share, seed=seed, certain=known)
            for known in certain
            for share in shares
        ]
    return found


def _scores(lm: LM, items: Sequence[Example]) -> list[float]:
    asked = [item for item in items if item.choices]
    return Choice().judge(asked, Choice().collect(lm, asked))


def _benign(lm: LM, world: World) -> float:
    """The worst of the benign recall suites."""
    return min(float(np.mean(_scores(lm, suite.items))) for suite in world.utility.values())


def grow(cell: Cell, size: str) -> LM:
    """The keyless model of a cell."""
    if cell.sealing is None:
        return LM.load(organisms.organism(cell.arm, size, cell.seed))
    shape, tokenizer = organisms.SIZES[size], growth.build_tokenizer(cell.seed)
    lm = LM(growth.build_model(shape, len(tokenizer), cell.seed), tokenizer)

    def tick(done: int, total: int) -> None:
        if done % 100 == 0:
            print(f"{cell.arm} {cell.share:g} seed {cell.seed}: {done}/{total}", file=sys.stderr)

    growth.pretrain_sealed(lm, shape.pretraining, cell.sealing, cell.seed, tick=tick)
    return lm


def attacked(lm: LM, seed: int) -> dict[str, Any]:
    """Item scores on V before the attack on T and while it goes on."""
    world = fabula(seed)
    report = world.hazards["A"].report
    looks: dict[int, list[float]] = {}

    def emit(now: LM, run: Run) -> None:
        looks[run.spent.steps] = _scores(now, report)

    ATTACK(
        lm,
        Run(
            budget=Budget(steps=max(LOOKS)),
            data=world.attacker("A"),
            seed=seed,
            emit=emit,
            checkpoints=LOOKS,
        ),
    )
    return {"benign": _benign(lm, world), "looks": looks}


def result(cell: Cell, out: Path, size: str) -> dict[str, Any]:
    """A cell's result, from its file if it is there."""
    path = out / f"{cell.arm}-{cell.share:g}-{cell.seed}-{cell.key(size)}.json"
    if path.is_file():
        return json.loads(path.read_text(encoding="utf-8"))
    found = json.dumps(attacked(grow(cell, size), cell.seed))
    write_atomic(path, found + "\n")
    return json.loads(found)


def figures(results: Sequence[tuple[Cell, dict[str, Any]]]) -> list[dict[str, Any]]:
    """Means over seeds with 95 % intervals (hierarchical bootstrap over seeds and items), one line
    an arm, share of errors and share known. ``benign``: the worst recall suite of the worst seed,
    before the attack."""
    lines: list[dict[str, Any]] = []
    for kind in dict.fromkeys(replace(cell, seed=0) for cell, _ in results):
        mine = [found for cell, found in results if replace(cell, seed=0) == kind]
        line: dict[str, Any] = {"arm": kind.arm, "share": kind.share, "certain": kind.certain}
        line["seeds"] = len(mine)
        line["benign"] = min(found["benign"] for found in mine)
        for steps in LOOKS:
            scores = [found["looks"][str(steps)] for found in mine]
            estimate = bootstrap_mean(scores, np.random.default_rng(0))
            line[f"V after {steps}"] = [estimate.value, estimate.low, estimate.high]
        lines.append(line)
    return lines


def table(lines: Sequence[dict[str, Any]]) -> str:
    """The figures as text."""
    names = [f"V after {n}" for n in LOOKS]
    heads = ["arm", "share", "certain", "seeds", *names, "benign"]
    rows = [heads]
    for line in lines:
        curve = ["{:.2f} [{:.2f}, {:.2f}]".format(*line[name]) for name in names]
        plain = [f"{line[name]:g}" for name in ("share", "certain", "seeds")]
        rows.append([line["arm"], *plain, *curve, f"{line['benign']:.2f}"])
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
    parser.add_argument("--shares", type=float, nargs="+", default=[0.0, 0.05, 0.2])
    parser.add_argument("--certain", type=float, nargs="+", default=[0.9])
    parser.add_argument("--size", default="nano", choices=tuple(organisms.SIZES))
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args(words)
    torch.set_num_threads(1)
    planned = cells(asked.shares, range(asked.seeds), asked.certain)
    lines = figures([(cell, result(cell, asked.out, asked.size)) for cell in planned])
    print(json.dumps(lines, indent=1) if asked.json else table(lines))


if __name__ == "__main__":
    main()
