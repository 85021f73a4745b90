"""Does a fine-tune walk back along the unlearning? ``python -m studies.walk_back``.

The cosine of ``τ_{u→ft} = θ_u^ft − θ_u`` with ``τ_u = θ_u − θ_0`` (Wang et al. 2025,
arXiv:2506.01339; −0.41 for NPO and +0.09 for ILU are reported). ``studies.invariance`` has it for
one fine-tune at one length; here are several lengths, unrelated text and the attacker's own facts,
the whole model and each kind of module, and unlearning that goes on for longer or keeps nothing.
Beside it the restart baseline: the same fine-tune of the undefended model twice, its data in
another order. Resumable; in one folder with ``studies.invariance`` models are taken from there.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from studies._claims import judged
from studies._compare import table, written
from studies._lab import UNDEFENDED, Arm, Lab, executing
from studies._vectors import RESTART
from studies.invariance import BASES
from studies.invariance import arms as invariance_arms
from titer.core import catalogue
from titer.core.files import write_atomic
from titer.core.lm import LM
from titer.core.method import Run
from titer.core.records import Budget, Status, content_key
from titer.measures._inside import by_kind, split_groups
from titer.measures.task_vector import cosine, task_vector
from titer.trial.load import load_model, load_named_world

__all__ = ["LOOKS", "MIXES", "Steps", "arms", "main", "report", "run", "stroll"]

LOOKS = (10, 40, 160, 400)
"""Steps of the fine-tune at which the vectors are compared."""

MIXES = ("unrelated", "harmful")
FIELDS = {"lr": 1e-3, "batch_size": 8}
"""Of the fine-tune, as in ``studies.invariance``."""

WHOLE = ""
Cosines = dict[str, dict[str, float]]
"""By look, then by kind of module; the whole under the empty name."""

Found = Mapping[tuple[str, str], Mapping[int, Cosines]]
"""By arm and text, then by seed."""


def arms() -> list[Arm]:
    """The bases, ILU on them as its first reading, and NPO in two stronger forms."""
    wanted = ("npo", "npo+ilu logit_scale, single", "rmu", "rmu+ilu logit_scale, single")
    base, steps = BASES["npo"]
    plain = {key: value for key, value in base.items() if key != "type"}
    return [
        *(arm for arm in invariance_arms() if arm.name in wanted),
        Arm(name="npo, four times as long", defence="npo", fields=plain, steps=4 * steps),
        Arm(
            name="npo, nothing kept",
            defence="npo",
            fields={**plain, "retain_weight": 0.0},
            steps=steps,
        ),
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """A fine-tune of a model, compared with what its defence moved; of the undefended model, with
    another of the same. ``digest`` says what is in ``folder``."""

    undefended: str
    folder: str
    digest: str
    source: str
    domain: str
    mix: str
    looks: tuple[int, ...]
    seed: int
    root: str

    @property
    def place(self) -> Path:
        """Where the cosines are written; the name is by content."""
        content = {**asdict(self), "looks": list(self.looks), **FIELDS}
        for where in ("undefended", "folder", "root"):
            del content[where]
        return Path(self.root) / "vectors" / f"walk-{content_key(content)}.json"


def stroll(job: Steps) -> Status:
    """Fine-tune, compare at every look, and write the cosines down."""
    start, model = load_model(job.undefended), load_model(job.folder)
    if job.folder == job.undefended:
        other = _courses(job, start, job.seed + 1_000_000)
    else:
        other = dict.fromkeys(job.looks, task_vector(model, start))
    groups = by_kind(start.model)
    found: Cosines = {}
    for look, moved in _courses(job, model, job.seed).items():
        parts = [split_groups(one, start.model, groups) for one in (moved, other[look])]
        found[str(look)] = {name: cosine(one, parts[1][name]) for name, one in parts[0].items()}
    job.place.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(job.place, json.dumps(found, indent=1))
    return "ok"


def _courses(job: Steps, lm: LM, seed: int) -> dict[int, Tensor]:
    """What a fine-tune has moved at every look."""
    seen: dict[int, Tensor] = {}

    def emit(now: LM, run: Run) -> None:
        seen[run.spent.steps] = task_vector(now, lm)

    attack = catalogue.build("attack", "finetune", {**FIELDS, "mix": job.mix})
    data = load_named_world(job.source).attacker(job.domain)
    budget = Budget(steps=max(job.looks))
    attack(lm, Run(budget=budget, data=data, seed=seed, emit=emit, checkpoints=job.looks))
    return {look: seen[look] for look in job.looks}


def run(lab: Lab, seeds: Sequence[int], chosen: Sequence[Arm]) -> Found:
    """Every arm on every text, and the undefended model for the baseline."""
    looks = tuple(sorted({lab.capped(look) for look in LOOKS}))
    found: dict[tuple[str, str], dict[int, Cosines]] = {}
    for seed in seeds:
        made = lab.make(chosen, seed)
        for name in (UNDEFENDED, *(arm.name for arm in chosen if arm.name in made)):
            for mix in MIXES:
                job = Steps(
                    undefended=made[UNDEFENDED].subject.folder,
                    folder=made[name].subject.folder,
                    digest=made[name].subject.digest,
                    source=lab.source,
                    domain=lab.domain,
                    mix=mix,
                    looks=looks,
                    seed=seed,
                    root=str(lab.root),
                )
                if not (job.place.exists() or lab.still):
                    for ended in lab.executor(stroll, [job]):
                        lab.say(f"seed {seed}: {name}, {mix}: {ended.status} {ended.error[-400:]}")
                if job.place.exists():
                    title = RESTART if name == UNDEFENDED else name
                    row = found.setdefault((title, mix), {})
                    row[seed] = json.loads(job.place.read_text(encoding="utf-8"))
    return found


def report(found: Found) -> str:
    """The tables, in Markdown: by length, and by kind of module at each."""
    looks = sorted({int(look) for rows in found.values() for one in rows.values() for look in one})
    kinds = list(
        dict.fromkeys(
            kind
            for rows in found.values()
            for one in rows.values()
            for kind in one[str(looks[-1])]
            if kind != WHOLE
        )
    )

    def cell(rows: Mapping[int, Any], look: int, kind: str) -> str:
        return written(
            judged({seed: np.array([one[str(look)][kind]]) for seed, one in rows.items()}),
            signed=True,
        )

    seeds = sorted({seed for rows in found.values() for seed in rows})
    parts = [
        f"Seeds {', '.join(map(str, seeds))}; 95 % intervals over seeds. The cosine of τ(u→ft) and "
        f"τ(u); *{RESTART}* is that of two fine-tunes of the undefended model.",
        table(
            ["arm", "fine-tuned on", *(f"{look} steps" for look in looks)],
            [
                [arm, mix, *(cell(rows, look, WHOLE) for look in looks)]
                for (arm, mix), rows in found.items()
            ],
        ),
    ]
    for look in looks:
        parts += [
            f"By kind of module after {look} steps:",
            table(
                ["arm", "fine-tuned on", *kinds],
                [
                    [arm, mix, *(cell(rows, look, kind) for kind in kinds)]
                    for (arm, mix), rows in found.items()
                ],
            ),
        ]
    return "\n\n".join(parts) + "\n"


def main(words: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m studies.walk_back", description=__doc__)
    parser.add_argument("--seeds", type=int, default=3, help="seeds 0 to N−1")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--cap", type=int, help="most steps of any defence or fine-tune")
    parser.add_argument("--tables", action="store_true", help="run nothing, tell what is there")
    parser.add_argument("--out", type=Path, default=Path("runs/studies"))
    asked = parser.parse_args(words)
    command = " ".join(["python -m studies.walk_back", *(words or sys.argv[1:])])
    asked.out.mkdir(parents=True, exist_ok=True)
    with executing(asked.workers) as executor:
        lab = Lab(
            root=asked.out,
            executor=executor,
            cap=asked.cap,
            still=asked.tables,
            say=lambda line: print(line, file=sys.stderr, flush=True),
        )
        told = report(run(lab, range(asked.seeds), arms()))
    text = f"# Walking back\n\n`{command}`\n\n{told}"
    write_atomic(asked.out / "walk_back.md", text)
    print(text)


if __name__ == "__main__":
    main()
