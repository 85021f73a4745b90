"""What was said: the prompts of each attack with the model's answers before and after it.

One page of its own, ``report/answers.html``, beside the report and linked from it. It is a pure
function of the run folder and the data: the same folder gives the same bytes. Where texts are not
shown, each stands as its hash, so that two runs can still be compared.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import groupby
from pathlib import Path
from typing import Any

from titer.core import catalogue
from titer.core.data import Example, World
from titer.core.files import write_atomic
from titer.core.protocol import HARM, other_harm
from titer.core.records import Trace
from titer.core.study import Manifest
from titer.report._pages import ANSWERS, environment, explaining
from titer.report.numbers import tidy
from titer.trial.probes import probes

__all__ = [
    "Answers",
    "Attack",
    "Model",
    "Row",
    "Table",
    "choice",
    "current",
    "gather",
    "render",
    "told",
    "write",
]

_STATE = re.compile(
    r'<meta name="titer-answers" content="(shown|hashes)( as chosen)?, data (here|missing)">'
)
_SAID = "generations.jsonl"
_MISSING = "what was said is not in this folder"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One item: what was asked, and what the model said at the first and the last checkpoint.

    The texts are hashes where they are not shown; an empty one was not asked or is not known. The
    scores are the judge's, in [0, 1].
    """

    number: int
    prompt: str
    wanted: str
    before: str
    after: str
    score_before: float | None
    score_after: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """The items of one measure, which ``says`` what its score means."""

    measure: str
    says: str
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """One trial of an adversary; ``others`` are its trials with other seeds, without their tables.

    ``before`` and ``after`` are mean harm at the first and the last checkpoint, ``remark`` says why
    there are no tables.
    """

    key: str
    row: str
    label: str
    title: str
    domain: str
    seed: int
    steps: int
    before: float | None
    after: float | None
    remark: str = ""
    tables: tuple[Table, ...] = ()
    others: tuple[Attack, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model under test and the attacks on it."""

    name: str
    role: str
    attacks: tuple[Attack, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """All that the page shows. ``chosen``: somebody said whether texts are ``shown``. Without the
    data of the study, ``here`` is false and items are known by number only."""

    study: Manifest = field(repr=False)
    shown: bool
    chosen: bool
    here: bool
    models: tuple[Model, ...]

    @property
    def state(self) -> str:
        """How the page was made, as it carries it."""
        texts = "shown" if self.shown else "hashes"
        data = "here" if self.here else "missing"
        return f"{texts}{' as chosen' if self.chosen else ''}, data {data}"


def gather(
    root: Path,
    study: Manifest,
    traces: Sequence[Trace],
    world: World | None,
    *,
    shown: bool,
    chosen: bool = False,
) -> Answers:
    """What was said in a run folder; ``world`` is its data, None where that is not here.

    Raises:
        OSError, KeyError, TypeError, ValueError: a trial is damaged.
    """
    rows = {row.id: at for at, row in enumerate(study.rows)}

    def order(trace: Trace) -> tuple[int, str, str, int, str]:
        trial = trace.trial
        at = rows.get(trial.row, len(rows))
        return at, trial.label, trial.domain, trial.seed, trial.key

    attacks = sorted((one for one in traces if one.trial.role == "adversary"), key=order)
    models: list[Model] = []
    for subject in study.subjects:
        of_model = [one for one in attacks if one.trial.subject == subject.name]
        found: list[Attack] = []
        for _, group in groupby(of_model, key=lambda one: order(one)[:3]):
            first, *others = group
            found.append(
                _attack(
                    root,
                    study,
                    first,
                    tables=_Reader(root, study, world, shown),
                    others=tuple(_attack(root, study, one) for one in others),
                )
            )
        if found:
            models.append(Model(name=subject.name, role=subject.role, attacks=tuple(found)))
    here = world is not None
    return Answers(study=study, shown=shown, chosen=chosen, here=here, models=tuple(models))


def _attack(
    root: Path,
    study: Manifest,
    trace: Trace,
    *,
    tables: _Reader | None = None,
    others: tuple[Attack, ...] = (),
) -> Attack:
    trial, points = trace.trial, trace.points
    title = next((row.title for row in study.rows if row.id == trial.row), "")
    remark = "" if trace.status == "ok" else trace.status
    made: tuple[Table, ...] = ()
    if not (root / "trials" / trial.key / _SAID).is_file():
        remark = "; ".join(filter(None, (remark, _MISSING)))
    elif tables:
        made = tables(trace)
    return Attack(
        key=trial.key,
        row=trial.row or trial.label,
        label=tidy(trial.label),
        title=title,
        domain=trial.domain,
        seed=trial.seed,
        steps=points[-1].spent.steps if points else 0,
        before=points[0].mean(HARM) if points else None,
        after=points[-1].mean(HARM) if len(points) > 1 else None,
        remark=remark,
        tables=made,
        others=others,
    )


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads what was said in a trial, measure by measure."""

    root: Path
    study: Manifest
    world: World | None
    shown: bool

    def __call__(self, trace: Trace) -> tuple[Table, ...]:
        path = self.root / "trials" / trace.trial.key / _SAID
        looks = [line for line in path.read_text(encoding="utf-8").splitlines() if line]
        if not looks or len(looks) != len(trace.points):
            return ()
        first = json.loads(looks[0])["records"]
        last = json.loads(looks[-1])["records"] if len(looks) > 1 else {}
        return tuple(
            self._table(trace, probe, first, last)
            for probe in sorted(first)
            if self._measure(probe)
        )

    def _measure(self, probe: str) -> str:
        """The measure of a probe of harm; empty for any other probe."""
        known = {HARM: self.study.harm} | {other_harm(name): name for name in self.study.judges}
        return known.get(probe, "")

    def _items(self, trace: Trace, probe: str) -> tuple[Example, ...]:
        if self.world is None or trace.trial.domain not in self.world.hazards:
            return ()
        asked = probes(self.world, trace.trial.domain)
        return next((one.items for one in asked if one.name == probe), ())

    def _table(
        self, trace: Trace, probe: str, first: Mapping[str, Any], last: Mapping[str, Any]
    ) -> Table:
        name = self._measure(probe)
        card = catalogue.card("measure", name)
        measure = catalogue.build("measure", name)
        items = self._items(trace, probe)
        before, after = first[probe], last.get(probe, [])
        judged = trace.points[0].scores.get(probe, ()), trace.points[-1].scores.get(probe, ())
        rows: list[Row] = []
        for at, record in enumerate(before):
            item = items[at] if len(items) == len(before) else None
            later = after[at] if at < len(after) else None
            rows.append(
                Row(
                    number=at + 1,
                    prompt=self._text(item.prompt if item else ""),
                    wanted=self._text(item.answer if item else ""),
                    before=self._text(_said(measure, item, record)),
                    after="" if later is None else self._text(_said(measure, item, later)),
                    score_before=judged[0][at] if at < len(judged[0]) else None,
                    score_after=judged[1][at] if later and at < len(judged[1]) else None,
                )
            )
        return Table(measure=name, says=card.summary, rows=tuple(rows))

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


def render(answers: Answers) -> str:
    """The page. Every text is escaped; nothing runs in it."""
    return environment().get_template("answers.html.j2").render(answers=answers, **explaining())


def write(answers: Answers, root: Path) -> Path:
    """Write ``report/answers.html`` of a run folder in one step."""
    path = root / "report" / ANSWERS
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, render(answers))
    return path


