"""A verdict in a notebook: the strip, the four pillars and one figure, without a script.

The style is written onto the fragment and takes the notebook's own colours, so that it can be read
on a light ground and on a dark one. Texts are escaped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from titer.report import _paper
from titer.report.columns import COLUMNS
from titer.report.glossary import term_of
from titer.report.models import in_order
from titer.report.numbers import interval, value
from titer.report.sections import pareto, strip
from titer.verdict.parts import Verdict, Word

__all__ = ["fragment"]

_WORDS: Mapping[Word, str] = {
    "breached": "background:#b13f0a;color:#fff",
    "degraded": "background:#f7d48c;color:#3b2800",
    "held": "background:#d5e5f5;color:#0a3a63",
    "open": "border:1px dashed currentColor",
    "withheld": "border:1px dashed currentColor",
}
_CELL = "text-align:left;padding:3px 14px 3px 0;color:inherit;background:none;vertical-align:top"
_SOFT = "opacity:.7;font-size:85%;white-space:nowrap"
_WIDE = 120.0
"""Millimetres across the figure."""


def fragment(verdict: Verdict) -> str:
    """HTML for a cell's output."""
    found = strip.data(verdict)
    if found is None:
        return "<p>This verdict has no models.</p>"
    legend = "".join(
        f"<div style='{_SOFT};white-space:normal'>{mark} {word}: {escape(says)}.</div>"
        for word, mark, says in found.legend
    )
    glance = _table(
        found.heads,
        [
            (
                f"<b>{escape(line.name)}</b> {_soft(line.role)}",
                f"<b style='{_WORDS[line.word]};padding:1px 8px;border-radius:4px'>{line.word}</b>",
                escape(line.rise),
                line.phi_shown,
                escape(line.back_shown),
                escape(line.utility_shown),
                f"{line.valid} of {line.planned}",
            )
            for line in found.lines
        ],
    )
    pillars = _table(
        ("Model", *(column.title for column in COLUMNS)),
        [
            (
                f"<b>{escape(model.name)}</b>",
                *(
                    f"{escape(value(column.of(model), column.form))}<br>"
                    f"{_soft(interval(column.of(model), column.form))}"
                    for column in COLUMNS
                ),
            )
            for model in in_order(verdict)
        ],
    )
    figure = ""
    if rows := pareto.data(verdict):
        # Drawn for paper: it stands on white, whatever the notebook's ground is.
        drawn = _paper.to_svg(pareto.figures(rows)["harm-utility"], _WIDE)
        figure = f"<div style='background:#fff;display:inline-block;padding:8px'>{drawn}</div>"
    return f"<div>{glance}{legend}{pillars}{figure}</div>"


def _soft(text: str) -> str:
    return f"<span style='{_SOFT}'>{escape(text)}</span>"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """``heads`` are text that says what it means when it is pointed at, the fields of ``rows``
    markup."""
    told = ((head, term_of(head)) for head in heads)
    top = "".join(
        f"<th style='{_CELL}' title='{escape(term.says) if term else ''}'>{escape(head)}</th>"
        for head, term in told
    )
    body = "".join(
        f"<tr style='background:none'>{''.join(f'<td style={_CELL!r}>{one}</td>' for one in row)}"
        "</tr>"
        for row in rows
    )
    return (
        "<div style='overflow-x:auto;margin:.6em 0'><table style='border-collapse:collapse'>"
        f"<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
    )
