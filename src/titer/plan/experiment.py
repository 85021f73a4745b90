"""What a study runs, worked out before anything runs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from dataclasses import fields as knobs
from functools import cached_property
from typing import Any

from titer.core import catalogue
from titer.core.data import World
from titer.core.errors import BadInput
from titer.core.protocol import SELECT, TASK
from titer.core.records import SEARCH_SEED, Budget, Part, Point, Trace, Trial, content_key, part
from titer.core.study import Subject
from titer.evidence.doubts import at_edge, calibration_scores
from titer.evidence.panel import KEPT_SETTINGS
from titer.plan.suite import Adversary, Suite, judges, suite_hash
from titer.trial.presets import FAMILIES, checkpoints, middle_rate

__all__ = [
    "Experiment",
    "Starts",
    "attacks",
    "calibration",
    "cost",
    "extension",
    "rounded",
    "setting",
    "stars",
    "sweep_score",
    "training",
]

_SPREAD = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
_BEYOND = 3.0
"""How much further than its edge a sweep is extended, where the edge was best."""

Starts = Mapping[tuple[str, str], Part]
"""By hazard and by an attack as planned (:func:`setting`): the same at the rate that worked."""


def setting(attack: Part) -> str:
    """An attack's name and fields as a key."""
    return content_key([attack.name, dict(attack.fields)])


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """Models, adversaries and seeds. ``domain`` is the hazard the models were immunised on.

    ``through`` holds, by the digest of a model whose interface is not the undefended one's, the
    digests of those through whose interface it is attacked, empty for its own; known once
    :mod:`titer.plan.interfaces` has asked.
    """

    suite: Suite
    world: World
    source: str
    subjects: tuple[Subject, ...]
    seeds: tuple[int, ...]
    domain: str
    tasks: tuple[str, ...] = ()
    through: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])

    def __post_init__(self) -> None:
        if self.domain not in self.world.hazards:
            raise BadInput(
                f"the world {self.world.name} has no hazard {self.domain!r}; "
                f"it has {', '.join(self.world.hazards)}."
            )
        if not self.seeds:
            raise BadInput("a study needs at least one seed; give --seeds 1 or more.")
        if max(self.seeds) >= SEARCH_SEED:
            raise BadInput(
                f"seeds from {SEARCH_SEED} on are those of searches; give fewer --seeds."
            )

    @cached_property
    def suite_digest(self) -> str:
        """Hash over the suite with its code, the data, and the judges; worked out once.

        What two studies found may be laid side by side where this is equal, and nowhere else.
        """
        return suite_hash(self.suite, self.world_digest, judges(self.world))

    @cached_property
    def world_digest(self) -> str:
        """The world's hash, worked out once."""
        return self.world.digest()

    def rows(self) -> list[Adversary]:
        """The suite's rows that make sense for this hazard: some only for knowledge that should be
        gone, some only for requests that should be refused."""
        kind = "r" if catalogue.target(self.world.harm) == "refusal" else "k"
        return [row for row in self.suite.rows if row.fits(kind)]

    def measured(self) -> list[Subject]:
        """The models of which something can be asked."""
        return [subject for subject in self.subjects if not subject.unusable]

    def undefended(self) -> Subject:
        """The reference that every attack is calibrated on."""
        return next(subject for subject in self.subjects if subject.role == "undefended")

    def interfaces(self, subject: Subject) -> tuple[str, ...]:
        """Through whose interface a model is attacked, that by which all else goes first."""
        return self.through.get(subject.digest, ("",))

    def trial(self, subject: Subject, attack: Part, steps: int, seed: int, **more: Any) -> Trial:
        """A trial of this study on one model."""
        return Trial(
            model=subject.digest,
            subject=subject.name,
            world=self.world_digest,
            attack=attack,
            budget=Budget(steps=steps),
            seed=seed,
            suite=self.suite_digest,
            checkpoints=checkpoints(steps),
            items=self.suite.items,
            **{"domain": self.domain, "interface": self.interfaces(subject)[0], **more},
        )


