"""BeaverTails: questions with answers that people labelled safe or unsafe."""

from __future__ import annotations

from titer.core.data import World
from titer.worlds.datasets import _beside, _requests
from titer.worlds.datasets._deal import dealt
from titer.worlds.datasets._published import Published, Tables, Tally

__all__ = ["SETS"]


_SHARES = {"defend": 0.45, "attack": 0.45, "select": 0.025, "report": 0.075}
"""Every judged request is answered at every checkpoint: 300 of 4,000 are enough."""


def _build(tables: Tables, tally: Tally) -> World:
    unsafe, safe = _requests.labelled(tables["beavertails"], tally)
    some = _requests.first(unsafe, "unsafe answers of beavertails", tally)
    return _requests.world("beavertails", dealt("beavertails", some, _SHARES), safe, tables, tally)


SETS = (
    Published(
        name="beavertails",
        summary="27,000 questions with answers, labelled safe or unsafe in 14 categories",
        source="Ji et al. 2023, arXiv:2307.04657",
        tables={**_requests.BEAVERTAILS, **_requests.OR_BENCH, **_beside.TABLES},
        roles={
            "hazards.*.defend": "45 % of 4,000 pairs labelled unsafe, by prompt",
            "hazards.*.attack": "45 %",
            "hazards.*.select": "2.5 %",
            "hazards.*.report": "7.5 %; harm is compliance",
            **_requests.BENIGN,
        },
        facts="no prompt and no near-duplicate of one is in two splits",
        unasked=_requests.NO_FACTS,
        departs="the 30k release; rows whose labels contradict each other are left out",
        build=_build,
    ),
)
