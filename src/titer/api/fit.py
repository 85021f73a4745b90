"""What fits here: a model's pace and memory on this machine, and what suites would take."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from titer.api.estimate import Needed, free_memory
from titer.api.rehearse import Estimate, bench, priced
from titer.api.studies import How
from titer.core.study import Study
from titer.plan.request import assemble, check
from titer.plan.suites import SUITES
from titer.trial.immunise import planned
from titer.trial.toll import KINDS, Kind

__all__ = ["Fit", "fit"]

_DEFENCE = "npo"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """A model on this machine, on rows of a hazard that are ``row_tokens`` long.

    ``tokens_per_second`` of one worker by kind of pass, in rows that fill it; None where training
    of that kind does not fit in the ``free`` bytes. ``immunise`` is one immunisation by default
    settings, ``suites`` each of some suites on this model alone, on ``workers``.
    """

    model: str
    parameters: int
    weights: int
    free: int | None
    row_tokens: int
    tokens_per_second: Mapping[Kind, float | None]
    immunise: Needed
    suites: Mapping[str, Estimate]


def fit(
    model: str,
    data: str,
    domain: str | None,
    suites: tuple[str, ...],
    workers: int,
    timeout: float = How().timeout,
) -> Fit:
    """Load a model, measure it, and price suites on it.

    Raises:
        BadInput: the model, the data or a suite cannot be used.
    """
    with tempfile.TemporaryDirectory() as nowhere:
        asked = Study(
            models=(model,), undefended=model, data=data, domain=domain, out=Path(nowhere) / "run"
        )
        checked = [check(replace(asked, suite=name)) for name in suites or tuple(SUITES)[:2]]
        study, _ = assemble(checked[0])
        prices = priced(study, model)
        found = {
            one.suite.name: bench(replace(asked, suite=one.suite.name), workers, timeout, prices)
            for one in checked
        }
    size = prices.lm.parameters()
    scope = study.world[study.domain]
    plan = planned(_DEFENCE, {}, scope, base="", parameters=size)
    seconds = prices.pace.seconds
    return Fit(
        model=model,
        parameters=size,
        weights=prices.pace.weights,
        free=free_memory(),
        row_tokens=prices.width,
        tokens_per_second={
            kind: 1 / max(1e-9, seconds[kind].token) if kind in seconds else None for kind in KINDS
        },
        immunise=prices.immunising(plan, study.world),
        suites=found,
    )
