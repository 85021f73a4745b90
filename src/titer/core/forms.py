"""How a number is written, by the name of its form."""

from __future__ import annotations

from typing import Literal

__all__ = ["Form"]

Form = Literal["score", "signed", "points", "ratio", "steps", "percent"]
"""``score``: two decimals; ``signed``: the same with a sign; ``points``: a share in percentage
points, with a sign; ``ratio``: a multiple; ``steps``: a count; ``percent``: a share."""
