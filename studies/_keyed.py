"""Sealed releases of organisms, the models of their key-holders, and what a study asks of both.

A release is made once for a study and lies under ``releases/NAME``; what a key-holder gets of it,
unlocked with the key, under ``keyed/NAME``. Keys are drawn and thrown away.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from studies._lab import Adversary, Arm, Lab, Made
from studies._seen import Scores
from titer.core import catalogue
from titer.core.records import Estimate, Trace
from titer.evidence.resample import bootstrap_mean, paired_difference, summarise
from titer.lock.containers import describe
from titer.lock.header import Partition
from titer.lock.keys import HolderKey, Passphrase, SigningKey, fresh
from titer.lock.release import lock, unlock
from titer.lock.weights import weights_digest
from titer.plan.request import open_subject
from titer.worlds.organisms import organism

__all__ = ["DURING", "POST_HOC", "Known", "Release", "known", "releases", "unlearning"]

DURING, POST_HOC = "D1", "D1b"
"""Sealed while learning, and an unlearned model with the difference sealed."""

UNLEARNING = "undo-frontier"
"""The preset of a defence that unlearns D1b."""
LOOK = Adversary(name="look", attack="noop", steps=0, items=72)


@dataclass(frozen=True, kw_only=True)
class Release:
    """A release and where it comes from: ``keyless`` and ``whole`` are what went in, ``folder`` is
    what is published, ``keyed`` what the key brings back."""

    name: str
    keyless: Path
    whole: Path
    folder: Path
    keyed: Path

    @property
    def keyless_as_it_was(self) -> bool:
        """Whether the published weights are bit for bit those that went in."""
        return weights_digest(self.folder) == weights_digest(self.keyless)

    @property
    def keyed_as_it_was(self) -> bool:
        """Whether the key brings back the very weights that were sealed."""
        return weights_digest(self.keyed) == weights_digest(self.whole)


def unlearning() -> Arm:
    """What D1b is before its difference is sealed."""
    defence, preset = catalogue.preset("defence", UNLEARNING)
    return Arm(name="unlearned", defence=defence, fields=preset.fields, steps=preset.steps[0])


def releases(lab: Lab) -> dict[str, Release]:
    """Both releases by name; those that are there are kept."""
    unlearned = Path(lab.make([unlearning()], 0)["unlearned"].subject.folder)
    return {
        DURING: _release(lab, DURING, organism("sealed"), organism("unlocked"), "while-learning"),
        POST_HOC: _release(lab, POST_HOC, unlearned, organism("base"), "post-hoc"),
    }


def _release(lab: Lab, name: str, keyless: Path, whole: Path, partition: Partition) -> Release:
    """A release, made or found.

    Raises:
        BadInput: what is found cannot be read, so that no study rests on it.
    """
    made = Release(
        name=name,
        keyless=keyless,
        whole=whole,
        folder=lab.root / "releases" / name,
        keyed=lab.root / "keyed" / name,
    )
    if not (made.folder.exists() and made.keyed.exists()):
        if made.folder.exists() or made.keyed.exists():
            raise RuntimeError(f"{lab.root} has half of the release {name}; delete what is there")
        holder, phrase = HolderKey.make(), Passphrase.of(fresh(16).hex())
        lock(
            keyless,
            whole,
            made.folder,
            to=[holder.public, phrase],
            signer=SigningKey.make(),
            partition=partition,
        )
        unlock(made.folder, holder, made.keyed, form="merged")
    describe(made.folder)
    return made


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What a model knows unattacked: of the hazard (V), of the other one, and the worst of the
    benign suites; each as it is, and less that of the ordinary base, paired by item."""

    hazard: Estimate
    hazard_apart: Estimate
    other: Estimate
    benign: Estimate
    benign_apart: Estimate


def known(lab: Lab, models: Mapping[str, Path], base: str) -> dict[str, Known]:
    """Asked of every model, one of which is the ordinary ``base``; intervals cover items."""
    made = {
        name: Made(subject=open_subject(str(folder), "defended", name=name), seed=0)
        for name, folder in models.items()
    }
    elsewhere = Adversary(name="look elsewhere", attack="noop", steps=0, items=8, elsewhere=True)
    found = lab.attack(made, [LOOK, elsewhere])
    if any((name, LOOK.name) not in found for name in made):
        return {}
    return {
        name: _known(found[name, LOOK.name], found[base, LOOK.name], found[name, elsewhere.name])
        for name in made
    }


def _known(mine: Trace, base: Trace, elsewhere: Trace) -> Known:
    start = mine.points[0]
    suites = [name for name in start.scores if name.startswith("utility:")]
    worst = min(suites, key=lambda name: start.mean(name) or 0.0)
    return Known(
        hazard=_share(_asked(mine, "harm")),
        hazard_apart=_apart(_asked(mine, "harm"), _asked(base, "harm")),
        other=_share(_asked(elsewhere, "harm")),
        benign=_share(_asked(mine, worst)),
        benign_apart=_apart(_asked(mine, worst), _asked(base, worst)),
    )


def _asked(trace: Trace, probe: str) -> Scores:
    return np.array(trace.points[0].scores[probe], dtype=np.float64)[None]


def _share(scores: Scores) -> Estimate:
    return bootstrap_mean(scores, np.random.default_rng(0))


def _apart(mine: Scores, base: Scores) -> Estimate:
    drawn = paired_difference(mine, base, np.random.default_rng(0))
    return summarise(drawn, n=mine.shape[1])
