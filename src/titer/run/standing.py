"""How far a run folder is, and who works in it; reads alone, and disturbs nobody."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from titer.core.errors import BadInput
from titer.core.reading import UNREADABLE, load_json
from titer.plan.manifest import CLAIMS, read_config
from titer.run.claims import Claims, OnDisk
from titer.run.store import Store

__all__ = ["AtWork", "Standing", "standing"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AtWork:
    """A process that has not said that it ended: ``silent`` seconds since its last sign of life, by
    this machine's clock, and what it has ``in_hand``."""

    host: str
    pid: int
    began: str
    silent: float
    in_hand: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A run folder at one moment.

    ``planned`` are the trials planned so far, a later stage may plan more; ``ended`` counts them by
    how they ended; ``left_seconds`` is what the rest would take at the pace of those at work, None
    where nobody is or nothing has ended yet; ``reported`` says whether its report is written.
    """

    planned: int
    ended: dict[str, int]
    at_work: tuple[AtWork, ...]
    left_seconds: float | None
    reported: bool


def standing(root: Path) -> Standing:
    """How far a run folder is.

    Raises:
        BadInput: there is no run folder here, or its plan is damaged.
    """
    at_work = _at_work(root)
    if not at_work or (root / "config.yaml").exists():
        read_config(root)
    store = Store(root)
    try:
        keys = (
            {entry.key for entry in store.plan()} if (root / "plan.json").exists() else set[str]()
        )
    except (OSError, *UNREADABLE) as error:
        raise BadInput(
            f"{root / 'plan.json'} is damaged: {error}; copy the folder again."
        ) from None
    came: Counter[str] = Counter()
    written: list[float] = []
    for key in keys:
        path = store.status(key)
        try:
            came[str(load_json(path.read_text(encoding="utf-8"))["status"])] += 1
            written.append(path.stat().st_mtime)
        except FileNotFoundError:
            continue
        except (OSError, *UNREADABLE):
            came["damaged"] += 1
    return Standing(
        planned=len(keys),
        ended=dict(sorted(came.items())),
        at_work=tuple(at_work),
        left_seconds=_left(at_work, written, len(keys) - came["ok"] - came["diverged"]),
        reported=(root / "report" / "verdict.json").exists(),
    )


def _left(at_work: list[AtWork], written: list[float], open_trials: int) -> float | None:
    """Seconds until the open trials have ended, at the pace since those at work began."""
    now = time.time()
    begun = [datetime.fromisoformat(one.began).timestamp() for one in at_work if one.began]
    recent = sum(moment >= min(begun) for moment in written) if begun else 0
    return open_trials * max(now - min(begun), 1.0) / recent if recent else None


def _at_work(root: Path) -> list[AtWork]:
    folder = root / CLAIMS
    claims = Claims(OnDisk(folder), "")
    jobs = {path.name.rpartition(".")[0] for path in folder.glob("*.*")}
    held = [claims.last(job) for job in sorted(jobs)]
    found: list[AtWork] = []
    for path in sorted(folder.glob("process-*")):
        owner = path.name.removeprefix("process-")
        told = claims.told(owner)
        if not told or claims.ended(owner):
            continue
        began = told.get("began")
        found.append(
            AtWork(
                host=str(told.get("host", "")),
                pid=int(told.get("pid", 0)),
                began=began if isinstance(began, str) and _is_time(began) else "",
                silent=max(0.0, datetime.now(UTC).timestamp() - path.stat().st_mtime),
                in_hand=tuple(claim.says for claim in held if claim.owner == owner),
            )
        )
    return found


def _is_time(text: str) -> bool:
    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False
