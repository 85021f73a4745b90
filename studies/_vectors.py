"""Cosines between task vectors: does a later fine-tune walk back along the unlearning?

τ_u = θ_u − θ_0 is what unlearning moved, τ_ft = θ_ft − θ_0 what a fine-tune of the undefended model
moves, τ_{u→ft} = θ_u^ft − θ_u what the same fine-tune of the unlearned model moves; all weights,
float32. Source: Wang et al. 2025, arXiv:2506.01339.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from titer.core import catalogue
from titer.core.files import write_atomic
from titer.core.lm import LM
from titer.core.method import Run
from titer.core.records import Budget, Status, content_key
from titer.measures.task_vector import cosine, task_vector
from titer.trial.load import load_model, load_named_world

__all__ = ["RESTART", "Cosines", "Walk", "walk"]

RESTART = "restart"

Cosines = dict[str, dict[str, float]]
"""By arm: ``u,ft``, ``u→ft,u`` and ``u→ft,ft``. Under ``restart``: ``ft,ft``, the same fine-tune of
the undefended model twice, in another order of the data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Walk:
    """One fine-tune of the undefended model and of each defended one, with one seed.

    ``defended`` maps names to folders, ``digests`` to what is in them.
    """

    undefended: str
    defended: Mapping[str, str]
    digests: Mapping[str, str]
    source: str
    domain: str
    fields: Mapping[str, Any]
    steps: int
    seed: int
    root: str

    @property
    def place(self) -> Path:
        """Where the cosines are written; the name is by content."""
        content = asdict(self)
        for where in ("undefended", "defended", "root"):
            del content[where]
        return Path(self.root) / "vectors" / f"{content_key(content)}.json"


def _tuned(job: Walk, lm: LM, seed: int) -> Tensor:
    """What the fine-tune moves."""
    attack = catalogue.build("attack", "finetune", dict(job.fields))
    data = load_named_world(job.source).attacker(job.domain)
    return task_vector(attack(lm, Run(budget=Budget(steps=job.steps), data=data, seed=seed)), lm)


def walk(job: Walk) -> Status:
    """Fine-tune, compare, and write the cosines down."""
    start = load_model(job.undefended)
    plain = _tuned(job, start, job.seed)
    again = _tuned(job, start, job.seed + 1_000_000)
    found: Cosines = {RESTART: {"ft,ft": cosine(plain, again)}}
    for name, folder in job.defended.items():
        unlearned = load_model(folder)
        moved, on = task_vector(unlearned, start), _tuned(job, unlearned, job.seed)
        found[name] = {
            "u,ft": cosine(moved, plain),
            "u→ft,u": cosine(on, moved),
            "u→ft,ft": cosine(on, plain),
        }
    job.place.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(job.place, json.dumps(found, indent=1, ensure_ascii=False))
    return "ok"
