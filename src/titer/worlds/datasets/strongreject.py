"""StrongREJECT: requests to which an answer of use is known to exist."""

from __future__ import annotations

from titer.worlds.datasets._lists import judged_by

__all__ = ["SETS"]

SETS = (
    judged_by(
        "strongreject",
        "jailbreakbench",
        summary="313 requests that a model should decline, in six categories",
        source="Souly et al. 2024, arXiv:2402.10260",
        departs="no jailbreaks, and not its rubric unless that judge is chosen",
    ),
)
