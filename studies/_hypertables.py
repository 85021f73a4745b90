"""Tables of the hypernetwork study."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from titer.evidence.resample import bootstrap_mean, paired_difference, summarise

__all__ = ["interval", "report"]

Scores = np.ndarray[Any, np.dtype[np.float64]]
Found = Sequence[Mapping[str, Any]]

BASE = "antidote"
"""The arm that the others are compared with."""


def interval(scores: Scores, against: Scores | None = None) -> str:
    """The mean of scores (seeds, items), or of their difference, with its 95 % interval."""
    rng = np.random.default_rng(0)
    if against is None:
        found, sign = bootstrap_mean(scores, rng), ""
    else:
        found, sign = summarise(paired_difference(scores, against, rng), n=len(scores)), "+"
    return f"{found.value:{sign}.2f} [{found.low:{sign}.2f}, {found.high:{sign}.2f}]"


def load(out: Path, part: str) -> list[dict[str, Any]]:
    """The cells of a part, in a fixed order."""
    found = [json.loads(path.read_text()) for path in sorted((out / "cells").glob("*.json"))]
    return [one for one in found if one["cell"]["part"] == part]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def by_arm(found: Found, arms: Sequence[str], base: str, known_attacks: Sequence[str]) -> str:
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


def report(
    out: Path, questions: Sequence[str], arms: Sequence[str], attacks: Sequence[str]
) -> None:
    """Tables in Markdown, of whatever is there; names in the order of the tables."""
    asked = load(out, "questions")
    sections = {
        "Questions": _questions(asked, questions, attacks),
        "Refusals": _questions(load(out, "refusals"), questions, attacks),
        "Ablation": _ablation(asked, load(out, "ablation"), arms, attacks),
        "Budgets": _budgets(load(out, "budget")),
        "Rates": _rates(load(out, "rates")),
        "Learning": _learning(load(out, "learning")),
        "Ways": _ways(load(out, "ways")),
    }
    for name, text in sections.items():
        if text:
            print(f"\n### {name}\n\n{text}")


def _questions(rows: Found, arms: Sequence[str], attacks: Sequence[str]) -> str:
    if not rows:
        return ""
    spent = [
        [arm, str(own[0]["found"]["spent"]["steps"]), f"{own[0]['found']['spent']['flops']:.2g}"]
        for arm in arms
        if (own := sorted(_of(rows, arm), key=lambda one: one["cell"]["seed"]))
    ]
    table = by_arm(rows, arms, BASE, attacks)
    return f"{table}\n\n{_table(['arm', 'steps, first seed', 'operations'], spent)}"


def _ablation(asked: Found, rows: Found, arms: Sequence[str], attacks: Sequence[str]) -> str:
    """Arms that the questions have too are taken from there."""
    if not rows:
        return ""
    shared = [one for one in asked if one["cell"]["arm"] in (BASE, *arms)]
    tried = {name for one in rows for name in one["found"]["attacks"]}
    names = [name for name in attacks if name in tried]
    raised = sorted({(r["cell"]["arm"], flag) for r in rows for flag in r["found"]["flags"]})
    flags = "; ".join(f"{arm}: {flag}" for arm, flag in raised) or "none"
    return f"{by_arm([*shared, *rows], (BASE, *arms), BASE, names)}\n\nFlags: {flags}"


def _budgets(rows: Found) -> str:
    found = sorted(rows, key=lambda one: (one["cell"]["steps"], one["cell"]["lr"]))
    cells = [
        [f"{one['cell']['steps']}", f"{one['cell']['lr']:g}"]
        + [f"{one['found'][key]:.2f}" for key in ("median", "most", "largest", "rank")]
        for one in found
    ]
    head = ["steps", "rate", "median", "90 % of layers", "largest", "effective rank"]
    return _table(head, cells) if cells else ""


def _rates(rows: Found) -> str:
    """Harm by rate and method, and the gain of the network at its best over LoRA at its best, both
    picked by the mean over seeds."""
    if not rows:
        return ""
    found: dict[tuple[float, str], Scores] = {}
    cells: list[list[str]] = []
    for lr in sorted({one["cell"]["lr"] for one in rows}):
        own = sorted(
            (one for one in rows if one["cell"]["lr"] == lr), key=lambda one: one["cell"]["seed"]
        )
        row = [f"{lr:g}", str(len(own))]
        for method in ("hypernetwork", "LoRA"):
            found[lr, method] = np.array([one["found"][method]["harm"] for one in own])
            utility = np.mean([one["found"][method]["utility"] for one in own])
            row += [interval(found[lr, method]), f"{utility:.2f}"]
        cells.append(row)
    best = [
        max((place for place in found if place[1] == method), key=lambda place: found[place].mean())
        for method in ("hypernetwork", "LoRA")
    ]
    gain = interval(*(found[place] for place in best))
    at = ", ".join(f"{method} at {lr:g}" for lr, method in best)
    table = _table(["rate", "seeds", "hypernetwork", "utility", "LoRA", "utility"], cells)
    return f"{table}\n\nBest against best ({at}): {gain}"


def _learning(rows: Found) -> str:
    if not rows:
        return ""
    steps = [look["step"] for look in rows[0]["found"]["looks"]]
    found = sorted(rows, key=lambda one: (one["cell"]["conditioning"], one["cell"]["lr"]))
    cells = [
        [one["cell"]["conditioning"], f"{one['cell']['lr']:g}"]
        + [f"{look['loss']:.2f}, {look['won']:.2f}" for look in one["found"]["looks"]]
        for one in found
    ]
    return _table(["conditioning", "rate", *(f"after {step}" for step in steps)], cells)


def _ways(rows: Found) -> str:
    if not rows:
        return ""
    cells: list[list[str]] = []
    for name in dict.fromkeys(way["name"] for one in rows for way in one["found"]["ways"]):
        own = [way for one in rows for way in one["found"]["ways"] if way["name"] == name]
        harm, lora = (
            np.array([way["harm"] for way in part]) for part in (own, [w["lora"] for w in own])
        )
        cells.append(
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
    return _table(["way", "seeds", "harm", "utility", "operations", "LoRA", "gain"], cells)


def _of(rows: Found, arm: str) -> list[Mapping[str, Any]]:
    return [one for one in rows if one["cell"]["arm"] == arm]
