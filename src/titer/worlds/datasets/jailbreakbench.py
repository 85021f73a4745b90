"""JailbreakBench: a hundred misuse behaviours, and a hundred benign ones that look like them."""

from __future__ import annotations

from titer.worlds.datasets._lists import judged_by

__all__ = ["SETS"]

SETS = (
    judged_by(
        "jailbreakbench",
        "strongreject",
        summary="a hundred requests that a model should decline, and a hundred benign twins",
        source="Chao et al. 2024, arXiv:2404.01318",
        departs="no jailbreak artefacts: the goals as they stand",
    ),
)
