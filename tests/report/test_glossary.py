"""Terms are explained where they stand, and each from the one glossary."""

from __future__ import annotations

import re

from made_verdict import study

from titer.report import html
from titer.report.glossary import TERMS, term_of


def test_a_head_that_names_a_term_explains_it() -> None:
    page = html.render(study())
    found = re.findall(r'popovertarget="term-(\d+)" title="[^"]+">([^<]+)</button>', page)
    shown = {title: TERMS[int(at) - 1][0] for at, title in found}
    for title, term in (
        ("Threshold φ", "φ"),
        ("Worst harm", "worst harm W(B)"),
        ("Work factor", "work factor"),
        ("R*", "R*"),
        ("Came back", "came back (RTT)"),
        ("Benign steps", "benign steps"),
    ):
        assert shown[title] == term
    for at, _ in found:
        assert f'<div popover id="term-{at}"' in page


def test_a_head_that_names_none_is_left_alone() -> None:
    assert term_of("Model") == ""
    assert term_of("Worst harmony") == ""
