"""Does invariant unlearning hold what it is published to hold? ``python -m studies.invariance``.

{NPO, RMU} x {plain, +SAM, +ILU in three readings x environments, +UNDO, two controls} against
{relearning T, benign fine-tuning near and far, LoRA, rounding} on Fabula's nano model, a defence
made anew for every seed. It ends in a table *published direction of effect / seen here / agrees?*.
Resumable: the same command goes on, more ``--seeds`` widen it.

Harm *after* an attack that trains is the mean over the looks at step 10 and the last, as the
paper averages checkpoints of a fine-tune; after rounding, that of the rounded model. The rate
of relearning is chosen on the split S, over all seeds, from the two in :data:`ADVERSARIES`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

from studies._claims import claims, judged, share
from studies._compare import table, written
from studies._lab import ORACLE, UNDEFENDED, Adversary, Arm, Lab, Made, executing
from studies._seen import Seen
from studies._vectors import RESTART, Cosines, Walk, walk
from titer.core.files import write_atomic

__all__ = ["ADVERSARIES", "BASES", "arms", "compared", "main", "report", "run"]

# Batches of 8, a quarter of the presets', and four times fewer operations: on the seed that the
# settings were chosen on, hidden facts are as low and what is kept as high.
BASES: dict[str, tuple[dict[str, Any], int]] = {
    "npo": ({"type": "NPO", "lr": 1e-3, "batch_size": 8}, 150),
    "rmu": (
        {
            "type": "RMU",
            "lr": 2e-3,
            "batch_size": 8,
            "layer": 1,
            "depth": 2,
            "steering": 400.0,
            "retain_weight": 3.0,
        },
        150,
    ),
}
"""The unlearning below everything, and its steps."""

RHO = {"npo": 0.3, "rmu": 1.0}
WEIGHTS = {
    "npo": {"logit_scale": 0.1, "param_scale": 0.01, "grad_norm": 0.1},
    "rmu": {"logit_scale": 10.0, "param_scale": 100.0, "grad_norm": 100.0},
}
"""λ of each reading, looked for on seed 100 on the split S. Ten to thirty times as much costs
utility (NPO) or keeps the hazard from being unlearned (RMU, whose own loss is a thousand times
larger)."""


def _rank(base: str, kind: str, penalty: str) -> int:
    """One environment first, then the cheapest reading on the others, then the dear ones."""
    if kind == "single":
        return 1
    if penalty == "logit_scale":
        return 2 if base == "rmu" else 3
    return 4 if base == "npo" else 6


ROWS = 8
"""Rows of all environments together, a step."""

ENVIRONMENTS: dict[str, list[dict[str, Any]]] = {
    "single": [{"data": "unrelated"}],
    "datasets": [{"data": "unrelated", "weight": 0.5}, {"data": "related", "weight": 0.5}],
    "phrasings": [
        {"data": "unrelated", "weight": 0.5},
        {"data": "unrelated", "template": "plain", "weight": 0.5},
    ],
    "vectors": [
        {"data": "unrelated", "weight": 0.5},
        {
            "data": "unrelated",
            "attack": "adversary",
            "adversary": {"type": "Finetune", "lr": 1e-3},
            "weight": 0.5,
        },
    ],
    "forget set": [{"data": "forget"}],
}
"""Weights add up to one, so that many environments weigh as much as one."""

UNDO = {"first": 0.25, "share": 0.6, "scale": 1.0, "lr": 2e-3, "batch_size": 16}
UNDO_STEPS = 4
"""Steps of UNDO in all, in those of its base."""


def _tune(name: str, lr: float, mix: str, parameters: str = "full") -> Adversary:
    fields = {"lr": lr, "mix": mix, "parameters": parameters, "batch_size": 8}
    return Adversary(name=name, attack="finetune", fields=fields, steps=40)


ADVERSARIES = (
    _tune("relearn T, 3e-4", 3e-4, "harmful"),
    _tune("relearn T, 1e-3", 1e-3, "harmful"),
    _tune("related", 1e-3, "related"),
    _tune("unrelated", 1e-3, "unrelated"),
    _tune("LoRA on T", 3e-3, "harmful", "lora"),
    Adversary(
        name="quantise", attack="quantise", fields={"methods": ["rtn"], "bits": [4, 3]}, steps=0
    ),
)
"""Budgets are small: forty steps of eight rows; rounding to nearest, to four or three bits."""

CLAIMED = ("relearn T, 3e-4", "relearn T, 1e-3", "related", "unrelated")
"""Those that published directions are about; they train as one cohort."""


def arms(bases: Sequence[str] = tuple(BASES)) -> list[Arm]:
    """Every defence under study."""
    found: list[Arm] = []
    for name in bases:
        base, steps = BASES[name]
        plain = {key: value for key, value in base.items() if key != "type"}
        found.append(Arm(name=name, defence=name, fields=plain, steps=steps))
        sharp = {"base": base, "rho": RHO[name]}
        found.append(Arm(name=f"{name}+sam", defence="sam", fields=sharp, steps=steps))
        for penalty, weight in WEIGHTS[name].items():
            for kind in ENVIRONMENTS:
                fields = _ilu(base, kind, penalty, weight)
                title = f"{name}+ilu {penalty}, {kind}"
                found.append(
                    Arm(
                        name=title,
                        defence="ilu",
                        fields=fields,
                        steps=steps,
                        rank=_rank(name, kind, penalty),
                    )
                )
        controls = {
            "control: retain": _ilu(base, "single", "loss", 1.0),
            "control: random": {
                **_ilu(base, "single", "logit_scale", WEIGHTS[name]["logit_scale"]),
                "environments": [{"data": "unrelated", "scramble": "random"}],
            },
        }
        for title, fields in controls.items():
            title = f"{name}+{title}"
            found.append(Arm(name=title, defence="ilu", fields=fields, steps=steps, rank=5))
        undo = {**UNDO, "base": base}
        found.append(
            Arm(name=f"{name}+undo", defence="undo", fields=undo, steps=UNDO_STEPS * steps, rank=5)
        )
    return found


def _ilu(base: dict[str, Any], kind: str, penalty: str, weight: float) -> dict[str, Any]:
    return {
        "base": base,
        "penalty": penalty,
        "weight": weight,
        "environments": ENVIRONMENTS[kind],
        "environment_batch": ROWS // len(ENVIRONMENTS[kind]),
    }


def compared(bases: Sequence[str] = tuple(BASES)) -> list[str]:
    """The arms whose task vectors are compared: the plain ones, SAM, ILU with one environment."""
    return [
        arm.name
        for arm in arms(bases)
        if arm.name in bases or arm.name.endswith(("+sam", ", single"))
    ]


# -- running -----------------------------------------------------------------------------------


def run(
    lab: Lab, seeds: Sequence[int], bases: Sequence[str], write: Callable[[Seen], None]
) -> Seen:
    """First the adversaries that claims are about, then the rest, rank by rank and seed by seed;
    ``write`` is told what there is after each."""
    seen = Seen(seeds=tuple(seeds))
    every = arms(bases)
    ranks = sorted({arm.rank for arm in every})
    together = [one for one in ADVERSARIES if one.name in CLAIMED]
    for adversaries, rank, seed in product((together, ADVERSARIES), ranks, seeds):
        made = lab.make([arm for arm in every if arm.rank == rank], seed)
        # The references are no side of a comparison: one seed of them is enough.
        first = seed == seeds[0]
        attacked = {name: one for name, one in made.items() if first or name not in _REFERENCES}
        seen = seen.joined(lab.attack(attacked, adversaries), made, seed)
        if rank == 1 and adversaries is together:
            walked = _walked(lab, made, bases, seed)
            seen = replace(seen, cosines={**seen.cosines, seed: walked})
        write(seen)
    return seen


_REFERENCES = (UNDEFENDED, ORACLE)


def _walked(lab: Lab, made: Mapping[str, Made], bases: Sequence[str], seed: int) -> Cosines:
    """The cosines of one seed, worked out unless they are there."""
    unlearned = {name: made[name].subject for name in compared(bases) if name in made}
    unrelated = next(one for one in ADVERSARIES if one.name == "unrelated")
    job = Walk(
        undefended=made[UNDEFENDED].subject.folder,
        defended={name: one.folder for name, one in unlearned.items()},
        digests={name: one.digest for name, one in unlearned.items()},
        source=lab.source,
        domain=lab.domain,
        fields=unrelated.fields,
        steps=lab.capped(unrelated.steps),
        seed=seed,
        root=str(lab.root),
    )
    if not (job.place.exists() or lab.still):
        for ended in lab.executor(walk, [job]):
            lab.say(f"seed {seed}: task vectors {ended.status} {ended.error[-400:]}")
    return json.loads(job.place.read_text(encoding="utf-8")) if job.place.exists() else {}


# -- telling -----------------------------------------------------------------------------------


def report(seen: Seen, bases: Sequence[str] = tuple(BASES)) -> str:
    """The tables, in Markdown."""
    names = [UNDEFENDED, *(arm.name for arm in arms(bases)), ORACLE]
    kinds = ("relearn T", "LoRA on T", "related", "unrelated", "quantise")
    rows = [
        [
            name,
            written(share(seen.utility(name))),
            written(share(seen.before(name))),
            *(written(share(seen.after(name, kind))) for kind in kinds),
        ]
        for name in names
    ]
    head = ["arm", "utility", "harm before", *(f"after {kind}" for kind in kinds)]
    vectors = [
        [name, *(written(judged(seen.cosine(name, pair))) for pair in _PAIRS)]
        for name in compared(bases)
    ]
    again = written(judged(seen.cosine(RESTART, "ft,ft")))
    lines = [
        f"Seeds {', '.join(map(str, seen.seeds))}; 95 % intervals over seeds and items.",
        table(head, rows),
        "Cosines of task vectors, fine-tuned on unrelated text. The same fine-tune of the "
        f"undefended model, its data in another order, against itself: {again}.",
        table(["arm", *_PAIRS], vectors),
        table(
            ["published direction of effect", "source", "seen as", "seen here", "seeds", "agrees?"],
            [list(claim.row()) for claim in claims(seen, bases)],
        ),
    ]
    return "\n\n".join(lines) + "\n"


_PAIRS = ("u,ft", "u→ft,u", "u→ft,ft")


def main(words: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m studies.invariance", description=__doc__)
    parser.add_argument("--seeds", type=int, default=3, help="seeds 0 to N−1")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--bases", nargs="+", default=list(BASES), choices=list(BASES))
    parser.add_argument("--cap", type=int, help="most steps of any defence or attack")
    parser.add_argument("--tables", action="store_true", help="run nothing, tell what is there")
    parser.add_argument("--out", type=Path, default=Path("runs/studies"))
    asked = parser.parse_args(words)
    command = " ".join(["python -m studies.invariance", *(words or sys.argv[1:])])
    target = asked.out / "invariance.md"

    def write(seen: Seen) -> None:
        write_atomic(target, f"# Invariance\n\n`{command}`\n\n{report(seen, asked.bases)}")

    asked.out.mkdir(parents=True, exist_ok=True)
    with executing(asked.workers) as executor:
        lab = Lab(root=asked.out, executor=executor, cap=asked.cap, still=asked.tables, say=_say)
        run(lab, range(asked.seeds), asked.bases, write)
    print(target.read_text(encoding="utf-8"))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
