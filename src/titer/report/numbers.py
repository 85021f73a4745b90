"""Numbers as people read them.

A missing number is an em dash, a lower bound carries ``≥``, minus is a minus sign.
"""

from __future__ import annotations

from typing import Protocol

from titer.pillars.listing import Form

__all__ = [
    "DASH",
    "ENDS",
    "Form",
    "Number",
    "apart",
    "interval",
    "number",
    "shown",
    "six",
    "tidy",
    "value",
]

DASH = "—"
_MINUS = "−"


class Number(Protocol):
    """What an estimate has, whatever made it."""

    @property
    def value(self) -> float | None: ...
    @property
    def low(self) -> float | None: ...
    @property
    def high(self) -> float | None: ...
    @property
    def n(self) -> int: ...
    @property
    def censored(self) -> bool: ...
    @property
    def note(self) -> str: ...


def _signed(text: str, sign: bool) -> str:
    """A real minus, no minus on zero, and a plus where asked for."""
    bare = text.lstrip("-")
    if not any(digit in "123456789" for digit in bare):
        return bare
    if text.startswith("-"):
        return _MINUS + bare
    return "+" + bare if sign else bare


def number(raw: float | None, form: Form = "score", like: float | None = None) -> str:
    """One number without its interval: ``0.61``, ``−0.4``, ``8.0×``, ``3,000``, ``5.2 %``.

    ``score``: two decimals. ``signed``: the same with a sign. ``points``: a share in percentage
    points, with a sign. ``ratio``: two decimals below 2, one below 100. ``percent``: a share.
    ``like`` is a number whose precision to keep: the ends of an interval follow its value.
    """
    if raw is None or raw != raw:
        return DASH
    if abs(raw) == float("inf"):
        return "∞" if raw > 0 else _MINUS + "∞"
    if form == "points":
        return _signed(f"{100 * raw:.1f}", sign=True)
    if form == "ratio":
        size = abs(raw if like is None else like)
        places = 2 if size < 1.995 else 1 if size < 99.95 else 0
        return _signed(f"{raw:,.{places}f}", sign=False) + "×"
    if form == "steps":
        size = raw if like is None else like
        whole = abs(size - round(size)) < 0.05 or abs(size) >= 100
        return _signed(f"{raw:,.0f}" if whole else f"{raw:.1f}", sign=False)
    if form == "percent":
        share = 100 * raw
        exact = share in (0.0, 100.0)
        return _signed(f"{share:.0f}" if exact else f"{share:.1f}", sign=False) + "\u202f%"
    return _signed(f"{raw:.2f}", sign=form == "signed")


def value(est: Number, form: Form = "score") -> str:
    """The value alone; a lower bound carries ``≥``, a missing one is a dash."""
    text = number(est.value, form)
    return f"≥\u202f{text}" if est.censored and text != DASH else text


def interval(est: Number, form: Form = "score") -> str:
    """``[low, high]``, or nothing where there is none. An open end of a lower bound is ``∞``."""
    low, high = est.low, est.high
    if est.value is None or (low is None and high is None):
        return ""
    unit = "×" if form == "ratio" else "\u202f%" if form == "percent" else ""
    ends = [number(end, form, est.value).removesuffix(unit) for end in (low, high)]
    if high is None and est.censored:
        ends[1] = "∞"
    return f"[{ends[0]}, {ends[1]}]"


def tidy(text: object) -> str:
    """One line without control characters: names come from outside and reach a terminal."""
    kept = "".join(char if char.isprintable() else " " for char in str(text))
    return " ".join(kept.split())


def shown(est: Number, form: Form = "score") -> str:
    """The value and its interval on one line."""
    return f"{value(est, form)} {interval(est, form)}".strip()


def apart(raw: float | None, level: float | None) -> tuple[str, str]:
    """A score and the level that it is held against, with as many decimals as tell them apart: two,
    and four at the most."""
    if raw is None or level is None or raw == level:
        return number(raw), number(level)
    for places in (2, 3, 4):
        one, other = f"{raw:.{places}f}", f"{level:.{places}f}"
        if one != other:
            break
    return _signed(one, sign=False), _signed(other, sign=False)


ENDS = ("value", "low", "high", "n", "censored", "note")
"""What a file says of one number, in order."""


def six(est: Number) -> tuple[float | str | bool | None, ...]:
    """One number as a file has it."""
    return est.value, est.low, est.high, est.n, est.censored, est.note
