"""The page of the study of a real model, from made findings."""

from __future__ import annotations

import pytest
from studies.real import came_back, page

WALK = {
    "utility": {"capitals": [1.0, 1.0], "words": [0.9, 0.8]},
    "seconds": 200.4,
    "steps": 24,
    "flags": [],
}


@pytest.mark.parametrize(
    ("before", "after", "undefended", "share"),
    [
        (0.3, 0.3, 0.9, 0.0),
        (0.3, 0.9, 0.9, 1.0),
        (0.3, 0.6, 0.9, 0.5),
        (0.85, 0.9, 0.9, None),  # nothing was hidden
        (0.9, 0.9, 0.9, None),
    ],
)
def test_the_share_that_came_back(
    before: float, after: float, undefended: float, share: float | None
) -> None:
    assert came_back(before, after, undefended) == (share and pytest.approx(share))


def test_the_page_says_what_was_run_and_what_was_doubted() -> None:
    walks = {
        ("places", "", 0): {**WALK, "harm": [0.9, 0.9, 0.9, 0.9], "seconds": None, "steps": None},
        ("places", "npo", 0): {**WALK, "harm": [0.3, 0.4, 0.5, 0.6], "flags": ["barely moved"]},
    }
    text = "\n".join(page({"places": [0.9, 54]}, walks, {}))
    assert "| places | 0.90 | 54 |" in text
    assert "| places | npo | 0 | 0.30 | 0.40 | 0.50 | 0.60 | 0.50 | 0.90 | 24, 200 |" in text
    assert "| places | none | 0 | 0.90 | 0.90 | 0.90 | 0.90 | – | 0.90 | – |" in text
    assert "npo on places, seed 0: barely moved." in text
    assert "Verdict" not in text
