"""What every test shares: one thread, no network, models built in memory, and what is made once.

Two markers choose what runs. ``slow`` keeps a test out of the fast tier: it takes more than five
seconds, or tells once more, of another architecture, what a fast test tells. ``exact`` keeps a test
out of the second pass of CI, in which another processor's arithmetic is set: what it asks for does
not hang on last bits.
"""

from __future__ import annotations

import os
import shutil

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from titer.conformance import tiny_data, tiny_lm
from titer.core.data import Data
from titer.core.files import locked
from titer.core.lm import LM
from titer.core.method import Run
from titer.core.records import Budget

torch.set_num_threads(1)


LONG = 5.0
"""Seconds of a processor from which on a test is marked slow."""
_BEGAN = pytest.StashKey[float]()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What takes long goes first, so that no worker is left with it at the end.

    Versions of pytest and xdist that do not group are refused: what is made once for a group of
    tests would be made on every worker, without a word.
    """
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
    if not getattr(config.option, "loadgroup", False):
        return
    for item in items:
        if item.get_closest_marker("xdist_group") and "@" not in item.nodeid.rpartition("]")[2]:
            raise pytest.UsageError(
                "this pytest and this pytest-xdist do not group tests (xdist 3.8 does not with "
                "pytest 9.2); install requirements/dev.txt."
            )


# -- which tests are slow without saying so: told, and never a reason to fail ----------------------


def _spent() -> float:
    """Seconds of a processor, children that have ended included: a busy machine does not add to
    them. What a pool of workers spends before it ends is not seen."""
    return sum(os.times()[:4])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    item.stash[_BEGAN] = _spent()
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report = yield
    if call.when == "teardown" and not item.get_closest_marker("slow"):
        report.user_properties.append(("spent", _spent() - item.stash[_BEGAN]))
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    found = {
        report.nodeid: seconds
        for reports in terminalreporter.stats.values()
        for report in reports
        for name, seconds in getattr(report, "user_properties", ())
        if name == "spent" and seconds > LONG
    }
    if found:
        terminalreporter.section("long and not marked slow")
    for test, seconds in sorted(found.items(), key=lambda one: -one[1]):
        terminalreporter.write_line(f"{seconds:6.1f} s  {test}")


# -- what is made once -----------------------------------------------------------------------------

Once = Callable[[str, Callable[[Path], object]], Path]


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Once:
    """A folder by name that one process of the session fills and all of them read; who changes
    something in it copies it first."""
    own = tmp_path_factory.getbasetemp()
    root = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own

    def made(name: str, make: Callable[[Path], object]) -> Path:
        folder, done = root / "once" / name, root / "once" / f"{name}.done"
        with locked(root / "once" / f"{name}.lock"):
            if not done.exists():
                # Made in its place, since some of what is made remembers where it lies.
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir(parents=True)
                make(folder)
                done.touch()
        return folder

    return made


@pytest.fixture
def lm() -> LM:
    """A small Llama of four blocks."""
    return tiny_lm()


@pytest.fixture
def data() -> Data:
    """Every split filled: ids start with alloy (harmful), river (retain), tower (related) or song
    (unrelated)."""
    return tiny_data()


@pytest.fixture
def make_run(data: Data) -> Callable[..., Run]:
    """A run of so many steps."""

    def make(steps: int = 3, **settings: object) -> Run:
        budget = settings.pop("budget", Budget(steps=steps))
        return Run(**{"budget": budget, "data": data, "seed": 5, **settings})

    return make
