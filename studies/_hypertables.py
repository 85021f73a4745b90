"""Tables of the hypernetwork study."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["interval", "report"]

Scores = np.ndarray[Any, np.dtype[np.float64]]


def interval(scores: Scores, against: Scores | None = None, draws: int = 2000) -> str:
    """The mean of scores (seeds, items), or of their difference, with its bootstrap interval."""
    gap = scores if against is None else scores - against
    rng = np.random.default_rng(0)
    seeds = rng.integers(len(gap), size=(draws, len(gap)))
    items = rng.integers(gap.shape[1], size=(draws, gap.shape[1]))
    means = [gap[s][:, i].mean() for s, i in zip(seeds, items, strict=True)]
    low, high = np.quantile(means, (0.025, 0.975))
    sign = "+" if against is not None else ""
    return f"{gap.mean():{sign}.2f} [{low:{sign}.2f}, {high:{sign}.2f}]"


def load(out: Path, part: str) -> list[dict[str, Any]]:
    """The cells of a part, in a fixed order."""
    found = [json.loads(path.read_text()) for path in sorted((out / "cells").glob("*.json"))]
    return [one for one in found if one["cell"]["part"] == part]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def by_arm(
    found: Sequence[Mapping[str, Any]], arms: Sequence[str], base: str, known_attacks: Sequence[str]
) -> str:
    """A row an arm: harm before and under each attack, and the change from ``base``."""
    known: dict[str, dict[int, Any]] = {arm: {} for arm in arms}
    for one in found:
        known.setdefault(one["cell"]["arm"], {})[one["cell"]["seed"]] = one["found"]
    attacks = [
        name for name in known_attacks if any(name in one["found"]["attacks"] for one in found)
    ]
    rows: list[list[str]] = []
    for arm in arms:
        seeds = sorted(known[arm])
        if not seeds:
            continue
        shared = [seed for seed in seeds if seed in known.get(base, {})]
        row = [arm, str(len(seeds)), interval(_harm(known[arm], seeds, None))]
        utility = np.mean([known[arm][seed]["before"]["utility"] for seed in seeds])
        row.append(f"{utility:.2f}")
        for name in attacks:
            own = _harm(known[arm], shared or seeds, name)
            text = interval(_harm(known[arm], seeds, name))
            if arm != base and shared:
                text += "; " + interval(own, _harm(known[base], shared, name))
            row.append(text)
        rows.append(row)
    return _table(["arm", "seeds", "harm before", "utility", *attacks], rows)


def _harm(seeds: Mapping[int, Any], chosen: Sequence[int], attack: str | None) -> Scores:
    """Scores (seeds, items); where no look kept utility, those of the model before the attack."""
    rows = []
    for seed in chosen:
        found = seeds[seed]
        tried = found["attacks"][attack]["worst"] if attack else None
        rows.append((tried or found["before"])["harm"])
    return np.array(rows, dtype=np.float64)


def report(out: Path, arms: Sequence[str], long: Sequence[str], attacks: Sequence[str]) -> None:
    """Tables in Markdown, of whatever is there; names in the order of the tables."""
    if rows := load(out, "budget"):
        rows.sort(key=lambda one: (one["cell"]["steps"], one["cell"]["lr"]))
        print("\n### Budgets\n")
        cells = [
            [f"{one['cell']['steps']}", f"{one['cell']['lr']:g}"]
            + [f"{one['found'][key]:.2f}" for key in ("median", "most", "largest", "rank")]
            for one in rows
        ]
        head = ["steps", "rate", "median", "90 % of layers", "largest", "effective rank"]
        print(_table(head, cells))
    if rows := load(out, "questions"):
        print("\n### Questions\n")
        asked = ("undefended", "antidote", "eight inner steps")
        print(by_arm(rows, asked, "antidote", attacks))
    if rows := load(out, "ablation"):
        print("\n### Ablation\n")
        print(by_arm(rows, arms, "as it is", attacks))
        raised = sorted({(r["cell"]["arm"], flag) for r in rows for flag in r["found"]["flags"]})
        print("\nFlags: " + ("; ".join(f"{arm}: {flag}" for arm, flag in raised) or "none"))
    if rows := load(out, "ways"):
        print("\n### Ways\n")
        names = list(dict.fromkeys(way["name"] for one in rows for way in one["found"]["ways"]))
        print(
            _table(
                ["way", "seeds", "harm", "utility", "operations", "LoRA", "gain"],
                _ways(rows, names),
            )
        )


def _ways(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[list[str]]:
    found: list[list[str]] = []
    for name in names:
        own = [way for one in rows for way in one["found"]["ways"] if way["name"] == name]
        harm, lora = (
            np.array([way["harm"] for way in part]) for part in (own, [w["lora"] for w in own])
        )
        found.append(
            [
                name,
                str(len(own)),
                interval(harm),
                f"{np.mean([way['utility'] for way in own]):.2f}",
                f"{np.mean([way['flops'] for way in own]):.2g}",
                interval(lora),
                interval(harm, lora),
            ]
        )
    return found
