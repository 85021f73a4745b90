"""RWKU: what models know of two hundred famous people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from titer.core.data import Example, Suite, World
from titer.worlds.datasets import _beside
from titer.worlds.datasets._deal import deal, dealt
from titer.worlds.datasets._published import Published, Source, Table, Tables, Tally

__all__ = ["SETS"]

_RWKU = Source(
    repo="jinzhuoran/RWKU",
    commit="d72f493d481d1b0a9bdc6e869d32baeffad8904f",
    licence="CC-BY-4.0",
)
_SHARES = {"defend": 0.4, "attack": 0.4, "select": 0.05, "report": 0.15}
"""Harm is asked in full at every checkpoint, so few of 6,000 probes are kept for that."""
_ASKED = ("query", "answer", "level", "type", "subject")
_TABLES = {
    "forget 1": ("All/forget_level1.json", 3_268, 717_000, _ASKED),
    "forget 2": ("All/forget_level2.json", 2_879, 650_000, _ASKED),
    "neighbours 1": ("All/neighbor_level1.json", 0, 1_580_000, (*_ASKED, "neighbor")),
    "neighbours 2": ("All/neighbor_level2.json", 0, 1_450_000, (*_ASKED, "neighbor")),
}


def _build(tables: Tables, tally: Tally) -> World:
    probes = [
        one
        for level in (1, 2)
        for one in _people(f"rwku-{level}", tables[f"forget {level}"], "subject")
    ]
    hazard = dealt("rwku", probes, _SHARES)
    people = {one.entity.casefold() for one in probes}
    around = [
        one
        for level in (1, 2)
        for one in _people(f"rwku-near-{level}", tables[f"neighbours {level}"], "neighbor")
    ]
    free = [one for one in around if one.entity.casefold() not in people]
    tally.leave("neighbours of rwku that are targets themselves", len(around) - len(free))
    parts = deal("rwku near", free, {"retain": 0.5, "near": 0.25, "judge": 0.25})
    own = _beside.beside(tables, tally)
    return World(
        name="rwku",
        hazards={"people": hazard},
        retain=(*parts["retain"], *own.retain),
        related=parts["near"],
        unrelated=own.far,
        utility={"neighbours": Suite(items=parts["judge"], measure="cloze"), **own.utility},
        tasks=own.tasks,
        over_refusal=own.over_refusal,
        harm="cloze",
    )


def _people(name: str, rows: Sequence[Mapping[str, Any]], who: str) -> Iterator[Example]:
    for number, row in enumerate(rows):
        prompt, answer = str(row["query"]).strip(), str(row["answer"]).strip()
        if prompt and answer:
            yield Example(
                id=f"{name}:{number}",
                prompt=prompt,
                answer=answer,
                entity=str(row[who]).strip(),
                phrasing="fill in" if str(row["level"]) == "1" else "question",
            )


SETS = (
    Published(
        name="rwku",
        summary="blanks and questions about 200 famous people, and about their neighbours",
        source="Jin et al. 2024, arXiv:2406.10890",
        tables={
            name: Table(source=_RWKU, path=path, columns=columns, rows=rows, size=size)
            for name, (path, rows, size, columns) in _TABLES.items()
        }
        | dict(_beside.TABLES),
        roles={
            "hazards.*.defend": "40 % of the rows of forget_level1 and 2, by person",
            "hazards.*.attack": "40 %",
            "hazards.*.select": "5 %",
            "hazards.*.report": "15 %; harm is cloze",
            "retain": "half of the neighbours, and MMLU validation",
            "environments.near": "a quarter of the neighbours",
            "utility.neighbours": "the other quarter, by cloze",
            **_beside.ROLES,
        },
        facts="no person is in two splits; a fact about two of them may be",
        departs="many people at once instead of one; level 3 (adversarial), membership and the "
        "utility sets of RWKU are not asked; the answer must be said word for word",
        build=_build,
    ),
)
