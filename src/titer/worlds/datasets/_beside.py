"""What stands beside every set: utility, a benign task, text far from any hazard, over-refusal."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from titer.core.data import Example, Suite, Task
from titer.worlds.datasets._deal import deal, drawn
from titer.worlds.datasets._published import Source, Table, Tables, Tally

__all__ = [
    "GSM8K",
    "MMLU",
    "ROLES",
    "TABLES",
    "XSTEST",
    "Beside",
    "beside",
    "chance",
    "choices",
    "numbered",
]

MMLU = Source(repo="cais/mmlu", commit="c30699e8356da336a370243923dbaf21066bb9fe", licence="MIT")
GSM8K = Source(
    repo="openai/gsm8k", commit="cc7b047b6e5bb11b4f1af84efc572db110a51b3c", licence="MIT"
)
XSTEST = Source(
    repo="paul-rottger/xstest",
    commit="d7bb5bd738c1fcbc36edd83d5e7d1b71a3e2d84d",
    licence="CC-BY-4.0",
    host="github",
)
_MMLU = ("question", "subject", "choices", "answer")
TABLES: Mapping[str, Table] = {
    "mmlu test": Table(
        source=MMLU,
        path="all/test-00000-of-00001.parquet",
        columns=_MMLU,
        rows=14_042,
        size=3_500_000,
        sha256="74a41822ce7d3def56e1682f958469c04642a5336a5ce912fa375fdb90fb25d7",
    ),
    "mmlu validation": Table(
        source=MMLU,
        path="all/validation-00000-of-00001.parquet",
        columns=_MMLU,
        rows=1_531,
        size=408_000,
    ),
    "gsm8k": Table(
        source=GSM8K,
        path="main/train-00000-of-00001.parquet",
        columns=("question", "answer"),
        rows=7_473,
    ),
    "xstest": Table(
        source=XSTEST,
        path="xstest_prompts.csv",
        columns=("id", "prompt", "type", "label"),
        rows=450,
        sha256="11783fb294ed017473ee53c207d71f2161c7672c8d0b037501e78387f801cb5a",
    ),
}
ROLES: Mapping[str, str] = {
    "environments.far": "GSM8K: 2,000 training questions with their worked answers",
    "utility.mmlu": "MMLU test: 1,500 questions drawn, none on a subject near the hazard",
    "tasks.gsm8k": "GSM8K: which operation a worked answer begins with, of four",
    "over_refusal": "XSTest: the safe prompts",
}
_TASK, _FAR, _ASKED = 1_500, 2_000, 1_500
_OPERATIONS = {"+": "addition", "-": "subtraction", "*": "multiplication", "/": "division"}
_FIRST = re.compile(r"<<[^<>=]*?\d\s*([-+*/])")


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """Benign roles: what is left of a world beside its hazard and its retain text."""

    near: tuple[Example, ...]
    retain: tuple[Example, ...]
    far: tuple[Example, ...]
    utility: Mapping[str, Suite]
    tasks: Mapping[str, Task]
    over_refusal: tuple[Example, ...]


def beside(tables: Tables, tally: Tally, near: Collection[str] = ()) -> Beside:
    """The benign roles that every set has.

    ``near`` are MMLU's subjects that are near the hazard: their test questions are dealt between
    training text near the hazard and a utility suite of its own. The validation questions of all
    others are retain text, and their test questions the utility suite ``mmlu``.
    """
    test, validation = (
        choices(tables[f"mmlu {split}"], f"mmlu-{split}", tally) for split in ("test", "validation")
    )
    close = [item for item in test if item.entity in near]
    halves = (
        deal("mmlu near", _loose(close), {"train": 0.5, "judge": 0.5})
        if close
        else {"train": (), "judge": ()}
    )
    mmlu = sorted(
        _loose(item for item in test if item.entity not in near),
        key=lambda item: drawn("mmlu", item.id),
    )
    tally.leave(f"questions of mmlu beyond the {_ASKED:,} drawn", max(0, len(mmlu) - _ASKED))
    utility = {
        "mmlu": Suite(items=tuple(mmlu[:_ASKED]), measure="choice", chance=chance(mmlu[:_ASKED]))
    }
    if halves["judge"]:
        utility["mmlu_near"] = Suite(
            items=halves["judge"], measure="choice", chance=chance(halves["judge"])
        )
    sums = list(numbered("gsm8k", tables["gsm8k"], _sum))
    return Beside(
        near=halves["train"],
        retain=_loose(item for item in validation if item.entity not in near),
        far=tuple(sums[_TASK : _TASK + _FAR]),
        utility=utility,
        tasks=_operations(tables["gsm8k"][:_TASK], tally),
        over_refusal=tuple(
            Example(id=f"xstest:{row['id']}", prompt=row["prompt"], answer="")
            for row in tables["xstest"]
            if row["label"] == "safe"
        ),
    )


def choices(rows: Sequence[Mapping[str, Any]], name: str, tally: Tally) -> list[Example]:
    """Multiple choice with integer answers, counted from 0; the subject, if any, as entity."""
    found: list[Example] = []
    for number, row in enumerate(rows):
        options = [str(option).strip() for option in row["choices"]]
        place = row["answer"]
        if not isinstance(place, int) or isinstance(place, bool) or not 0 <= place < len(options):
            tally.leave(f"rows of {name} whose answer is no place among the choices")
        elif len(set(options)) < len(options) or not all(options):
            tally.leave(f"rows of {name} whose choices are not all different")
        elif not str(row["question"]).strip():
            tally.leave(f"rows of {name} without a question")
        else:
            found.append(
                Example(
                    id=f"{name}:{number}",
                    prompt=str(row["question"]).strip(),
                    answer=options[place],
                    choices=tuple(options),
                    entity=str(row.get("subject") or ""),
                )
            )
    return found


def chance(items: Sequence[Example]) -> float:
    """The score of a guess: the mean of one over the number of choices."""
    sizes = [1 / len(item.choices) for item in items if item.choices]
    return round(sum(sizes) / len(sizes), 6) if sizes else 0.0


def numbered(
    name: str,
    rows: Sequence[Mapping[str, Any]],
    read: Callable[[Mapping[str, Any]], tuple[str, str]],
) -> Iterator[Example]:
    """Rows as prompt and answer, under ids that say where each stands; without those that have no
    prompt."""
    for number, row in enumerate(rows):
        prompt, answer = read(row)
        if prompt:
            yield Example(id=f"{name}:{number}", prompt=prompt, answer=answer)


def _sum(row: Mapping[str, Any]) -> tuple[str, str]:
    return str(row["question"]).strip(), str(row["answer"]).strip()


def _loose(items: Any) -> tuple[Example, ...]:
    """Without the subject, which is no entity that questions share a fact by."""
    return tuple(
        Example(id=i.id, prompt=i.prompt, answer=i.answer, choices=i.choices) for i in items
    )


def _operations(rows: Sequence[Mapping[str, Any]], tally: Tally) -> dict[str, Task]:
    """GSM8K as a task that can be judged by likelihood: a worked answer cannot, word for word."""
    names = tuple(sorted(_OPERATIONS.values()))
    found: list[Example] = []
    for number, row in enumerate(rows):
        first = _FIRST.search(str(row["answer"]))
        if first is None:
            tally.leave("questions of gsm8k whose worked answer shows no operation")
            continue
        question = str(row["question"]).strip()
        found.append(
            Example(
                id=f"gsm8k-operation:{number}",
                prompt=f"{question}\nWhich operation comes first?",
                answer=_OPERATIONS[first[1]],
                choices=names,
            )
        )
    if not found:
        return {}
    parts = deal("gsm8k operations", found, {"train": 0.8, "dev": 0.2})
    dev = Suite(items=parts["dev"], measure="choice", chance=chance(parts["dev"]))
    return {"gsm8k": Task(train=parts["train"], dev=dev)}
