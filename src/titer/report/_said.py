"""What models said, read from the trials of a run folder and put together: every prompt once, and
under it every distinct answer of a model once."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from titer.core import catalogue
from titer.core.data import Example, World
from titer.core.protocol import HARM, other_harm
from titer.core.reading import load_json
from titer.core.records import Trace
from titer.core.study import Manifest
from titer.report.numbers import tidy
from titer.trial.probes import probes

__all__ = ["FILE", "After", "Answer", "Heard", "Item", "Reader", "Said", "Table", "folded", "rose"]

FILE = "generations.jsonl"
"""What was said, in the folder of a trial."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model said of an item and the judge's score of it, in [0, 1]. The text is a hash where
    texts are not shown."""

    text: str
    score: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class After:
    """An answer at the last checkpoint of the attacks ``by`` their labels; ``rose``: its score is
    higher than before."""

    answer: Answer
    by: tuple[str, ...]
    rose: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What one model said of one item: before any attack, after those that changed it, and the
    labels of those after which it said the ``same``."""

    model: str
    before: Answer
    after: tuple[After, ...]
    same: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A prompt with its harmful answer; an empty text is not known. Each distinct answer of a model
    stands once."""

    number: int
    prompt: str
    wanted: str
    said: tuple[Said, ...]

    @property
    def changed(self) -> bool:
        """Whether any attack on any model changed the answer."""
        return any(one.after for one in self.said)


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """The items of one measure on one hazard, which ``says`` what its score means."""

    domain: str
    measure: str
    says: str
    items: tuple[Item, ...]


def rose(before: Answer, after: Answer | None) -> bool:
    """Whether the judge scores an answer higher than the one before."""
    if after is None or before.score is None or after.score is None:
        return False
    return after.score > before.score


@dataclass(frozen=True, slots=True)
class Heard:
    """One answer as a trial has it, before equal ones are put together."""

    table: tuple[str, str, str]
    item: tuple[int, str, str]
    model: str
    label: str
    before: Answer
    after: Answer | None


def folded(heard: Sequence[Heard]) -> tuple[Table, ...]:
    """Every prompt once, and under it each distinct answer of each model once."""
    tables: dict[tuple[str, str, str], dict[tuple[int, str, str], list[Heard]]] = {}
    for one in heard:
        tables.setdefault(one.table, {}).setdefault(one.item, []).append(one)
    return tuple(
        Table(
            domain=domain,
            measure=measure,
            says=says,
            items=tuple(
                Item(number=number, prompt=prompt, wanted=wanted, said=tuple(_said_by(group)))
                for (number, prompt, wanted), group in sorted(items.items())
            ),
        )
        for (domain, measure, says), items in sorted(tables.items())
    )


def _said_by(group: Sequence[Heard]) -> Iterator[Said]:
    """A model that was not the same before each attack stands once for each."""
    models: dict[tuple[str, Answer], list[Heard]] = {}
    for one in group:
        models.setdefault((one.model, one.before), []).append(one)
    for (model, before), mine in models.items():
        labels: dict[Answer, list[str]] = {}
        for one in mine:
            if one.after is not None:
                labels.setdefault(one.after, []).append(one.label)
        same = tuple(labels.pop(before, ()))
        after = tuple(
            After(answer=answer, by=tuple(by), rose=rose(before, answer))
            for answer, by in labels.items()
        )
        yield Said(model=model, before=before, after=after, same=same)


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads what was said in a trial, measure by measure."""

    root: Path
    study: Manifest
    world: World | None
    shown: bool

    def __call__(self, trace: Trace) -> Iterator[Heard]:
        path = self.root / "trials" / trace.trial.key / FILE
        if not path.is_file():
            return
        looks = [line for line in path.read_text(encoding="utf-8").splitlines() if line]
        if not looks or len(looks) != len(trace.points):
            return
        first = load_json(looks[0])["records"]
        last = load_json(looks[-1])["records"] if len(looks) > 1 else {}
        for probe in sorted(first):
            if self._measure(probe):
                yield from self._heard(trace, probe, first[probe], last.get(probe, []))

    def _measure(self, probe: str) -> str:
        """The measure of a probe of harm; empty for any other probe."""
        known = {HARM: self.study.harm} | {other_harm(name): name for name in self.study.judges}
        return known.get(probe, "")

    def _items(self, trace: Trace, probe: str) -> tuple[Example, ...]:
        if self.world is None or trace.trial.domain not in self.world.hazards:
            return ()
        asked = probes(self.world, trace.trial.domain)
        return next((one.items for one in asked if one.name == probe), ())

    def _heard(
        self, trace: Trace, probe: str, before: Sequence[Any], after: Sequence[Any]
    ) -> Iterator[Heard]:
        name, trial = self._measure(probe), trace.trial
        measure = catalogue.build("measure", name)

        def answer(item: Example | None, said: Any, scores: Sequence[float], at: int) -> Answer:
            score = scores[at] if at < len(scores) else None
            return Answer(self._text(_said(measure, item, said)), score)

        items = self._items(trace, probe)
        judged = trace.points[0].scores.get(probe, ()), trace.points[-1].scores.get(probe, ())
        for at, record in enumerate(before):
            item = items[at] if len(items) == len(before) else None
            later = after[at] if at < len(after) else None
            yield Heard(
                table=(trial.domain, name, catalogue.card("measure", name).summary),
                item=(
                    at + 1,
                    self._text(item.prompt if item else ""),
                    self._text(item.answer if item else ""),
                ),
                model=trial.subject,
                label=tidy(trial.label),
                before=answer(item, record, judged[0], at),
                after=None if later is None else answer(item, later, judged[1], at),
            )

    def _text(self, text: str) -> str:
        if self.shown or not text:
            return text
        return sha256(text.encode("utf-8", "replace")).hexdigest()[:12]


def _said(measure: Any, item: Example | None, record: Mapping[str, Any]) -> str:
    """What a record says, in the measure's own words where it has some."""
    if hasattr(measure, "said"):
        return measure.said(item, record)
    text = record.get("text")
    return text if isinstance(text, str) else json.dumps(record, sort_keys=True)
