"""What the packages export is there, costs nothing until it is used, and is what it seems."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PACKAGES = ("titer.core", "titer.nn", "titer.train")


@pytest.mark.parametrize("name", [*PACKAGES, "titer.method"])
def test_every_export_is_there(name: str) -> None:
    package: Any = importlib.import_module(name)
    for one in package.__all__:
        assert getattr(package, one) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        package.nothing  # noqa: B018


@pytest.mark.parametrize("name", PACKAGES)
def test_an_export_is_not_taken_for_a_module(name: str) -> None:
    """``titer.train.unlearn`` is a module, and would take the place of the function it holds."""
    package: Any = importlib.import_module(name)
    modules = {path.stem for path in Path(package.__file__).parent.glob("*.py")}
    assert not modules & set(package.__all__)


def test_packages_import_no_torch_until_they_are_used() -> None:
    code = (
        "import sys, titer.core, titer.nn, titer.train; assert 'torch' not in sys.modules;"
        "from titer.train import fit, retain_loss; from titer.core import LM, Run, build;"
        "assert fit.__module__ == 'titer.train.loop'; assert 'torch' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_names_of_a_method_are_those_of_core() -> None:
    from titer import method
    from titer.core.errors import BadInput
    from titer.core.lm import LM
    from titer.core.method import Run

    assert (method.BadInput, method.LM, method.Run) == (BadInput, LM, Run)
