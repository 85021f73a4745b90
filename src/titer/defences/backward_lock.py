"""A known-broken control: right answers, no gradient."""

from __future__ import annotations

from dataclasses import dataclass

from titer.method import LM, Card, Run
from titer.nn.locked import lock_backward

__all__ = ["CARD", "BackwardLock"]


@dataclass(frozen=True, kw_only=True)
class BackwardLock:
    """Layers of the model's own that hand back a gradient of zero.

    Stands for all locks on the backward pass alone: gradient projectors, hooks, custom autograd.
    Guarantee: a training script that runs the release's own modules changes no weight. Not
    guaranteed: anything else. Bypass: load the weights into stock modules (the attack
    ``plain_modules``), which is what ``from_pretrained`` does by default. The folder holds the
    weights unchanged and an entry ``titer_lock`` in its configuration; a real release would hold
    code, which titer never runs, so titer's own studies put the lock on where they see that entry.
    A control: it shows whether a suite tells a gradient that is masked from knowledge that is gone.

    Source: a control.
    """

    def __call__(self, lm: LM, run: Run) -> LM:
        run.look(lm)
        out = lm.clone()
        lock_backward(out)
        return out


CARD = Card(
    kind="defence",
    build=BackwardLock,
    source="a known-broken control",
    summary="layers that hand no gradient back; broken by stock modules (attack plain_modules)",
    family="lock",
    access="none",
    departures="an entry in the configuration stands for the code that a release would bring",
)
