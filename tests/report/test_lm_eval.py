"""lm-eval's results stand beside a study's utility and change nothing else."""

from __future__ import annotations

NAMES = ["base", "npo", "rmu"]
