"""What there is: read from file names and literals, so that no torch is imported."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import asdict, fields
from importlib import metadata
from pathlib import Path
from typing import Any

from titer import __version__
from titer.core import catalogue
from titer.core.errors import UnknownName, nearest
from titer.core.records import Kind

__all__ = ["card_of", "card_text", "listing", "machine", "machine_text", "table"]

_KINDS: dict[str, Kind] = {"attacks": "attack", "defences": "defence", "measures": "measure"}
_ALL = (*_KINDS, "presets", "models", "suites", "worlds")
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
                "knobs": list(row.knobs),
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
        from titer.grid.suite import SUITES

        return [
            {"name": name, "version": suite.version, "rows": [row.id for row in suite.rows]}
            for name, suite in SUITES.items()
        ]
    if kind == "worlds":
        return [
            {"name": "fabula", "summary": "the embedded synthetic testbed"},
            {"name": "FOLDER", "summary": "your own data: a folder with a data.yaml"},
        ]
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
    """Rows as text in columns, wrapped to the terminal; knobs and presets are on the card."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if not rows:
        return "none"
    columns = [name for name in rows[0] if name not in {"knobs", "presets"}]
    drawn = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        drawn.add_column(name, no_wrap=name == "name", justify="left")
    for row in rows:
        drawn.add_row(*(Text(_cell(row.get(name))) for name in columns))
    console = Console(width=None if sys.stdout.isatty() else 140)
    with console.capture() as capture:
        console.print(drawn)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return " ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) else str(value)


def card_of(name: str) -> dict[str, Any]:
    """A method's or a preset's card as plain values.

    Raises:
        UnknownName: nothing in the catalogue has that name.
    """
    everything: list[str] = []
    for kind in ("attack", "defence", "measure"):
        known = catalogue.names(kind)
        rows = catalogue.presets(kind)
        everything += [*known, *rows]
        if name in known:
            found = catalogue.card(kind, name)
            return {
                "name": name,
                "kind": kind,
                "summary": found.summary,
                "source": found.source,
                "family": found.family,
                "access": found.access,
                "version": found.version,
                "departures": found.departures,
                "knobs": {spec.name: _default(spec) for spec in fields(found.build)},
                "presets": {row: preset.title for row, preset in found.presets.items()},
            }
        if name in rows:
            method, preset = catalogue.preset(kind, name)
            return {"name": name, "kind": f"preset of the {kind} {method}", **asdict(preset)}
    raise UnknownName(f"nothing is named {name!r}.{nearest(name, everything)}")


def _default(spec: Any) -> Any:
    value = spec.default
    return list(value) if isinstance(value, tuple) else value


def card_text(found: dict[str, Any]) -> str:
    """A card for the terminal."""
    lines = [f"{found['name']}, {found['kind']}"]
    for key, value in found.items():
        if key in {"name", "kind"} or value in ({}, ""):
            continue
        if isinstance(value, dict):
            lines.append(f"{key}:")
            lines += [f"  {name}: {item}" for name, item in value.items()]
        else:
            lines.append(f"{key}: {value}")
    return "\n".join(lines)


def machine() -> dict[str, Any]:
    """Versions, processor, cores, memory, free disk and caches of this machine."""
    from titer.worlds.organisms import cache_root

    versions: dict[str, str] = {}
    for name in ("torch", "transformers", "peft", "safetensors", "numpy", "scipy"):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "missing"
    cache = cache_root()
    at = next(folder for folder in (cache, *cache.parents) if folder.exists())
    pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return {
        "titer": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": _processor(),
        "arithmetic": _arithmetic(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(pages * size / 2**30, 1),
        "free_disk_gib": round(shutil.disk_usage(at).free / 2**30, 1),
        "cache": str(cache),
        "packages": versions,
        "device": os.environ.get("TITER_DEVICE", "cpu"),
        "threads": os.environ.get("OMP_NUM_THREADS", "not set; workers use one each"),
    }


def _arithmetic() -> str | None:
    """How this machine computes; None where torch does not run. Asked of another process where this
    one has not loaded torch: looking at a machine must work on one on which torch does not."""
    if "torch" in sys.modules:
        from titer.nn.arithmetic import arithmetic

        return arithmetic()
    code = "from titer.nn.arithmetic import arithmetic; print(arithmetic())"
    try:
        ended = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return ended.stdout.strip()


def _processor() -> str:
    """The processor's name, as the system gives it."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def machine_text(found: dict[str, Any]) -> str:
    """The machine for the terminal, ending in what is wrong with it."""
    wrong = [name for name, version in found["packages"].items() if version == "missing"]
    wrong += [] if found["arithmetic"] or wrong else ["a torch that runs"]
    lines = [f"{key}: {value}" for key, value in found.items() if key != "packages"]
    lines += [f"{name}: {version}" for name, version in found["packages"].items()]
    lines.append(f"missing: {', '.join(wrong)}" if wrong else "all well")
    return "\n".join(lines)
