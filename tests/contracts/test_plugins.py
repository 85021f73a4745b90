"""An installed package adds a method by an entry point, and cannot do harm by it."""

from __future__ import annotations

import importlib.metadata
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from titer.conformance import NonConforming, check
from titer.core import catalogue
from titer.core.errors import BadInput, UnknownName
from titer.core.lm import LM
from titer.core.method import Run
from titer.core.records import Card

Install = Callable[..., None]


@dataclass(frozen=True, kw_only=True)
class Copy:
    """Give back a copy: the least a plug-in can do."""

    times: int = 1

    def __call__(self, lm: LM, run: Run) -> LM:
        run.look(lm)
        return lm.clone()


@dataclass(frozen=True, kw_only=True)
class Careless:
    """Give back the model itself."""

    def __call__(self, lm: LM, run: Run) -> LM:
        run.look(lm)
        return lm


def a_card(build: type[Any] = Copy, **facts: Any) -> Card:
    given = {"kind": "attack", "source": "nobody", "summary": "a copy", "family": "control"}
    return Card(build=build, **{**given, **facts})


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Install:
    """Pretend that a package with such a module is installed."""
    real = importlib.metadata.entry_points
    added: list[importlib.metadata.EntryPoint] = []

    def entry_points(**wanted: str) -> Any:
        mine = [entry for entry in added if entry.group == wanted.get("group")]
        return [*real(**wanted), *mine]

    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)

    def put(name: str, *, group: str = "titer.attacks", module: str = "", **content: Any) -> None:
        module = module or f"plugin_{name}"
        if content:
            made = types.ModuleType(module)
            made.__dict__.update(content)
            monkeypatch.setitem(sys.modules, module, made)
        added.append(importlib.metadata.EntryPoint(name=name, value=module, group=group))

    return put


def test_a_plugin_is_listed_loaded_built_and_checked(install: Install) -> None:
    install("copy_it", CARD=a_card())
    assert "copy_it" in catalogue.names("attack")
    assert "copy_it" not in catalogue.names("defence")
    (line,) = [line for line in catalogue.summaries("attack") if line.name == "copy_it"]
    assert line.plugin == "plugin_copy_it"
    assert catalogue.card("attack", "copy_it").build is Copy
    assert catalogue.build("attack", "copy_it", {"times": "3"}) == Copy(times=3)
    check("attack", "copy_it")


def test_listing_does_not_import_a_plugin(install: Install) -> None:
    install("absent", module="no_such_module_anywhere")
    assert "absent" in catalogue.names("attack")
    assert any(line.name == "absent" for line in catalogue.summaries("attack"))


@pytest.mark.parametrize(
    ("content", "module", "said"),
    [
        ({}, "no_such_module_anywhere", "does not import"),
        ({"nothing": 1}, "", "has no CARD"),
        ({"CARD": "a string"}, "", "has no CARD"),
        ({"CARD": a_card(kind="defence")}, "", "the card of a defence"),
    ],
)
def test_a_broken_plugin_says_what_is_wrong(
    install: Install, content: dict[str, Any], module: str, said: str
) -> None:
    install("broken", module=module, **content)
    with pytest.raises(BadInput, match=f"'broken'.*{said}"):
        catalogue.card("attack", "broken")


def test_a_careless_plugin_does_not_conform(install: Install) -> None:
    install("careless", CARD=a_card(Careless))
    with pytest.raises(NonConforming, match="shares memory"):
        check("attack", "careless")


def test_a_card_must_be_filled(install: Install) -> None:
    install("unsaid", CARD=a_card(source=" "))
    with pytest.raises(NonConforming, match="source is empty"):
        check("attack", "unsaid")


def test_a_plugin_cannot_take_the_place_of_a_method(install: Install) -> None:
    install("noop", CARD=a_card())
    assert catalogue.card("attack", "noop").build is not Copy
    assert catalogue.names("attack").count("noop") == 1
    assert all(not line.plugin for line in catalogue.summaries("attack"))


def test_a_plugin_counts_for_the_nearest_name(install: Install) -> None:
    install("copy_it", CARD=a_card())
    with pytest.raises(UnknownName, match="Did you mean 'copy_it'"):
        catalogue.card("attack", "copy_itt")
