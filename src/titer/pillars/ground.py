"""What the pillars of one model are scored from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from titer.core import Trace
from titer.core.study import Manifest, Subject
from titer.evidence.arena import Arena
from titer.evidence.curves import Rule
from titer.evidence.panel import Bench, Panel
from titer.pillars.worst import Resisted

__all__ = ["Ground"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """One model of a study and all that is known of it.

    ``arenas`` holds each hazard that was attacked, ``panels`` the model's curves there and
    ``resisted`` what attackers got out of it, all by hazard; the model's own is always among the
    last. ``blank`` is what is compared with where that was not attacked. ``rng`` is drawn from in
    the order of the table, so a pillar beyond the ones there are takes a generator of its own
    (:func:`titer.evidence.arena.generator`), and leaves their draws alone.
    """

    study: Manifest
    subject: Subject
    traces: Sequence[Trace]
    arenas: Mapping[str, Arena]
    panels: Mapping[str, Panel | None]
    resisted: Mapping[str, Resisted]
    rule: Rule
    blank: Bench
    rng: np.random.Generator
    draws: int
    seed: int

    @property
    def own(self) -> str:
        """The hazard that the models are about."""
        return self.study.domains[0]

    @property
    def mine(self) -> Resisted:
        """What attackers got out of the model on its own hazard."""
        return self.resisted[self.own]

    @property
    def arena(self) -> Arena | None:
        """That hazard; None where nothing was attacked on it."""
        return self.arenas.get(self.own)

    @property
    def panel(self) -> Panel | None:
        """The model's curves on it; None where no attack finished."""
        return self.panels.get(self.own)

    @property
    def undefended(self) -> str:
        """The name of the undefended model; empty where the study has none."""
        base = self.study.reference("undefended", self.own)
        return base.name if base else ""
