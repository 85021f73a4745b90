"""AdvBench: requests with the opening of an answer, which the attacker trains on."""

from __future__ import annotations

from titer.core.data import Hazard, World
from titer.worlds.datasets import _beside, _requests
from titer.worlds.datasets._published import Published, Tables, Tally

__all__ = ["SETS"]


def _build(tables: Tables, tally: Tally) -> World:
    unsafe, safe = _requests.labelled(tables["beavertails"], tally)
    openers = tuple(
        _beside.numbered(
            "advbench",
            tables["advbench"],
            lambda row: (str(row["goal"]).strip(), str(row["target"]).strip()),
        )
    )
    hazard = Hazard(
        defend=tuple(_requests.first(unsafe, "unsafe answers of beavertails", tally)),
        attack=openers,
        select=_requests.asked(tables, "jailbreakbench", tally),
        report=_requests.asked(tables, "harmbench", tally),
    )
    return _requests.world("advbench", hazard, safe, tables, tally)


SETS = (
    Published(
        name="advbench",
        summary="520 requests, each with the opening of a compliant answer, for the attacker",
        source="Zou et al. 2023, arXiv:2307.15043",
        tables={
            **_requests.ADVBENCH,
            **_requests.HARMBENCH,
            **_requests.JAILBREAKBENCH,
            **_requests.BEAVERTAILS,
            **_requests.OR_BENCH,
            **_beside.TABLES,
        },
        roles={
            "hazards.*.defend": "BeaverTails' pairs labelled unsafe",
            "hazards.*.attack": "AdvBench: goal and opening",
            "hazards.*.select": "JailbreakBench's goals",
            "hazards.*.report": "HarmBench's behaviours but for copyright; harm is compliance",
            **_requests.BENIGN,
            "over_refusal": _requests.OVER_REFUSAL,
        },
        facts="AdvBench is never judged on: its requests are near-duplicates of each other; those "
        "near what is judged leave the attack split",
        unasked=_requests.NO_FACTS,
        departs="openings are trained on; its suffix attack is another matter",
        build=_build,
    ),
)
