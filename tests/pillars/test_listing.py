"""The table of pillars is what the folder says."""

from __future__ import annotations

import sys
from dataclasses import fields
from pathlib import Path

import pytest

import titer.pillars
from titer.pillars.listing import listed
from titer.verdict.parts import Pillars


def test_every_pillar_is_one_of_the_verdict_s_with_its_numbers() -> None:
    results = {spec.name: spec for spec in fields(Pillars)}
    assert sorted(listed()) == sorted(results)
    for name, pillar in listed().items():
        module = sys.modules[f"titer.pillars.{name}"]
        known = {spec.name for spec in fields(getattr(module, pillar.title))}
        assert {number.key for number in pillar.numbers} <= known
    places = [pillar.place for pillar in listed().values()]
    assert places == sorted(set(places))


def test_a_pillar_in_another_folder_is_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "patience.py").write_text(
        "from titer.pillars.listing import Number, Pillar\n"
        "PILLAR = Pillar(title='Patience', place=9, numbers=(\n"
        "    Number(key='days', title='Days', form='steps', says='of an attacker'),))\n"
    )
    monkeypatch.setattr(titer.pillars, "__path__", [*titer.pillars.__path__, str(tmp_path)])
    assert list(listed())[-1] == "patience"
    assert listed()["patience"].title == "Patience"
    sys.modules.pop("titer.pillars.patience")
