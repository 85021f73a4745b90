"""The pillars of a verdict are what the folder says."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import titer.pillars
from titer.pillars.listing import listed


def test_every_pillar_has_the_numbers_that_it_shows() -> None:
    for one in listed().values():
        known = {spec.name for spec in fields(one.kind)}
        assert {number.key for number in one.pillar.numbers} <= known
    places = [one.pillar.place for one in listed().values()]
    assert places == sorted(set(places))


def test_each_file_with_a_pillar_is_the_pillar_of_its_name() -> None:
    folder = Path(titer.pillars.__path__[0])
    own = {path.stem for path in folder.glob("*.py") if "\nPILLAR = " in path.read_text()}
    assert set(listed()) == own
    assert {"resistance", "erasure", "stability", "generalisation", "trainability"} <= own
