"""MUSE: news articles and books to be forgotten, with questions about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from titer.core.data import Example, Hazard, Suite, World
from titer.worlds.datasets import _beside
from titer.worlds.datasets._deal import deal
from titer.worlds.datasets._passages import passages
from titer.worlds.datasets._published import Published, Source, Table, Tables, Tally

__all__ = ["SETS"]

_SOURCES = {
    "News": Source(
        repo="muse-bench/MUSE-News",
        commit="506bd5b150b92814d45e4404a82f120ab2d748bf",
        licence="CC-BY-4.0",
    ),
    "Books": Source(
        repo="muse-bench/MUSE-Books",
        commit="051ba90319e920d410d87cfdbd61f25843c1b892",
        licence="CC-BY-4.0",
    ),
}
_DOCUMENTS = {"News": (889, 1_777, 1_778), "Books": (4, 12, 13)}
_RETRAINED = {
    "News": "324ef49ee0a038078aba7d8de831edf57235c9b3",
    "Books": "1d67430e4e8bdf2a65823740e909792519175ac2",
}
_WHY = {
    "News": "nobody says which article answers which question, so what comes back may be what the "
    "attacker was just taught",
    "Books": "all passages are of a few books that tell one story, so that no two splits are free "
    "of each other's facts",
}


def _build(corpus: str, tables: Tables, tally: Tally) -> World:
    name = f"muse-{corpus.lower()}"
    text = passages(name, tables["forget"], tally)
    if corpus == "Books":
        # A book is no unit that could be dealt: there are four.
        text = tuple(Example(id=one.id, prompt=one.prompt, answer=one.answer) for one in text)
    parts = deal(name, text, {"defend": 0.5, "attack": 0.5})
    questions = _asked(f"{name}-forget", tables["forget_qa"])
    asked = deal(name, questions, {"select": 0.4, "report": 0.6})
    own = _beside.beside(tables, tally)
    return World(
        name=name,
        hazards={corpus.lower(): Hazard(**parts, **asked)},
        retain=passages(f"{name}-retain1", tables["retain1"], tally),
        related=passages(f"{name}-retain2", tables["retain2"], tally),
        unrelated=own.far,
        utility={
            "retained": Suite(
                items=tuple(_asked(f"{name}-retain", tables["retain_qa"])), measure="cloze"
            ),
            **own.utility,
        },
        tasks=own.tasks,
        over_refusal=own.over_refusal,
        harm="cloze",
    )


def _asked(name: str, rows: Sequence[Mapping[str, Any]]) -> list[Example]:
    return list(
        _beside.numbered(
            name, rows, lambda row: (str(row["question"]).strip(), str(row["answer"]).strip())
        )
    )


def _tables(corpus: str) -> dict[str, Table]:
    source = _SOURCES[corpus]
    forget, one, two = _DOCUMENTS[corpus]
    raw = {"forget": forget, "retain1": one, "retain2": two}
    tables = {
        name: Table(
            source=source, path=f"raw/{name}-00000-of-00001.parquet", columns=("text",), rows=rows
        )
        for name, rows in raw.items()
    }
    for name in ("forget_qa", "retain_qa"):
        tables[name] = Table(
            source=source,
            path=f"knowmem/{name}-00000-of-00001.parquet",
            columns=("question", "answer"),
            rows=100,
        )
    return tables | dict(_beside.TABLES)


def _named(corpus: str) -> Published:
    name = f"muse-{corpus.lower()}"
    news = corpus == "News"
    what = "889 news articles" if news else "four books"
    return Published(
        name=name,
        summary=f"{what} to forget, and a hundred questions about them",
        source="Shi et al. 2024, arXiv:2407.06460",
        tables=_tables(corpus),
        roles={
            "hazards.*.defend": f"half of the {'articles' if news else 'passages'}",
            "hazards.*.attack": "the other half",
            "hazards.*.select": "40 of the questions of knowmem's forget_qa",
            "hazards.*.report": "60 of them; harm is cloze",
            "retain": "passages of retain1",
            "environments.near": "passages of retain2",
            "utility.retained": "knowmem's retain_qa, by cloze",
            **_beside.ROLES,
        },
        facts="no article is on both sides" if news else "no passage is on both sides",
        unasked={"erasure": _WHY[corpus]},
        departs="knowmem is ROUGE of a spoken answer there and word for word here; verbmem and "
        "privleak are not asked",
        models=f"muse-bench/MUSE-{corpus}_target (undefended) and "
        f"muse-bench/MUSE-{corpus}_retrain@{_RETRAINED[corpus]} (never learned)",
        build=partial(_build, corpus),
    )


SETS = (_named("Books"), _named("News"))
