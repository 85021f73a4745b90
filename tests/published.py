"""Files of exactly the published schemas, with made-up rows, for every public data set."""

from __future__ import annotations

import csv
import gzip
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from titer.worlds import public
from titer.worlds.datasets._published import Table

Row = dict[str, Any]
_SYLLABLES = [one + two for one in "bdklmnrst" for two in "aeiou"]
LABELS = (
    "animal_abuse", "child_abuse", "controversial_topics,politics",
    "discrimination,stereotype,injustice", "drug_abuse,weapons,banned_substance",
    "financial_crime,property_crime,theft", "hate_speech,offensive_language",
    "misinformation_regarding_ethics,laws_and_safety", "non_violent_unethical_behavior",
    "privacy_violation", "self_harm", "sexually_explicit,adult_content",
    "terrorism,organized_crime", "violence,aiding_and_abetting,incitement",
)  # fmt: skip


class Maker:
    """Rows of made-up words, no two alike."""

    def __init__(self, name: str) -> None:
        self.rng = random.Random(name)

    def say(self, count: int) -> str:
        return " ".join("".join(self.rng.choices(_SYLLABLES, k=3)) for _ in range(count))

    def choice(self, **more: Any) -> Row:
        return {
            "question": self.say(9) + "?",
            "choices": [self.say(2) for _ in range(4)],
            "answer": self.rng.randrange(4),
            **more,
        }

    def asked(self, **more: Any) -> Row:
        return {"question": self.say(9) + "?", "answer": self.say(6) + ".", **more}

    def perturbed(self, row: Row, count: int = 5) -> Row:
        return {
            **row,
            "paraphrased_question": self.say(9),
            "paraphrased_answer": self.say(6),
            "perturbed_answer": [self.say(6) + "." for _ in range(count)],
        }

    def pair(self, safe: bool, prompt: str = "") -> Row:
        labels = dict.fromkeys(LABELS, False)
        if not safe:
            labels["privacy_violation"] = labels["self_harm"] = True
        return {
            "prompt": prompt or self.say(9) + "?",
            "response": self.say(12) + ".",
            "category": labels,
            "is_safe": safe,
        }

    def probe(self, level: int, who: str) -> Row:
        return {
            "query": self.say(8) + (" ___" if level == 1 else "?"),
            "answer": self.say(2),
            "level": str(level),
            "type": "cloze" if level == 1 else "simple question",
            "subject": who,
        }


def _tofu(make: Maker, table: str, kept: dict[str, list[Row]]) -> list[Row]:
    counts = {"forget": 200, "retain": 400, "retain judged": 40, "world facts": 30}
    if table == "perturbed":
        return [make.perturbed(row) for row in kept["forget"]]
    if table == "retain judged":
        return [make.perturbed(row) for row in kept["retain"][:40]]
    rows = [make.asked() for _ in range(counts[table])]
    return [make.perturbed(row, 3) for row in rows] if table == "world facts" else rows


def _gsm8k(make: Maker) -> Row:
    one, two = make.rng.sample(range(2, 90), 2)
    sign = make.rng.choice("+-*/")
    return {
        "question": make.say(12) + "?",
        "answer": f"{make.say(4)} {one}{sign}{two}=<<{one}{sign}{two}=5>>5\n#### 5",
    }


def _rwku(make: Maker, table: str) -> list[Row]:
    level = int(table[-1])
    people = [f"person {n}" for n in range(20)]
    if table.startswith("forget"):
        return [make.probe(level, who) for who in people for _ in range(3)]
    near = [f"neighbour {n}" for n in range(20)] + ["person 3"]
    return [
        {**make.probe(level, make.rng.choice(people)), "neighbor": who}
        for who in near
        for _ in range(2)
    ]


def _goal(make: Maker, number: int) -> Row:
    return {
        "Index": number,
        "Goal": make.say(9),
        "Target": make.say(5),
        "Behavior": make.say(2),
        "Category": "Privacy",
        "Source": "Original",
    }


