"""Which rows of a suite say something: how many work on each organism of the testbed, and on seeds.

A row that is void, failed or suspect is no evidence, and a mandatory one that is void withholds the
score. ``python -m studies.valid_rows --suite quick --seeds 3`` runs and resumes; the table names
every row that does not count, with its reason.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import titer
from titer.verdict import ModelVerdict

__all__ = ["table"]

RESULTS = Path(__file__).parent / "results"
MODELS = ("fabula:base", "fabula:aligned")
DEFENCES = ("npo", "rmu")


def table(models: Sequence[ModelVerdict]) -> str:
    """A row a model: how many adversaries are valid, which rates were found, and who says
    nothing."""
    lines = [["model", "valid", "share", "not valid"], ["---"] * 4]
    for model in models:
        valid = [row for row in model.attacks.values() if row.standing == "valid"]
        rest = [
            f"{row.row} ({row.standing}: {row.reason})"
            for row in model.attacks.values()
            if row not in valid
        ]
        share = len(valid) / len(model.attacks) if model.attacks else 0.0
        counted = f"{len(valid)} of {len(model.attacks)}"
        lines.append([model.name, counted, f"{100 * share:.0f} %", "; ".join(rest) or "–"])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main(words: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="Which rows say something.")
    parser.add_argument("--suite", default="quick")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--cap", type=int)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("runs/valid-rows"))
    parser.add_argument("--to", type=Path)
    asked = parser.parse_args(words)
    verdict = titer.bench(
        MODELS,
        suite=asked.suite,
        seeds=asked.seeds,
        cap=asked.cap,
        defences=DEFENCES,
        undefended=MODELS[0],
        workers=asked.workers,
        out=asked.out / asked.suite,
    )
    cap = f" --cap {asked.cap}" if asked.cap else ""
    text = (
        f"# Rows of `{asked.suite}` that say something\n\n"
        f"`python -m studies.valid_rows --suite {asked.suite} --seeds {asked.seeds}{cap}` writes "
        f"it. The knowledge target on organisms of size nano.\n\n{table(verdict.models)}\n"
    )
    to = asked.to or RESULTS / f"valid_rows_{asked.suite}.md"
    to.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