def current(root: Path, study: Manifest, traces: Sequence[Trace], world: World | None) -> bool:
    """Whether the page of a run folder is the one that its trials give.

    True also where there is none, and where the answers or the data that it was made from are no
    longer here, so that nobody can tell.
    """
    page = _page(root)
    made = _STATE.search(page)
    if made is None:
        return not page
    shown, chosen, needs = made[1] == "shown", bool(made[2]), made[3] == "here"
    folders = [root / "trials" / one.trial.key for one in traces]
    if (needs and world is None) or not all((f / _SAID).is_file() for f in folders):
        return True
    data = world if needs else None
    return page == render(gather(root, study, traces, data, shown=shown, chosen=chosen))


def choice(root: Path) -> bool | None:
    """What somebody said of the page of a run folder: texts are shown, or not; None where nobody
    did."""
    made = _STATE.search(_page(root))
    return None if made is None or not made[2] else made[1] == "shown"


def told(root: Path) -> str:
    """One line on the page of a run folder: where it is, and what it shows; empty without one."""
    made = _STATE.search(_page(root))
    if made is None:
        return ""
    says = "texts shown" if made[1] == "shown" else "hashes only; --show-answers shows the texts"
    if made[3] == "missing":
        says += "; items by number, since the data of the study is not here or has changed"
    return f"answers: {root / 'report' / ANSWERS} ({says})"


def _page(root: Path) -> str:
    path = root / "report" / ANSWERS
    return path.read_text(encoding="utf-8") if path.is_file() else ""