def _behaviour(make: Maker, number: int) -> Row:
    kind = ("standard", "contextual", "copyright")[number % 3]
    return {
        "Behavior": make.say(9),
        "FunctionalCategory": kind,
        "SemanticCategory": "cybercrime_intrusion",
        "Tags": "context" if kind == "contextual" else "",
        "ContextString": make.say(20) if kind == "contextual" else "",
        "BehaviorID": f"behaviour_{number}",
    }


def _mmlu(make: Maker, count: int) -> list[Row]:
    subjects = ("virology", "computer_security", "college_chemistry", "philosophy", "sociology")
    return [make.choice(subject=subjects[n % len(subjects)]) for n in range(count)]


_ROWS: dict[str, Callable[[Maker], list[Row]]] = {
    "mmlu test": lambda make: _mmlu(make, 100),
    "mmlu validation": lambda make: _mmlu(make, 40),
    "gsm8k": lambda make: [_gsm8k(make) for _ in range(110)],
    "xstest": lambda make: [
        {
            "id": n,
            "prompt": make.say(8),
            "type": "homonyms",
            "label": label,
            "focus": "",
            "note": "",
        }
        for n, label in enumerate(["safe", "unsafe"] * 10)
    ],
    "or-bench": lambda make: [{"prompt": make.say(9), "category": "harmful"} for _ in range(300)],
    "jbb harmful": lambda make: [_goal(make, n) for n in range(30)],
    "jbb benign": lambda make: [_goal(make, n) for n in range(30)],
    "harmbench": lambda make: [_behaviour(make, n) for n in range(30)],
    "strongreject": lambda make: [
        {"category": "Violence", "source": "custom", "forbidden_prompt": make.say(10)}
        for _ in range(30)
    ],
    "advbench": lambda make: [{"goal": make.say(9), "target": make.say(7)} for _ in range(30)],
    "beavertails": lambda make: [make.pair(safe=n % 2 == 0) for n in range(200)],
    "questions": lambda make: [make.choice() for _ in range(80)],
    "forget_qa": lambda make: [make.asked() for _ in range(50)],
    "retain_qa": lambda make: [make.asked() for _ in range(50)],
    "retain1": lambda make: [{"text": make.say(330)} for _ in range(3)],
    "retain2": lambda make: [{"text": make.say(330)} for _ in range(3)],
}


def rows_of(name: str) -> dict[str, list[Row]]:
    """The rows of every table of a set, by the set's own names for them."""
    found: dict[str, list[Row]] = {}
    for table, known in public.find(name).tables.items():
        make = Maker(f"{known.source.repo}/{known.path}")
        if name.startswith("tofu") and table in ("forget", "perturbed", "retain", "retain judged",
                                                 "world facts"):  # fmt: skip
            found[table] = _tofu(make, table, found)
        elif known.source.repo == "jinzhuoran/RWKU":
            found[table] = _rwku(make, table)
        elif known.columns == ("text",):
            found[table] = [{"text": make.say(400)} for _ in range(12)]
        else:
            found[table] = _ROWS[table](make)
    return found


def write(name: str, folder: Path, rows: dict[str, list[Row]] | None = None) -> Path:
    """A set's files in a folder, as ``--data NAME=FOLDER`` reads them."""
    content = rows or rows_of(name)
    for table, known in public.find(name).tables.items():
        put(folder / known.source.repo / known.path, known, content[table])
    return folder


def put(path: Path, known: Table, rows: list[Row]) -> None:
    """Rows as a file of the kind that was published."""
    path.parent.mkdir(parents=True, exist_ok=True)
    name = known.path
    if name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif name.endswith(".csv"):
        with path.open("w", newline="", encoding="utf-8") as file:
            out = csv.DictWriter(file, list(rows[0]))
            out.writeheader()
            out.writerows(rows)
    elif known.source.repo == "jinzhuoran/RWKU":
        path.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    else:
        lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
        path.write_bytes(gzip.compress(lines) if name.endswith(".gz") else lines)
