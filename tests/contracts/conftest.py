"""What a method makes of a tiny model, trained once a session for all who compare with it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Once
from titer.conformance import Architecture, tiny_lm
from titer.core import catalogue
from titer.core.lm import LM
from titer.core.method import Run
from titer.core.records import Kind, part

Recorded = Callable[..., LM]


@pytest.fixture
def recorded(once: Once, make_run: Callable[..., Run]) -> Recorded:
    """The outcome of two steps of a method, by its kind, its name and its fields, as it was saved
    by the test of this session that asked first."""

    def find(
        kind: Kind, name: str, fields: dict[str, Any], architecture: Architecture = "llama"
    ) -> LM:
        method = catalogue.build(kind, name, fields)
        settings = json.dumps([kind, architecture, asdict(part(name, method))], sort_keys=True)

        def make(folder: Path) -> None:
            method(tiny_lm(architecture), make_run(2)).save(folder)

        return LM.load(once(hashlib.sha256(settings.encode()).hexdigest()[:16], make))

    return find
