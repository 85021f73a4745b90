"""How large a number may be that somebody gives: one list, for the command line and for Python.

A number outside is a slip, or meant to stop the machine: a billion seeds are refused at once, and
not after an hour.
"""

from __future__ import annotations

from dataclasses import dataclass

from titer.core.errors import BadInput

__all__ = ["BOUNDS", "Bounds", "require_number"]


@dataclass(frozen=True, slots=True)
class Bounds:
    """The numbers that are allowed, both ends among them unless ``above``: then not the lower."""

    low: float
    high: float
    above: bool = False
    what: str = "a number"

    def __contains__(self, value: float) -> bool:
        """NaN is in no range."""
        return (value > self.low if self.above else value >= self.low) and value <= self.high

    def said(self) -> str:
        """``give a number above 0 and up to 1``."""
        if self.above:
            return f"give {self.what} above {_plain(self.low)} and up to {_plain(self.high)}"
        return f"give {self.what} from {_plain(self.low)} to {_plain(self.high)}"


_WHOLE = "a whole number"
_STEPS = Bounds(1, 10_000_000, what=_WHOLE)
_RATE = Bounds(0, 100, above=True)

BOUNDS = {
    "adversary_lr": _RATE,
    "block": _STEPS,
    "blocks": Bounds(1, 100_000, what=_WHOLE),
    "cap": _STEPS,
    "exam": _STEPS,
    "load_timeout": Bounds(0, 86_400, above=True, what="seconds"),
    "lr": _RATE,
    "near": Bounds(0, 1, above=True, what="a share"),
    "rank": Bounds(1, 65_536, what=_WHOLE),
    "ratio": Bounds(0, 1_000, above=True),
    "sample": Bounds(0, 1, above=True, what="a share"),
    "save_every": _STEPS,
    "seed": Bounds(0, 2**63 - 1, what=_WHOLE),
    "seeds": Bounds(1, 1_000, what=_WHOLE),
    "shares": Bounds(0, 1, what="a share"),
    "steps": _STEPS,
    "timeout": Bounds(0, 31_536_000, above=True, what="seconds"),
    "width": Bounds(20, 1_000, what="millimetres"),
    "workers": Bounds(1, 1_024, what=_WHOLE),
}
"""By the name of the argument. What is more than a range is said where it is used."""


def require_number(name: str, value: float, said: str = "") -> None:
    """Refuse a number that is none, infinite, or out of its range.

    Args:
        name: The argument, a key of :data:`BOUNDS`.
        value: What came.
        said: What the argument is called where it was given; the option of that name by default.

    Raises:
        BadInput: it is out of range.
        KeyError: nobody has said what is allowed, which is a fault of ours.
    """
    allowed = BOUNDS[name]
    if value not in allowed:
        raise BadInput(f"{said or '--' + name} {_plain(value)}: {allowed.said()}.")


def _plain(value: float) -> str:
    """A number in few signs, however many digits it has."""
    if isinstance(value, int):
        return str(value) if abs(value) < 10**20 else "of more than 20 digits"
    return f"{value:g}"
