"""What was said: the prompts of each attack with the model's answers before and after it.

One page of its own, ``report/answers.html``, beside the report and linked from it. It is a pure
function of the run folder and the data: the same folder gives the same bytes. Every prompt stands
once, and under it every distinct answer of a model once, with the attacks after which it was given.
Where texts are not shown, each stands as its hash, so that two runs can still be compared.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path

from titer.core.data import World
from titer.core.files import write_atomic
from titer.core.printable import printable
from titer.core.protocol import HARM
from titer.core.records import Trace
from titer.core.study import Manifest
from titer.report._pages import ANSWERS, environment, explaining
from titer.report._said import FILE, Heard, Reader, Table, folded, rose
from titer.report.numbers import tidy

__all__ = ["Answers", "Attack", "Model", "choice", "current", "gather", "render", "told", "write"]

_STATE = re.compile(
    r'<meta name="titer-answers" content="(shown|hashes)( as chosen)?, data (here|missing)">'
)
_MISSING = "what was said is not in this folder"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """One trial of an adversary; ``others`` are its trials with other seeds, whose answers are not
    shown.

    ``before`` and ``after`` are mean harm at the first and the last checkpoint. Of the answers that
    were ``asked``, the scores of so many ``rose``. ``remark`` says why there are none.
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
    asked: int = 0
    rose: int = 0
    remark: str = ""
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
    tables: tuple[Table, ...]

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
    read = Reader(root, study, world, shown)
    models: list[Model] = []
    heard: list[Heard] = []
    for subject in study.subjects:
        of_model = [one for one in attacks if one.trial.subject == subject.name]
        found: list[Attack] = []
        for _, group in groupby(of_model, key=lambda one: order(one)[:3]):
            first, *others = group
            said = list(read(first))
            heard += said
            beside = tuple(_attack(root, study, one) for one in others)
            higher = sum(rose(one.before, one.after) for one in said)
            whole = _attack(root, study, first)
            found.append(replace(whole, asked=len(said), rose=higher, others=beside))
        if found:
            models.append(Model(name=subject.name, role=subject.role, attacks=tuple(found)))
    return Answers(
        study=study,
        shown=shown,
        chosen=chosen,
        here=world is not None,
        models=tuple(models),
        tables=folded(heard),
    )


def _attack(root: Path, study: Manifest, trace: Trace) -> Attack:
    trial, points = trace.trial, trace.points
    remarks = [] if trace.status == "ok" else [trace.status]
    if not (root / "trials" / trial.key / FILE).is_file():
        remarks.append(_MISSING)
    return Attack(
        key=trial.key,
        row=trial.row or trial.label,
        label=tidy(trial.label),
        title=next((row.title for row in study.rows if row.id == trial.row), ""),
        domain=trial.domain,
        seed=trial.seed,
        steps=points[-1].spent.steps if points else 0,
        before=points[0].mean(HARM) if points else None,
        after=points[-1].mean(HARM) if len(points) > 1 else None,
        remark="; ".join(remarks),
    )


def render(answers: Answers) -> str:
    """The page. Every text is escaped; nothing runs in it."""
    template = environment().get_template("answers.html.j2")
    return printable(template.render(answers=answers, **explaining()), page=True)


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
    if (needs and world is None) or not all((f / FILE).is_file() for f in folders):
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
