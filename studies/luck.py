"""How much of the demo's table is luck of the organisms that grew, and of the processor.

The demo is run on the organisms of several seeds, a seed being that of the world and of the growth.
Its own intervals hold the luck of the items of one organism; what comes on top is the spread shown
here. ``python -m studies.luck --seeds 5`` runs and resumes; ``--and NAME=FOLDER`` adds a demo of
seed 0 that was run elsewhere, as under ``MKL_CBWR=COMPATIBLE ATEN_CPU_CAPABILITY=avx2
ONEDNN_MAX_CPU_ISA=AVX2``, which makes most processors compute as another does.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import titer
from titer.cli.bench import DEMO
from titer.report.load import read_verdict
from titer.worlds.organisms import named

__all__ = ["FIGURES", "table", "validity"]

RESULTS = Path(__file__).parent / "results" / "luck.md"

FIGURES: dict[str, tuple[str, ...]] = {
    "harm before": ("resistance", "baseline_harm"),
    "worst harm, utility kept": ("resistance", "weak"),
    "came back from unrelated facts": ("erasure", "rtt"),
    "resistance": ("resistance", "r_star"),
    "utility, change": ("stability", "worst_delta"),
    "resistance on the other hazard": ("generalisation", "off_diagonal_min"),
}
"""Rows of the table: a pillar and where in it the figure stands."""

Verdict = Mapping[str, Any]


def figure(model: Mapping[str, Any], path: Sequence[str]) -> Mapping[str, Any]:
    """An estimate of a verdict's model."""
    found: Any = model["pillars"]
    for name in path:
        found = found[name]
    return found


def table(seeds: Mapping[str, Verdict], elsewhere: Mapping[str, Verdict]) -> str:
    """A row a model and figure: that of the first seed with its interval, the mean and range over
    seeds, each seed and processor, and how many of these lie within the first one's interval."""
    demos = {**seeds, **elsewhere}
    first, *others = demos
    head = ["", "", first, f"mean of {len(seeds)} seeds (range)", *others, "within"]
    lines = [head, ["---"] * len(head)]
    for position, model in enumerate(demos[first]["models"]):
        for title, path in FIGURES.items():
            own = figure(model, path)
            if own["value"] is None:
                continue
            found = {name: figure(demos[name]["models"][position], path)["value"] for name in demos}
            low, high = own["low"] - 0.005, own["high"] + 0.005
            values = [found[name] for name in others]
            inside = sum(value is not None and low <= value <= high for value in values)
            over = [found[name] for name in seeds if found[name] is not None]
            spread = f"{sum(over) / len(over):.2f} ({min(over):.2f} to {max(over):.2f})"
            told = f"{own['value']:.2f} [{own['low']:.2f}, {own['high']:.2f}]"
            cells = ["–" if value is None else f"{value:.2f}" for value in values]
            lines.append([model["name"], title, told, spread, *cells, f"{inside} of {len(others)}"])
    return _markdown(lines)


def validity(demos: Mapping[str, Verdict]) -> str:
    """What became of each adversary, by demo and model."""
    lines = [["", "model", "breached", "held", "degraded, or without a result"], ["---"] * 5]
    for name, verdict in demos.items():
        for model in verdict["models"]:
            rows = {row["row"]: row["outcome"] for row in model["attacks"]}
            breached = [row for row, outcome in rows.items() if outcome == "breached"]
            held = [row for row, outcome in rows.items() if outcome in ("held", "bricked")]
            rest = [f"{row} ({rows[row]})" for row in rows if row not in (*breached, *held)]
            cells = (" ".join(breached), " ".join(held), ", ".join(rest))
            lines.append([name, model["name"], *(cell or "–" for cell in cells)])
    return _markdown(lines)


def _markdown(lines: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main(words: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="The demo's luck.")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("runs/luck"))
    parser.add_argument("--and", action="append", default=[], dest="others", metavar="NAME=FOLDER")
    parser.add_argument("--to", type=Path, default=RESULTS)
    asked = parser.parse_args(words)
    demos: dict[str, Verdict] = {}
    for seed in range(asked.seeds):
        out = asked.out / f"seed-{seed}"
        base = named("base", "nano", seed)
        world = f"fabula#{seed}" if seed else "fabula"
        study = replace(DEMO, models=(base,), data=world, out=out)
        demos[f"seed {seed}"] = titer.bench(study, workers=asked.workers).to_json()
    others = dict(item.split("=", 1) for item in asked.others)
    elsewhere = {name: read_verdict(Path(folder)).to_json() for name, folder in others.items()}
    text = (
        "# The luck of the demo\n\n`python -m studies.luck` writes it. Columns are demos: on the "
        "organisms of other seeds, and on those of seed 0 as another processor computes. The last "
        "column counts those within the interval of seed 0, which holds the luck of its items "
        f"alone.\n\n{table(demos, elsewhere)}\n\n"
        f"## Adversaries\n\n{validity({**demos, **elsewhere})}\n"
    )
    asked.to.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
