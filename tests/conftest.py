"""What every test shares: one thread, no network, and models built in memory."""

from __future__ import annotations

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections.abc import Callable

import pytest
import torch

from titer.conformance import tiny_data, tiny_lm
from titer.core.data import Data
from titer.core.lm import LM
from titer.core.method import Run
from titer.core.records import Budget

torch.set_num_threads(1)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Refuse versions of pytest and xdist that do not group: what is made once for a group of tests
    would be made on every worker, without a word."""
    if not getattr(config.option, "loadgroup", False):
        return
    for item in items:
        if item.get_closest_marker("xdist_group") and "@" not in item.nodeid.rpartition("]")[2]:
            raise pytest.UsageError(
                "this pytest and this pytest-xdist do not group tests (xdist 3.8 does not with "
                "pytest 9.2); install requirements/dev.txt."
            )


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
