"""Limits on time and memory, held by a child process."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import psutil
import pytest

from titer.core.errors import BadInput
from titer.core.trying import TIMEOUT, VARIABLE, load_timeout, tried

pytestmark = pytest.mark.exact


def _busy() -> str:
    while True:
        pass


def _asleep() -> str:
    time.sleep(60)
    return ""


def _hungry() -> str:
    return "a" * 2**40


def _hungry_within() -> str:
    try:
        return _hungry()
    except MemoryError as error:
        raise RuntimeError("something else") from error


def _aborts() -> str:
    os.abort()


def _fails() -> str:
    raise ValueError("the real work says it better")


def _children() -> set[int]:
    return {child.pid for child in psutil.Process().children()}


@pytest.mark.parametrize(
    ("work", "said"),
    [
        (_busy, "takes more than 0.3 seconds"),
        (_asleep, "takes more than 0.3 seconds"),
        (_hungry, "takes more than 4 GiB"),
        (_hungry_within, "takes more than 4 GiB"),
        (_aborts, "SIGABRT"),
        (lambda: "it is odd.", "^it is odd.$"),
        (lambda: "é" * 100_000, "é"),
    ],
)
def test_what_does_not_end_well_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, work: Callable[[], str], said: str
) -> None:
    monkeypatch.setenv(VARIABLE, "0.3")
    started, before = time.monotonic(), _children()
    with pytest.raises(BadInput, match=said) as caught:
        tried(work, "the model m")
    assert time.monotonic() - started < 20
    assert len(caught.value.faults) == 1
    assert _children() <= before, "a child is left behind"


def test_what_ends_or_fails_passes_and_changes_nothing() -> None:
    kept: list[int] = []
    tried(lambda: kept.append(1), "x")
    tried(_fails, "x")
    assert kept == []


def test_the_limit_is_what_was_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert load_timeout() == TIMEOUT
    monkeypatch.setenv(VARIABLE, "2.5")
    assert load_timeout() == 2.5
    for said in ("nan", "inf", "-1", "0", "soon", "1e9"):
        monkeypatch.setenv(VARIABLE, said)
        with pytest.raises(BadInput, match=VARIABLE):
            load_timeout()
