"""What there is: read from file names and literals, so that no torch is imported."""

from __future__ import annotations

from typing import Any

from titer.cli.output import console
from titer.core import catalogue
from titer.core.errors import UnknownName, nearest
from titer.core.printable import printable
from titer.core.records import Kind

__all__ = ["listing", "machine_text", "table"]

_KINDS: dict[str, Kind] = {"attacks": "attack", "defences": "defence", "measures": "measure"}
_SAYS = {
    "attacks": "ways to bring harm out of a model",
    "defences": "ways to make a model harder to turn",
    "measures": "what a model is judged by, and what is looked for inside it",
    "presets": "attacks and defences with their settings, as S03",
    "models": "the organisms of the testbed",
    "suites": "sets of adversaries that `titer bench` runs",
    "worlds": "the data of an experiment",
    "data": "public data sets that --data takes by name",
}
_ALL = tuple(_SAYS)
_ALSO = {"attack": "attacks", "defence": "defences", "defenses": "defences", "measure": "measures"}


def listing(kind: str) -> list[dict[str, Any]]:
    """Rows for ``titer list KIND``.

    Raises:
        UnknownName: no such kind.
    """
    kind = _ALSO.get(kind, kind)
    if kind in _KINDS:
        return [
            {
                "name": row.name,
                "summary": row.summary,
                "source": row.source,
                "access": row.access,
                "version": row.version,
                "settings": list(row.settings),
                "presets": list(row.presets),
            }
            for row in catalogue.summaries(_KINDS[kind])
        ]
    if kind == "presets":
        return [
            {"name": name, "of": method, "kind": which}
            for which in ("attack", "defence")
            for name, method in catalogue.presets(which).items()
        ]
    if kind == "models":
        return _models()
    if kind == "suites":
        from titer.plan.suites import SUITES

        return [
            {"name": name, "version": suite.version, "rows": [row.id for row in suite.rows]}
            for name, suite in SUITES.items()
        ]
    if kind == "worlds":
        return [
            {"name": "fabula", "summary": "the embedded synthetic testbed"},
            {"name": "almanac", "summary": "real public knowledge, for models that people use"},
            {"name": "FOLDER", "summary": "your own data: a folder with a data.yaml"},
            {"name": "NAME", "summary": "a public data set: one of `titer list data`"},
        ]
    if kind == "data":
        from titer.cli.published import listed

        return listed()
    if kind == "kinds":
        return [{"name": name, "summary": says} for name, says in _SAYS.items()]
    raise UnknownName(f"no list named {kind!r}.{nearest(kind, _ALL)} There are {', '.join(_ALL)}.")


def _models() -> list[dict[str, Any]]:
    from titer.worlds import organisms

    return [
        {
            "name": organisms.named(kind, size),
            "parameters": spec.parameters,
            "grown": organisms.cached(kind, size) is not None,
            "summary": organisms.KINDS[kind],
        }
        for size, spec in organisms.SIZES.items()
        for kind in organisms.KINDS
    ]


def table(rows: list[dict[str, Any]]) -> str:
    """Rows as text in columns, wrapped to the terminal; settings and presets are on the card."""
    from rich.table import Table
    from rich.text import Text

    if not rows:
        return "none"
    columns = [name for name in rows[0] if name not in {"settings", "presets"}]
    drawn = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        drawn.add_column(name, no_wrap=name == "name", justify="left")
    for row in rows:
        drawn.add_row(*(Text(printable(_cell(row.get(name)))) for name in columns))
    screen = console()
    with screen.capture() as capture:
        screen.print(drawn)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return " ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) else str(value)


def machine_text(found: dict[str, Any]) -> str:
    """The machine for the terminal, ending in what is wrong with it."""
    wrong = [name for name, version in found["packages"].items() if version == "missing"]
    wrong += [] if found["arithmetic"] or wrong else ["a torch that runs"]
    lines = [f"{key}: {value}" for key, value in found.items() if key != "packages"]
    lines += [f"{name}: {version}" for name, version in found["packages"].items()]
    lines.append(f"missing: {', '.join(wrong)}" if wrong else "all well")
    return "\n".join(lines)
