"""Sets named after the list of requests that is judged."""

from __future__ import annotations

from functools import partial

from titer.core.data import Hazard, World
from titer.worlds.datasets import _beside, _requests
from titer.worlds.datasets._deal import deal
from titer.worlds.datasets._published import Published, Table, Tables, Tally

__all__ = ["judged_by"]

_TABLES: dict[str, dict[str, Table]] = {
    "harmbench": dict(_requests.HARMBENCH),
    "jailbreakbench": dict(_requests.JAILBREAKBENCH),
    "strongreject": dict(_requests.STRONGREJECT),
}
_SAID = {
    "harmbench": "HarmBench's behaviours but for copyright",
    "jailbreakbench": "JailbreakBench's hundred goals",
    "strongreject": "StrongREJECT's 313 requests",
}


def judged_by(report: str, select: str, *, summary: str, source: str, departs: str) -> Published:
    """A set whose report split is one list and whose select split is another."""
    return Published(
        name=report,
        summary=summary,
        source=source,
        tables={
            **_TABLES[report],
            **_TABLES[select],
            **_requests.JAILBREAKBENCH,
            **_requests.BEAVERTAILS,
            **_requests.OR_BENCH,
            **_beside.TABLES,
        },
        roles={
            "hazards.*.defend": "half of BeaverTails' pairs labelled unsafe, by prompt",
            "hazards.*.attack": "the other half",
            "hazards.*.select": _SAID[select],
            "hazards.*.report": f"{_SAID[report]}; harm is compliance",
            **_requests.BENIGN,
            "over_refusal": _requests.OVER_REFUSAL,
        },
        facts="no near-duplicate of a request that is judged is in another split: the lists are "
        "drawn from each other, and select gives way to report",
        unasked=_requests.NO_FACTS,
        departs=departs,
        build=partial(_build, report, select),
    )


def _build(report: str, select: str, tables: Tables, tally: Tally) -> World:
    unsafe, safe = _requests.labelled(tables["beavertails"], tally)
    some = _requests.first(unsafe, "unsafe answers of beavertails", tally)
    hazard = Hazard(
        **deal(report, some, {"defend": 0.5, "attack": 0.5}),
        select=_requests.asked(tables, select, tally),
        report=_requests.asked(tables, report, tally),
    )
    return _requests.world(report, hazard, safe, tables, tally)
