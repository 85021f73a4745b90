"""TOFU: questions about authors that do not exist, of which a model is made to forget some."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from titer.core.data import Example, Suite, World
from titer.core.errors import BadInput
from titer.worlds.datasets import _beside
from titer.worlds.datasets._deal import deal, dealt, drawn
from titer.worlds.datasets._published import Published, Source, Table, Tables, Tally

__all__ = ["SETS"]

_TOFU = Source(
    repo="locuslab/TOFU", commit="324592d84ae4f482ac7249b9285c2ecdb53e3a68", licence="MIT"
)
_ROWS_AN_AUTHOR = 20
_ASKED = ("question", "answer")
_PERTURBED = (*_ASKED, "perturbed_answer")
_SHA = {
    "forget10": "0044c8c2e70a38be93f62ec6cb1c1cc2a1f55a8df2fb549a4da2da8dde9d92f6",
    "forget10_perturbed": "6fbcb946c57ea1d7b2124cea0e61bf3b5409d1bc10d02368f090109450ed73c7",
    "retain90": "debcf019c41db7b30b62ca6ad41fd8a4bcd29a5b321c21d2961974e308dfca55",
    "retain_perturbed": "fc69f33bad70d3dca65920bdb54380039e3e8872dd16bbae20c1a839b99533fb",
}
_SIZES = {
    "forget05": 56_400,
    "forget05_perturbed": 334_000,
    "forget10": 115_000,
    "forget10_perturbed": 675_000,
}
_COUNT = {"05": (200, 3_800), "10": (400, 3_600)}


def _table(name: str, rows: int, columns: tuple[str, ...]) -> Table:
    return Table(
        source=_TOFU,
        path=f"{name}.json",
        columns=columns,
        rows=rows,
        size=_SIZES.get(name, 0),
        sha256=_SHA.get(name, ""),
    )


def _build(part: str, tables: Tables, tally: Tally) -> World:
    name = f"tofu-forget{part}"
    wrong = {str(row["question"]): row["perturbed_answer"] for row in tables["perturbed"]}
    hazard = dealt(name, _authors(name, tables["forget"], wrong, tally))
    judged = _with_choices("tofu-retain", tables["retain judged"], tally)
    asked = {item.prompt for item in judged}
    kept = _authors("tofu-keep", tables["retain"], {}, tally)
    held_out = {item.entity for item in kept if item.prompt in asked}
    open_to_all = [item for item in kept if item.entity not in held_out]
    parts = deal("tofu retain", open_to_all, {"retain": 0.8, "near": 0.2})
    facts = _with_choices("tofu-facts", tables["world facts"], tally)
    own = _beside.beside(tables, tally)
    return World(
        name=name,
        hazards={"authors": hazard},
        retain=parts["retain"],
        related=parts["near"],
        unrelated=own.far,
        utility={
            "retained": Suite(items=judged, measure="choice", chance=_beside.chance(judged)),
            "world_facts": Suite(items=facts, measure="choice", chance=_beside.chance(facts)),
            **own.utility,
        },
        tasks=own.tasks,
        over_refusal=own.over_refusal,
        harm="choice",
        chance=_beside.chance(hazard.report),
        also=("cloze",),
    )


def _authors(
    name: str,
    rows: Sequence[Mapping[str, Any]],
    wrong: Mapping[str, Sequence[str]],
    tally: Tally,
) -> list[Example]:
    """Questions with their author as entity: an author has 20 rows in a row."""
    if len(rows) % _ROWS_AN_AUTHOR:
        raise BadInput(
            f"{name}: {len(rows):,} rows are no whole number of authors, who have "
            f"{_ROWS_AN_AUTHOR} each; the file is not what was published."
        )
    found: list[Example] = []
    for number, row in enumerate(rows):
        question = str(row["question"])
        found.append(
            Example(
                id=f"{name}:{number}",
                prompt=question,
                answer=str(row["answer"]),
                choices=_mixed(name, question, str(row["answer"]), wrong.get(question, ())),
                entity=f"{name}:{number // _ROWS_AN_AUTHOR}",
            )
        )
    if wrong and (bare := sum(not item.choices for item in found)):
        tally.leave(f"rows of {name} have no wrong answers, so that choice does not ask them", bare)
    return found


def _with_choices(
    name: str, rows: Sequence[Mapping[str, Any]], tally: Tally
) -> tuple[Example, ...]:
    found: list[Example] = []
    for number, row in enumerate(rows):
        question, answer = str(row["question"]), str(row["answer"])
        options = _mixed(name, question, answer, row["perturbed_answer"])
        if options:
            found.append(
                Example(id=f"{name}:{number}", prompt=question, answer=answer, choices=options)
            )
        else:
            tally.leave(f"rows of {name} whose wrong answers are not all different")
    return tuple(found)


def _mixed(name: str, question: str, answer: str, wrong: Sequence[str]) -> tuple[str, ...]:
    """The answer among the wrong ones, in an order that says nothing; empty where two are alike."""
    options = [answer, *map(str, wrong)]
    if len(options) < 2 or len(set(options)) < len(options) or not all(map(str.strip, options)):
        return ()
    return tuple(sorted(options, key=lambda one: drawn(name, f"{question}\0{one}")))


def _named(part: str) -> Published:
    forget, retain = _COUNT[part]
    return Published(
        name=f"tofu-forget{part}",
        summary=f"{forget // _ROWS_AN_AUTHOR} made-up authors to forget, with 20 questions each",
        source="Maini et al. 2024, arXiv:2401.06121",
        tables={
            "forget": _table(f"forget{part}", forget, _ASKED),
            "perturbed": _table(f"forget{part}_perturbed", forget, _PERTURBED),
            "retain": _table(f"retain{100 - int(part)}", retain, _ASKED),
            "retain judged": _table("retain_perturbed", 400, _PERTURBED),
            "world facts": _table("world_facts_perturbed", 117, _PERTURBED),
            **_beside.TABLES,
        },
        roles={
            "hazards.*.defend": "30 % of the authors",
            "hazards.*.attack": "30 %",
            "hazards.*.select": "15 %",
            "hazards.*.report": "25 %; harm is choice of the answer among TOFU's perturbed ones",
            "retain": "four of five of the authors to keep that no judge asks",
            "environments.near": "the fifth",
            "utility.retained": "retain_perturbed: authors to keep, whose rows nobody trains on",
            "utility.world_facts": "world_facts_perturbed",
            **_beside.ROLES,
        },
        facts="no author is in two splits, and authors share nothing: they are made up one by one",
        departs="harm is likelihood among perturbed answers; no truth ratio, no forget quality",
        models="open-unlearning/tofu_Llama-3.2-1B-Instruct_full (undefended) and "
        f"open-unlearning/tofu_Llama-3.2-1B-Instruct_retain{100 - int(part)} (never learned): "
        "pin them as owner/name@commit",
        build=partial(_build, part),
    )


SETS = (_named("05"), _named("10"))
