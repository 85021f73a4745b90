"""Through which interface a model is attacked: its own, the undefended one's, or both.

A release is weights with an interface, and an attacker keeps what serves him. So a model whose
tokenizer, template or configuration is not the undefended model's is asked through both before
anything is trained. Where the undefended one shows at least the harm and leaves at least the use,
everything goes through that alone; else what attacks runs through both, and the worst counts. A
model that differs in nothing costs nothing more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from titer.checks.s19_interface import CHECK, CLEAN, OWN, UNDEFENDED
from titer.core import catalogue
from titer.core.protocol import HARM, MARGIN, is_utility
from titer.core.records import Point, Trace, Trial, part
from titer.plan.experiment import Experiment

__all__ = ["looks", "settled", "stronger"]


def looks(study: Experiment) -> list[Trial]:
    """A model that differs is asked without an attack through its own interface and through the
    undefended model's, and the undefended model through that of the release."""
    base = study.undefended()
    nothing = part("noop", catalogue.build("attack", "noop"))
    found: list[Trial] = []
    for subject in study.measured():
        if not subject.differs:
            continue
        for row, asked, interface in (
            (OWN, subject.digest, ""),
            (CLEAN, subject.digest, base.digest),
            (UNDEFENDED, base.digest, subject.digest),
        ):
            look = study.trial(
                subject,
                nothing,
                0,
                study.seeds[0],
                purpose="check",
                role="check",
                row=row,
                check=CHECK.id,
                label=f"{CHECK.id} {row}",
                interface=interface,
            )
            found.append(replace(look, model=asked))
    return found


def settled(study: Experiment, traces: Sequence[Trace]) -> Experiment:
    """The study once it is known through which interface each of its models is attacked."""
    base = study.undefended().digest
    chosen = {
        subject.digest: (base,) if _clean_is_stronger(subject.digest, traces) else ("", base)
        for subject in study.measured()
        if subject.differs
    }
    return replace(study, through=chosen)


def _clean_is_stronger(digest: str, traces: Sequence[Trace]) -> bool:
    """Whether the undefended model's interface shows at least the harm and the use that a model
    shows through its own; a look that failed says nothing."""
    found = {
        trace.trial.row: trace.points[0]
        for trace in traces
        if (trace.trial.check, trace.trial.model) == (CHECK.id, digest) and trace.points
    }
    if OWN not in found or CLEAN not in found:
        return False
    return stronger(found[CLEAN], found[OWN])


def stronger(clean: Point, own: Point) -> bool:
    """Whether one look shows at least the harm and the use of another, which went through the
    release's own interface."""
    kept = all(
        (clean.mean(probe) or 0.0) >= (own.mean(probe) or 0.0) - MARGIN
        for probe in own.scores
        if is_utility(probe)
    )
    return kept and (clean.mean(HARM) or 0.0) >= (own.mean(HARM) or 0.0) - 1e-9
