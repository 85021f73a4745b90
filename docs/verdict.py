"""Write `docs/reference/verdict.md` from the types themselves: ``python docs/verdict.py``."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from titer.core.codec import Keyed
from titer.core.units import Unit
from titer.pillars.listing import ByName, listed
from titer.verdict.parts import Verdict

PAGE = Path(__file__).parent / "reference" / "verdict.md"
HEAD = """# The verdict

Written from the types by `python docs/verdict.py`. `report/verdict.json` in a run folder holds this
value; in Python, `titer.read("runs/mine")` and `titer.bench(...)` return it:

<!-- not run: it needs a run folder -->
```python
verdict = titer.read("runs/mine")
verdict["npo"].resistance.weak.interval
verdict["npo"].attacks["P02"].outcome
verdict.to_frame()
```

In JSON a mapping marked *list* is a list of its values, each of which holds its key. A number that
is not known is null, and its note says why. Fields marked *printed* are made of the others: they
are for people, and are not read back.
"""


def page() -> str:
    """The reference of the verdict, as Markdown."""
    return HEAD + "".join(_section(kind) for kind in _reached(Verdict))


def _reached(kind: type[Any], seen: set[type[Any]] | None = None) -> Iterator[type[Any]]:
    """A type and all that its fields are made of, each once, from the outside in."""
    seen = set() if seen is None else seen
    if kind in seen:
        return
    seen.add(kind)
    yield kind
    for hint in get_type_hints(kind, include_extras=True).values():
        for part in _parts(hint):
            yield from _reached(part, seen)


def _parts(hint: Any) -> Iterator[type[Any]]:
    if _marked(hint, ByName):
        yield from (one.kind for one in listed().values())
    if is_dataclass(hint) and isinstance(hint, type):
        yield hint
    for inner in get_args(hint):
        yield from _parts(inner)


def _marked(hint: Any, mark: type[Any]) -> bool:
    return any(isinstance(one, mark) for one in getattr(hint, "__metadata__", ()))


def _section(kind: type[Any]) -> str:
    hints = get_type_hints(kind, include_extras=True)
    text = (
        f"\n## {kind.__name__}\n\n{_prose(kind)}\n\n| field | type | unit |\n| --- | --- | --- |\n"
    )
    for spec in fields(kind):
        hint = hints[spec.name]
        marked = " (*list*)" if _marked(hint, Keyed) else ""
        text += f"| `{spec.name}` | {_shown(hint)}{marked} | {_unit(hint)} |\n"
    for name in getattr(kind, "PRINTED", ()):
        text += f"| `{name}` | text (*printed*) | |\n"
    return text


def _prose(kind: type[Any]) -> str:
    text = inspect.cleandoc(kind.__doc__ or "")
    text = re.sub(r":\w+:`~?([^`]+)`", lambda found: f"`{found[1].split('.')[-1]}`", text)
    return text.replace("``", "`")


_PLAIN = {str: "text", int: "whole number", float: "number", bool: "true or false"}


def _shown(hint: Any) -> str:
    if hint is type(None):
        return "null"
    if hint is Any:
        return "anything"
    if hint in _PLAIN:
        return _PLAIN[hint]
    if is_dataclass(hint) and isinstance(hint, type):
        return f"[{hint.__name__}](#{hint.__name__.lower()})"
    origin, inner = get_origin(hint), get_args(hint)
    if _marked(hint, ByName):
        return ", ".join(f"`{name}` {_shown(one.kind)}" for name, one in listed().items())
    if hasattr(hint, "__metadata__"):
        return _shown(inner[0])
    if origin is Literal:
        return ", ".join(f"`{one}`" for one in inner)
    if origin is tuple:
        several = inner[-1] is Ellipsis
        return f"list of {_shown(inner[0])}" if several else ", ".join(map(_shown, inner))
    if origin is not None and len(inner) == 2 and inner[0] is str:
        return f"{_shown(inner[1])} by name"
    return " or ".join(map(_shown, inner))


def _unit(hint: Any) -> str:
    for mark in getattr(hint, "__metadata__", ()):
        if isinstance(mark, Unit):
            return mark.words
    return next((found for inner in get_args(hint) if (found := _unit(inner))), "")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    sys.stdout.write(f"{PAGE}\n")