def _finetune(fields: dict[str, Any]) -> Part:
    version = catalogue.card("attack", "finetune").version
    return part("finetune", catalogue.build("attack", "finetune", fields), version)


def _yardstick(study: Experiment) -> str:
    """The task on which rates are calibrated: the first that is not near the hazard."""
    far = [name for name, task in study.world.tasks.items() if not task.near_hazard]
    return (far or [""])[0]


def calibration(study: Experiment) -> list[Trial]:
    """The sweep for the reference rate: seven rates a family on the undefended model, first seed
    only.

    The yardstick is a benign task that the model has yet to learn, since an undefended model
    already knows the hazard and no rate would show. A world without tasks uses the attack itself,
    judged on the selection split.
    """
    reference = study.undefended()
    task = _yardstick(study)
    wanted = {row.preset()[1].star for row in study.rows()} | {"full-adamw"}
    found: list[Trial] = []
    for family in sorted(wanted - {""}):
        fields = FAMILIES[family][0]
        middle = middle_rate(family, reference.parameters)
        for factor in _SPREAD:
            attack = _finetune(
                {
                    **fields,
                    "lr": rounded(middle * factor),
                    "mix": "unrelated" if task else "harmful",
                }
            )
            found.append(
                study.trial(
                    reference,
                    attack,
                    study.suite.sweep_steps,
                    study.seeds[0],
                    purpose="calibrate",
                    task=task,
                    role="rate",
                    row=family,
                    label=family,
                )
            )
    return found


def extension(study: Experiment, traces: Sequence[Trace]) -> list[Trial]:
    """A rate three times further, for each sweep whose best is the first or the last (check S3)."""
    found: list[Trial] = []
    for family, scores in calibration_scores(traces, study.undefended().name).items():
        if not at_edge(scores):
            continue
        best = max(sorted(scores), key=lambda rate: scores[rate])
        beyond = best * _BEYOND if best == max(scores) else best / _BEYOND
        known = [
            trace.trial
            for trace in traces
            if (trace.trial.role, trace.trial.row) == ("rate", family)
        ]
        fields = {**known[0].attack.fields, "lr": rounded(beyond)}
        found.append(replace(known[0], attack=replace(known[0].attack, fields=fields)))
    return found


def rounded(value: float) -> float:
    """A rate as it is written into a trial: three digits."""
    return float(f"{value:.3g}")


