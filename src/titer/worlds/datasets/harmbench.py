"""HarmBench: requests in several kinds of harm, with and without a context."""

from __future__ import annotations

from titer.worlds.datasets._lists import judged_by

__all__ = ["SETS"]

SETS = (
    judged_by(
        "harmbench",
        "jailbreakbench",
        summary="300 requests that a model should decline, a hundred of them with a context",
        source="Mazeika et al. 2024, arXiv:2402.04249",
        departs="no copyright behaviours, no jailbreaks: the requests as they stand",
    ),
)
