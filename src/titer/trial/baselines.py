"""What an untouched model says, asked once for all the trials that start from it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from titer.core.files import locked, write_atomic
from titer.core.lm import LM
from titer.core.reading import load_json
from titer.core.records import Trial
from titer.trial.probes import Probe, Records, ask

__all__ = ["Baseline", "baseline"]

_SAMPLE = 8


@dataclass(frozen=True)
class Baseline:
    """The answers of an untouched model.

    An attack may have changed the model before its first look, so the answers are handed out only
    where a few of them (``signs``) come out the same again, to the bit.
    """

    sample: tuple[Probe, ...]
    signs: Records
    records: Records

    def fits(self, lm: LM) -> bool:
        """Whether ``lm`` is still the model these answers are from."""
        return _plain(ask(lm, self.sample)) == self.signs

    def said_by(self, lm: LM) -> Records | None:
        """What ``lm`` says, where it is still that model."""
        return self.records if self.fits(lm) else None


def baseline(root: Path, lm: LM, trial: Trial, asked: Sequence[Probe]) -> Baseline:
    """What ``lm``, the trial's model, says to ``asked``.

    Read from the run folder where a trial of the same model, world and questions has been before,
    else asked and written down; of several processes that want it at once one asks, the others
    wait. A file of another machine does no harm, since its answers are handed out only where they
    come out the same here.
    """
    questions = [
        [one.name, one.measure, [item.id for item in one.items], *([one.tokens] * bool(one.tokens))]
        for one in asked
    ]
    model = [trial.model, trial.interface] if trial.interface else trial.model
    said = json.dumps([model, trial.world, trial.domain, trial.task, questions])
    file = root / ".starts" / f"{hashlib.sha256(said.encode()).hexdigest()[:16]}.json"
    if (held := _HELD.get(file)) is None:
        held = _HELD[file] = _read(file) or _ask(file, lm, asked)
        while len(_HELD) > _MOST:
            del _HELD[next(iter(_HELD))]
    sample = tuple(replace(probe, items=probe.items[:_SAMPLE]) for probe in asked[:1])
    return Baseline(sample, held["signs"], held["records"])


def _ask(file: Path, lm: LM, asked: Sequence[Probe]) -> dict[str, Records]:
    with locked(file.with_suffix(".lock")):
        if found := _read(file):
            return found
        sample = [replace(probe, items=probe.items[:_SAMPLE]) for probe in asked[:1]]
        content = {"signs": ask(lm, sample), "records": ask(lm, asked)}
        write_atomic(file, json.dumps(content))
        return _plain(content)


def _read(file: Path) -> dict[str, Records] | None:
    try:
        return load_json(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _plain(content: Any) -> Any:
    """As it comes back from a file: tuples are lists there. Floats keep every bit."""
    return json.loads(json.dumps(content))


_HELD: dict[Path, dict[str, Records]] = {}
_MOST = 16
"""Answers kept in memory; the oldest go first."""