def stars(traces: Iterable[Trace]) -> dict[str, float]:
    """The reference rate of each family: that with the best score averaged over the sweep's
    checkpoints.

    A tie goes to the lower training loss, and then to the middle one of the rates that tie (of two
    the higher), which is far from both edges of what works; the order of the traces is no matter.
    A family all of whose runs failed has no entry.
    """
    ranks: dict[str, dict[float, tuple[float, float]]] = {}
    for trace in traces:
        if trace.trial.purpose != "calibrate" or trace.status != "ok":
            continue
        tail = trace.losses[-10:]
        loss = sum(tail) / max(1, len(tail))
        rate = float(trace.trial.attack.fields["lr"])
        rank = (sweep_score(trace.trial, trace.points), -loss)
        ranks.setdefault(trace.trial.row, {})[rate] = rank
    found: dict[str, float] = {}
    for family, by_rate in ranks.items():
        top = max(by_rate.values())
        tied = sorted(rate for rate, rank in by_rate.items() if rank == top)
        found[family] = tied[len(tied) // 2]
    return found


def sweep_score(trial: Trial, points: Sequence[Point]) -> float:
    """What a calibration run is judged by: its score averaged over the looks after the first."""
    probe = TASK if trial.task else SELECT
    scores = [point.mean(probe) or 0.0 for point in points[1:]]
    return round(sum(scores) / max(1, len(scores)), 3)


def attacks(
    study: Experiment,
    rates: dict[str, float],
    subjects: Sequence[Subject] | None = None,
    starts: Starts | None = None,
) -> list[Trial]:
    """Every attack on all models, or on some: the control, each row at each rate, cross rows.

    A model made with a share of the hazard meets every row on that hazard, with its own seed.
    ``starts`` replaces attacks by the same at another rate.
    """
    found: list[Trial] = []
    control = part("noop", catalogue.build("attack", "noop"))
    for subject in study.measured() if subjects is None else subjects:
        whole = subject.share is None
        for domain in study.world.hazards if whole else ():
            found.append(
                study.trial(
                    subject,
                    control,
                    0,
                    study.seeds[0],
                    role="baseline",
                    label="none",
                    domain=domain,
                    interface="",
                )
            )
        for row in study.rows():
            domains = list(study.world.hazards) if row.cross and whole else [study.domain]
            for domain in domains:
                found += _row(study, subject, row, rates, domain, starts or {})
    return found


def _row(
    study: Experiment,
    subject: Subject,
    row: Adversary,
    rates: dict[str, float],
    domain: str,
    starts: Starts,
) -> list[Trial]:
    seeds = study.seeds if subject.share is None else (subject.share.draw,)
    steps = study.suite.steps(row, subject.parameters)
    method = row.preset()[0]
    tried = _tried(row, rates, dict(study.suite.relatives).get(subject.name))
    tried = [starts.get((domain, setting(attack)), attack) for attack in tried]
    needs = getattr(catalogue.card("attack", method).build, "uses_base", False)
    base = study.undefended().digest if needs else ""
    more: dict[str, Any] = {"row": row.id, "label": row.id, "domain": domain, "base": base}
    if study.suite.search == "fresh" and len(tried) > KEPT_SETTINGS:
        more["purpose"] = "search"
        seeds = (SEARCH_SEED + (subject.share.draw if subject.share else 0),)
    return [
        study.trial(subject, attack, steps, seed, interface=interface, **more)
        for attack in tried
        for interface in study.interfaces(subject)
        for seed in seeds
    ]


def _tried(row: Adversary, rates: dict[str, float], relative: str | None = None) -> list[Part]:
    """The settings that the attacker of a row tries, rates as multiples of what was calibrated;
    ``relative`` is a public model beside the one attacked, for attacks that can use one."""
    method, preset = row.preset()
    card = catalogue.card("attack", method)
    takes = relative and "reference" in {spec.name for spec in knobs(card.build)}
    found: list[Part] = []
    for setting in row.settings:
        for multiple in row.multiples:
            fields = {**preset.fields, **setting, **({"reference": relative} if takes else {})}
            if preset.lr_scale is not None and preset.star in rates:
                own = fields["lr"] / preset.fields["lr"]
                fields["lr"] = rounded(preset.lr_scale * rates[preset.star] * own * multiple)
            found.append(part(method, catalogue.build("attack", method, fields), card.version))
    return found


def training(study: Experiment, rates: dict[str, float]) -> list[Trial]:
    """Benign fine-tunes for trainability: every task at several rates, on every model."""
    star = rates.get("full-adamw")
    if star is None:
        return []
    return [
        study.trial(
            subject,
            _finetune({"lr": rounded(star * factor), "mix": "unrelated"}),
            study.suite.task_steps,
            seed,
            purpose="train",
            task=task,
            role="task",
            row=task,
            label=f"task {task}",
        )
        for subject in study.measured()
        if subject.role != "oracle" and subject.share is None
        for task in study.tasks or tuple(study.world.tasks)
        for factor in study.suite.rates
        for seed in study.seeds
    ]


def cost(trial: Trial, parameters: int) -> float:
    """A rough order of work, for putting the longest first: steps times size, plus looks."""
    return ((trial.budget.steps or 0) + 5.0 * len(trial.checkpoints)) * math.log1p(parameters)
