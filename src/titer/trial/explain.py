"""Look inside one model beside the undefended one, to say why it held or fell.

Nothing here changes a score, so nothing here is part of a suite's hash.
"""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from titer.core import catalogue
from titer.core.errors import UnknownName, nearest
from titer.core.files import write_atomic
from titer.core.method import Case, Insight
from titer.core.records import Part, Status, content_key, part
from titer.trial.load import load_model, load_named_world

__all__ = ["Inspection", "explain", "pick"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """One measure on one model, beside the undefended one; its key is its name.

    Both models are known by their digests; ``derived`` says that the first was made from the
    second. ``interface`` is the digest of the model whose tokenizer, template and configuration the
    look goes through, as an attacker's would, empty where the model has the undefended one's.
    Places and ``subject`` are for people and stay out of the key.
    """

    measure: Part
    model: str
    base: str
    world: str
    domain: str
    derived: bool
    interface: str = ""
    seed: int = 0
    subject: str = ""
    folder: str = ""
    base_folder: str = ""
    source: str = ""
    out: str = ""
    size: int = 1

    @property
    def key(self) -> str:
        """Same key, same readings."""
        content = asdict(self)
        for place in ("subject", "folder", "base_folder", "source", "out", "size"):
            del content[place]
        if not self.interface:
            del content["interface"]  # results of before it was written down
        return content_key(content)

    @property
    def claim(self) -> str:
        """Its name in every process that works in the run folder."""
        return f"inside-{self.key}"

    @property
    def says(self) -> str:
        """What is measured, for people."""
        return f"{self.measure.name} in {self.subject}"

    @property
    def results(self) -> list[Path]:
        """The file that says what was found."""
        return [Path(self.out) / f"{self.key}.json"]


def pick(names: Sequence[str]) -> tuple[Part, ...]:
    """The measures that look inside, by name; all of them where none is named.

    Raises:
        UnknownName: there is no such measure, or it scores items instead.
    """
    known = [one.name for one in catalogue.summaries("measure") if one.family == "inside"]
    if unknown := [name for name in names if name not in known]:
        raise UnknownName(
            f"no measure named {unknown[0]!r} looks inside a model.{nearest(unknown[0], known)} "
            f"There are {', '.join(known)}."
        )
    return tuple(
        part(name, catalogue.build("measure", name), catalogue.card("measure", name).version)
        for name in names or known
    )


def explain(job: Inspection) -> Status:
    """Take one measure's readings and write them down, whole or not at all."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    started = time.monotonic()
    found: dict[str, Any] = {"measure": asdict(job.measure), "subject": job.subject}
    status: Status = "ok"
    try:
        world = load_named_world(job.source)
        insight: Insight = catalogue.build("measure", job.measure.name, dict(job.measure.fields))
        case = Case(
            lm=load_model(job.folder, job.base_folder if job.interface else ""),
            base=load_model(job.base_folder),
            hazard=world.hazards[job.domain],
            data=world.attacker(job.domain),
            derived=job.derived,
            seed=job.seed,
        )
        found["readings"] = [asdict(reading) for reading in insight.look(case)]
    except Exception:
        status, found["error"] = "failed", traceback.format_exc(limit=20)
    found |= {"status": status, "seconds": round(time.monotonic() - started, 3)}
    Path(job.out).mkdir(parents=True, exist_ok=True)
    write_atomic(job.results[0], json.dumps(found, indent=1, sort_keys=True))
    return status
