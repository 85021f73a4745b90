"""Requests that a model should decline: the tables that the refusal sets share, and their worlds.

Requests come without answers, so both parties train on BeaverTails' pairs, whatever is asked at the
end. The lists are drawn from each other (JailbreakBench from AdvBench and HarmBench, StrongREJECT
from several), so what is judged is cleared of near-duplicates first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from titer.core.data import Example, Hazard, World
from titer.worlds.datasets import _beside
from titer.worlds.datasets._deal import deal, drawn
from titer.worlds.datasets._published import HARM_OF_SPEECH, Source, Table, Tables, Tally
from titer.worlds.near import words

__all__ = [
    "ADVBENCH",
    "BEAVERTAILS",
    "BENIGN",
    "HARMBENCH",
    "JAILBREAKBENCH",
    "NO_FACTS",
    "OR_BENCH",
    "OVER_REFUSAL",
    "STRONGREJECT",
    "asked",
    "behaviours",
    "first",
    "labelled",
    "world",
]

NO_FACTS: Mapping[str, str] = {
    "erasure": "requests hold no facts that could be erased; harm is whether they are complied with"
}
_BEAVERTAILS = Source(
    repo="PKU-Alignment/BeaverTails",
    commit="8401fe609d288129cc684a9b3be6a93e41cfe678",
    licence="CC-BY-NC-4.0",
)
_JBB = Source(
    repo="JailbreakBench/JBB-Behaviors",
    commit="d8d87b8fdcb7806e3b4e45fffb2bc24aa6b17f32",
    licence="MIT",
)
_HARMBENCH = Source(
    repo="centerforaisafety/HarmBench",
    commit="8e1604d1171fe8a48d8febecd22f600e462bdcdd",
    licence="MIT",
    host="github",
)
_STRONGREJECT = Source(
    repo="alexandrasouly/strongreject",
    commit="f7cad6c17e624e21d8df2278e918ae1dddb4cb56",
    licence="MIT",
    host="github",
)
_ADVBENCH = Source(
    repo="llm-attacks/llm-attacks",
    commit="098262edf85f807224e70ecd87b9d83716bf6b73",
    licence="MIT",
    host="github",
)
_OR_BENCH = Source(
    repo="bench-llm/or-bench",
    commit="e36d8b80e81837c8a8f264bbb2a49f1b32c7e272",
    licence="CC-BY-4.0",
)
_PAIRS = ("prompt", "response", "category", "is_safe")
_BEHAVIOUR = ("Index", "Goal", "Target", "Behavior", "Category")
BEAVERTAILS: Mapping[str, Table] = {
    "beavertails": Table(
        source=_BEAVERTAILS, path="round0/30k/train.jsonl.gz", columns=_PAIRS, size=4_950_000
    ),
}
JAILBREAKBENCH: Mapping[str, Table] = {
    "jbb harmful": Table(
        source=_JBB,
        path="data/harmful-behaviors.csv",
        columns=_BEHAVIOUR,
        rows=100,
        size=23_116,
        sha256="4a8ec6832056b631eb092dccc60d37a61c3d441268268888b3d006288afeffa1",
    ),
    "jbb benign": Table(
        source=_JBB,
        path="data/benign-behaviors.csv",
        columns=_BEHAVIOUR,
        rows=100,
        size=20_570,
        sha256="3cda234d21a991fa309bbfea4b6d9dae31ccdf8e9d452424b6a983e4fdc33468",
    ),
}
HARMBENCH: Mapping[str, Table] = {
    "harmbench": Table(
        source=_HARMBENCH,
        path="data/behavior_datasets/harmbench_behaviors_text_all.csv",
        columns=("Behavior", "FunctionalCategory", "ContextString", "BehaviorID"),
        rows=400,
        sha256="8d81accedd38eaaf8b760618622bb888417d1fd0c86eba65c427a16f1cbb4afc",
    ),
}
STRONGREJECT: Mapping[str, Table] = {
    "strongreject": Table(
        source=_STRONGREJECT,
        path="strongreject_dataset/strongreject_dataset.csv",
        columns=("category", "source", "forbidden_prompt"),
        rows=313,
        sha256="4dd70357e4ff8b5d0ba5ebafecab5d6dd5633ce8046e3dd1c8bd93e64de44381",
    ),
}
ADVBENCH: Mapping[str, Table] = {
    "advbench": Table(
        source=_ADVBENCH,
        path="data/advbench/harmful_behaviors.csv",
        columns=("goal", "target"),
        rows=520,
        sha256="6cd1a5c63c07610d7eb67307772ee5606017ee950b5770ab288a2c487489d3e1",
    ),
}
OR_BENCH: Mapping[str, Table] = {
    "or-bench": Table(
        source=_OR_BENCH,
        path="or-bench-hard-1k.csv",
        columns=("prompt", "category"),
        rows=1_319,
        size=169_000,
        sha256="a6e2f1166416efe5901f3bb05c47dc92ab3aca3acfe143693d38b8057d841e6d",
    ),
}
OVER_REFUSAL = "XSTest: safe prompts; JailbreakBench: benign goals; OR-Bench: 250 of hard-1k"
BENIGN: Mapping[str, str] = {
    "retain": "BeaverTails: answers labelled safe, to prompts with no unsafe answer",
    "environments.near": "a fifth of these",
    **_beside.ROLES,
    "over_refusal": "XSTest: safe prompts; OR-Bench: 250 of hard-1k",
}
_HARD = 250
_MOST = 4_000
"""Rows of BeaverTails in a role: more than any budget here sees."""


def labelled(
    rows: Sequence[Mapping[str, Any]], tally: Tally
) -> tuple[list[Example], list[Example]]:
    """BeaverTails' unsafe and safe pairs, with the prompt as what they are about.

    A row has fourteen labels and their sum, ``is_safe``. Rows in which these contradict each other
    are left out, and so are safe answers to a prompt that has an unsafe one beside.
    """
    unsafe: list[Example] = []
    safe: list[Example] = []
    for number, row in enumerate(rows):
        labels = [name for name, is_true in row["category"].items() if is_true]
        if bool(labels) == bool(row["is_safe"]):
            tally.leave("rows of beavertails whose labels contradict each other")
            continue
        prompt, answer = str(row["prompt"]).strip(), str(row["response"]).strip()
        if not prompt or not answer:
            tally.leave("rows of beavertails without a prompt or an answer")
            continue
        pair = Example(
            id=f"beavertails:{number}",
            prompt=prompt,
            answer=answer,
            fact=" ".join(words(prompt)) or prompt,
        )
        (unsafe if labels else safe).append(pair)
    asked_for = {pair.fact for pair in unsafe}
    alone = [pair for pair in safe if pair.fact not in asked_for]
    tally.leave("safe answers of beavertails to prompts with unsafe ones", len(safe) - len(alone))
    return unsafe, alone


def behaviours(rows: Sequence[Mapping[str, Any]], name: str) -> tuple[Example, ...]:
    """Goals of JailbreakBench."""
    return tuple(
        Example(id=f"{name}:{row['Index']}", prompt=str(row["Goal"]).strip(), answer="")
        for row in rows
    )


def asked(tables: Tables, name: str, tally: Tally) -> tuple[Example, ...]:
    """The requests of one list, as it is judged."""
    rows = tables["jbb harmful" if name == "jailbreakbench" else name]
    match name:
        case "jailbreakbench":
            return behaviours(rows, "jbb-harmful")
        case "harmbench":
            return tuple(_behaviours_in_context(rows, tally))
        case _:
            return tuple(
                _beside.numbered(name, rows, lambda row: (str(row["forbidden_prompt"]).strip(), ""))
            )


def _behaviours_in_context(rows: Sequence[Mapping[str, Any]], tally: Tally) -> Iterator[Example]:
    for row in rows:
        if row["FunctionalCategory"] == "copyright":
            tally.leave("behaviours of harmbench on copyright, which have a judge of their own")
            continue
        behaviour, context = str(row["Behavior"]).strip(), str(row["ContextString"] or "").strip()
        yield Example(
            id=f"harmbench:{row['BehaviorID']}",
            prompt=f"{context}\n\n---\n\n{behaviour}" if context else behaviour,
            answer="",
        )


def world(
    name: str,
    hazard: Hazard,
    safe: Sequence[Example],
    tables: Tables,
    tally: Tally,
) -> World:
    """A world of requests, with BeaverTails' safe pairs as what must be kept."""
    parts = deal(f"{name} safe", first(safe, "safe answers of beavertails", tally),
                 {"retain": 0.8, "near": 0.2})  # fmt: skip
    own = _beside.beside(tables, tally)
    benign = behaviours(tables["jbb benign"], "jbb-benign") if "jbb benign" in tables else ()
    return World(
        name=name,
        hazards={"requests": hazard},
        retain=parts["retain"],
        related=parts["near"],
        unrelated=own.far,
        utility=own.utility,
        tasks=own.tasks,
        over_refusal=(*own.over_refusal, *benign, *_hard(tables)),
        harm=HARM_OF_SPEECH,
    )


def _hard(tables: Tables) -> list[Example]:
    """Some of OR-Bench's, drawn once for all."""
    prompts = _beside.numbered("or-bench", tables["or-bench"], lambda row: (str(row["prompt"]), ""))
    return sorted(prompts, key=lambda one: drawn("or-bench", one.id))[:_HARD]


def first(rows: Sequence[Example], what: str, tally: Tally) -> Sequence[Example]:
    """As many rows as a role has at most."""
    tally.leave(f"{what} beyond the first {_MOST:,}", max(0, len(rows) - _MOST))
    return rows[:_MOST]
