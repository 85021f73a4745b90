"""``import titer``: about twenty names, and nothing slow before one is asked for."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import titer
from titer.core import catalogue
from titer.core.errors import UnknownName

SOURCE = Path(titer.__file__)


def _alone(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(SOURCE.parents[1]), "PATH": "/usr/bin:/bin"},
    )
    return done.stdout.strip()


def test_import_loads_nothing_slow() -> None:
    code = (
        "import sys; before = set(sys.modules); import titer; dir(titer); "
        "slow = {'torch', 'numpy', 'transformers', 'scipy', 'pydantic', 'yaml', 'typer'}; "
        "found = set(sys.modules) - before; "
        "print(sorted(n for n in found if n in slow or n.startswith('titer.')))"
    )
    assert _alone(code) == "[]"


def test_cards_and_lists_need_no_torch() -> None:
    code = (
        "import sys, titer; titer.methods('attack'); titer.Budget, titer.World, titer.BadInput; "
        "print('torch' in sys.modules)"
    )
    assert _alone(code) == "False"


def test_every_public_name_is_there_and_named_to_editors() -> None:
    tree = ast.parse(SOURCE.read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    shown = {
        alias.asname or alias.name: (line.module, alias.name)
        for line in block.body
        if isinstance(line, ast.ImportFrom)
        for alias in line.names
    }
    assert sorted(titer.__all__) == sorted(shown)
    assert set(titer.__all__) <= set(dir(titer))
    for name, (module, there) in shown.items():
        found = getattr(titer, name)
        assert module is not None
        assert found is getattr(sys.modules[module], there)
        assert found.__doc__, f"{name} says nothing of itself"


def test_another_name_is_an_ordinary_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'attak'"):
        titer.attak  # noqa: B018


def test_methods_and_cards() -> None:
    assert [one.name for one in titer.methods("attack")] == catalogue.names("attack")
    assert titer.card("attack", "finetune") is catalogue.card("attack", "finetune")
    with pytest.raises(UnknownName, match=r"no kind 'atack'.*'attack'.*defence, measure"):
        titer.methods("atack")  # type: ignore[arg-type]
    with pytest.raises(titer.BadInput, match="Did you mean 'gcg'"):
        titer.card("attack", "gccg")
