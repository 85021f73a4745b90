"""The study of organisms: its figures on organisms that know nothing, and its table."""

from __future__ import annotations

import json

from studies import organisms as study
from titer.worlds import organisms
from titer.worlds.fabula import fabula


def test_the_table_on_file_is_of_the_record() -> None:
    record = json.loads(study.RECORD.read_text(encoding="utf-8"))
    assert study.table(record) in study.RECORD.with_suffix(".md").read_text(encoding="utf-8")


def test_every_figure_is_a_share() -> None:
    """The oracle in every place: nobody knows the hazard, and all know the rest. What trains is
    held to its bounds with the organisms."""
    from titer.core.lm import LM

    oracle = LM.load(organisms.organism("oracle"))
    one = study.Organisms(0, fabula(0), dict.fromkeys(organisms.REFERENCES, oracle))
    found = dict(study.PARTS["known"](one))
    assert all(0 <= value <= 1 for value in found.values())
    assert found["base: V"] == found["oracle: V"] < 0.37
    assert found["base: V of B"] > 0.95
