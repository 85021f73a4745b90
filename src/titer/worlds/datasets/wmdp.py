"""WMDP: multiple choice on hazardous knowledge, and the corpora that unlearning is given."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from functools import partial

from titer.core.data import Hazard, World
from titer.worlds.datasets import _beside
from titer.worlds.datasets._deal import deal, dealt
from titer.worlds.datasets._passages import passages
from titer.worlds.datasets._published import Published, Source, Table, Tables, Tally

__all__ = ["SETS"]

_PAPER = "Li et al. 2024, arXiv:2403.03218"
_QUESTIONS = Source(
    repo="cais/wmdp", commit="7125571f22f032c56415e7980f48d877dd830ff8", licence="MIT"
)
_CORPORA = Source(
    repo="cais/wmdp-corpora", commit="daf89fa9b618b63a624228061a9cebacca88009c", licence="MIT"
)
_BIO_FORGET = Source(
    repo="cais/wmdp-bio-forget-corpus",
    commit="5a786ed1041e56fef2d4ed26c1239f12b73a68eb",
    licence="as its terms on the Hub say",
    gated=True,
)
_NEAR: dict[str, tuple[str, ...]] = {
    "bio": (
        "anatomy", "clinical_knowledge", "college_biology", "college_medicine",
        "high_school_biology", "medical_genetics", "professional_medicine", "virology",
    ),
    "chem": ("college_chemistry", "high_school_chemistry"),
    "cyber": (
        "college_computer_science", "computer_security", "high_school_computer_science",
        "machine_learning",
    ),
}  # fmt: skip
_ROWS = {"bio": 1_273, "chem": 408, "cyber": 1_987}
_SIZES = {"cyber": 805_692}
_SHA = {
    "bio": "738cee28e11e4dcf9a0efc6b2c22b425bddda4b2b69477a11f38539c86cf00b7",
    "chem": "b9e5f2be6c7526931ae8aeb2eea246baa4144d2ba8d0de1de09905aaa84912ce",
    "cyber": "ec65f7ba4a9cd1ef368618ebd2b90b6d930f9b9f053f67a926b82fd71d87b4fe",
}


def _questions(domain: str) -> Table:
    return Table(
        source=_QUESTIONS,
        path=f"wmdp-{domain}/test-00000-of-00001.parquet",
        columns=("question", "choices", "answer"),
        rows=_ROWS[domain],
        size=_SIZES.get(domain, 0),
        sha256=_SHA[domain],
    )


def _corpus(source: Source, path: str, rows: int = 0, size: int = 0, sha256: str = "") -> Table:
    return Table(source=source, path=path, columns=("text",), rows=rows, size=size, sha256=sha256)


def _asked(domain: str, tables: Tables, tally: Tally) -> World:
    """Questions alone, dealt in four."""
    name = f"wmdp-{domain}"
    items = [replace(i, fact=i.id) for i in _beside.choices(tables["questions"], name, tally)]
    return _world(name, domain, dealt(name, items), tables, tally)


def _read(domain: str, forget: Collection[str], tables: Tables, tally: Tally) -> World:
    """Documents for both parties, questions for the judge."""
    name = f"wmdp-{domain}-corpus"
    items = _beside.choices(tables["questions"], f"wmdp-{domain}", tally)
    asked = deal(name, items, {"select": 0.4, "report": 0.6})
    documents = [row for part in forget for row in tables[part]]
    parts = deal(name, passages(name, documents, tally), {"defend": 0.5, "attack": 0.5})
    return _world(name, domain, Hazard(**parts, **asked), tables, tally)


def _world(name: str, domain: str, hazard: Hazard, tables: Tables, tally: Tally) -> World:
    own = _beside.beside(tables, tally, _NEAR[domain])
    kept = passages(f"{name}-retain", tables["retain"], tally) if "retain" in tables else ()
    return World(
        name=name,
        hazards={domain: hazard},
        retain=(*kept, *own.retain),
        related=own.near,
        unrelated=own.far,
        utility=own.utility,
        tasks=own.tasks,
        over_refusal=own.over_refusal,
        harm="choice",
        chance=_beside.chance(hazard.report),
        also=("cloze",),
    )


_BENIGN = {
    "retain": "MMLU validation, subjects near the hazard taken out",
    "environments.near": "half of MMLU's test questions on subjects near the hazard",
    "utility.mmlu_near": "the other half",
    **_beside.ROLES,
}
_NOT_LINKED = (
    "nobody says which document holds the fact that a question asks, so what comes back may be "
    "what the attacker was just taught"
)


def _named(domain: str) -> Published:
    return Published(
        name=f"wmdp-{domain}",
        summary=f"{_ROWS[domain]:,} questions, four choices each, dealt in four",
        source=_PAPER,
        tables={"questions": _questions(domain), **_beside.TABLES},
        roles={
            "hazards.*.defend": "30 % of the questions, with the right answer",
            "hazards.*.attack": "30 %, other questions",
            "hazards.*.select": "15 %",
            "hazards.*.report": "25 %; harm is choice, with cloze beside it",
            **_BENIGN,
        },
        facts="no question and no near-duplicate of one is in two splits; two questions may rest "
        "on one fact, so what came back is an upper bound",
        departs="the authors unlearn on corpora and ask all questions",
        build=partial(_asked, domain),
    )


_CYBER = Published(
    name="wmdp-cyber-corpus",
    summary="1,000 documents on attacks for both parties, WMDP's questions for the judge",
    source=_PAPER,
    tables={
        "questions": _questions("cyber"),
        "forget": _corpus(
            _CORPORA, "cyber-forget-corpus/train-00000-of-00001.parquet", 1_000, 10_762_190,
            "d6ea02facf8bfce704a41fbbb5555e261ca093aa15904f595176c33662780e0c",
        ),
        "retain": _corpus(
            _CORPORA, "cyber-retain-corpus/train-00000-of-00001.parquet", 4_473, 26_378_599,
            "6706314bedc410f5513f108ca687a7f7798e9f12be0a811ec282946495d8dfc1",
        ),
        **_beside.TABLES,
    },
    roles={
        "hazards.*.defend": "passages of half of the documents of cyber-forget-corpus",
        "hazards.*.attack": "passages of the other half",
        "hazards.*.select": "40 % of the questions",
        "hazards.*.report": "60 %; harm is choice, with cloze beside it",
        **(_BENIGN | {"retain": "cyber-retain-corpus, and MMLU validation"}),
    },
    facts="no document is on both sides, and no question in two splits",
    unasked={"erasure": _NOT_LINKED},
    departs="a document is cut into passages, each with its beginning as prompt",
    build=partial(_read, "cyber", ("forget",)),
)  # fmt: skip
_BIO = Published(
    name="wmdp-bio-corpus",
    summary="papers for both parties (gated), WMDP's questions for the judge",
    source=_PAPER,
    tables={
        "questions": _questions("bio"),
        "forget 1": _corpus(
            _BIO_FORGET, "data/train-00000-of-00002.parquet", 0, 0,
            "918b4b66f13fde0807cfb308a4d3d3f68533e184a66732e3b9f8e7c8bee1dd62",
        ),
        **_beside.TABLES,
    },
    roles={
        "hazards.*.defend": "passages of half of the documents of the first of two files",
        "hazards.*.attack": "passages of the other half",
        "hazards.*.select": "40 % of the questions",
        "hazards.*.report": "60 %; harm is choice, with cloze beside it",
        **_BENIGN,
    },
    facts="no document is on both sides, and no question in two splits",
    unasked={"erasure": _NOT_LINKED},
    departs="one of the two files of the forget corpus; no bio-retain-corpus, which is 0.9 GB",
    build=partial(_read, "bio", ("forget 1",)),
)  # fmt: skip
SETS = (_named("bio"), _named("chem"), _named("cyber"), _BIO, _CYBER)
