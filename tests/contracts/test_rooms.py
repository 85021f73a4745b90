"""The house stays readable: few floors in an upper room, and no module imports in a circle."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import titer

ROOT = Path(titer.__file__).parent
FLOORS = 4
UPPER = (
    "api",
    "checks",
    "cli",
    "evidence",
    "executors",
    "pillars",
    "plan",
    "report",
    "run",
    "trial",
    "verdict",
    "verify",
)


@cache
def modules() -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in ROOT.rglob("*.py"):
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(tree: ast.AST) -> Iterator[str]:
    """What a module imports when it is loaded or when a function of it is called. What it names for
    editors alone is no import."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for name in node.names:
                yield f"{node.module}.{name.name}"
                yield node.module
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        else:
            yield from imported(node)


def closest(names: Iterator[str]) -> Iterator[str]:
    """The modules among them; a package that is named only as the place of a module is none."""
    told = list(names)
    for name in told:
        inner = any(other.startswith(f"{name}.") and other in modules() for other in told)
        if name in modules() and not inner:
            yield name


@cache
def graph() -> dict[str, frozenset[str]]:
    """Each module and those that it imports, the root that hands out names left out."""
    return {
        name: frozenset(closest(imported(ast.parse(path.read_text("utf-8"))))) - {name, "titer"}
        for name, path in modules().items()
        if name != "titer"
    }


def floors(room: str, arrows: dict[str, frozenset[str]]) -> int:
    """How many modules of a room stand on each other at most."""
    inside = {
        name: {one for one in found if one.startswith(f"titer.{room}.")}
        for name, found in arrows.items()
        if name.startswith(f"titer.{room}.")
    }
    height: dict[str, int] = {}
    for name in TopologicalSorter(inside).static_order():
        height[name] = 1 + max((height[one] for one in inside[name]), default=0)
    return max(height.values())


@pytest.mark.parametrize("room", UPPER)
def test_an_upper_room_has_at_most_four_floors(room: str) -> None:
    assert 1 <= floors(room, graph()) <= FLOORS


def test_no_module_imports_in_a_circle() -> None:
    try:
        TopologicalSorter(graph()).prepare()
    except CycleError as error:
        pytest.fail(f"imports in a circle: {' -> '.join(error.args[1])}")


def test_one_floor_too_many_is_seen() -> None:
    tower = {f"titer.trial.m{k}": frozenset({f"titer.trial.m{k - 1}"}) for k in range(1, 5)}
    assert floors("trial", {**tower, "titer.trial.m0": frozenset()}) == FLOORS + 1


def test_an_import_inside_a_function_counts() -> None:
    source = "def f():\n    from titer.core import records\n    return records\n"
    assert list(closest(imported(ast.parse(source)))) == ["titer.core.records"]
