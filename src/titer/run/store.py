"""A run folder on disk. Writes are atomic; a folder that exists is not a result.

``trials/<key>/``: ``trial.json`` (what was asked), ``generations.jsonl`` (what the model said, one
line a look), ``scores.jsonl`` (judged, one line a look), ``status.json`` (how it ended, written
last).
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from titer.core.errors import BadInput
from titer.core.files import atomic_folder, require_space, room, write_atomic
from titer.core.reading import UNREADABLE, load_json
from titer.core.records import Trace
from titer.run.entries import Entry, read_entry

__all__ = [
    "Store",
    "atomic_folder",
    "damage",
    "lines",
    "require_space",
    "room",
    "rows",
    "write_atomic",
]

_FINAL = ("ok", "diverged")


def lines(records: Iterable[Any]) -> str:
    """JSON, one record a line."""
    return "".join(json.dumps(record, sort_keys=True) + "\n" for record in records)


@dataclass(frozen=True)
class Store:
    """The trials of a run folder."""

    root: Path

    def folder(self, key: str) -> Path:
        """Where a trial lives."""
        return self.root / "trials" / key

    def status(self, key: str) -> Path:
        """The file that says how a trial ended, written last."""
        return self.folder(key) / "status.json"

    def done(self, key: str) -> bool:
        """True when a trial has a final result; failed and timed-out ones are tried again."""
        return self._status(key).get("status") in _FINAL

    def _status(self, key: str) -> dict[str, Any]:
        """How a trial ended; empty where it has not.

        Raises:
            BadInput: the file says nothing of the kind.
        """
        path = self.status(key)
        try:
            if not path.exists():
                return {}
            found = load_json(path.read_text(encoding="utf-8"))
            if isinstance(found, dict) and isinstance(found.get("status"), str):
                return cast(dict[str, Any], found)
            why = "it does not say how the trial ended"
        except (OSError, *UNREADABLE) as error:
            why = damage(error)
        raise BadInput(
            f"{path} is damaged: {why}; delete {path.parent} and run the same command again."
        )

    def left(self, keys: Sequence[str]) -> list[str]:
        """Which trials of a cohort are to run: those without a final result; all of them where the
        results are torn, since in smaller company the others would differ by rounding."""
        return [key for key in keys if self._torn(keys) or not self.done(key)]

    def _torn(self, keys: Sequence[str]) -> bool:
        """True where a kill came between the results of a cohort: some of it is written, as trained
        in this company, and some is not."""
        there = [key for key in keys if self.status(key).exists()]
        if not 0 < len(there) < len(keys):
            return False
        return any(self._status(key).get("cohort") == list(keys) for key in there)

    def put(self, trace: Trace, generations: Sequence[dict[str, Any]] = ()) -> None:
        """Write a trial down, whole or not at all. Where it ended well before, in another process
        that did the same, that stays."""
        if self.done(trace.trial.key):
            return
        whole = trace.to_json()
        trial, points = whole.pop("trial"), whole.pop("points")
        with atomic_folder(self.folder(trace.trial.key)) as scratch:
            for name, text in {
                "trial.json": json.dumps(trial, sort_keys=True, indent=1),
                "generations.jsonl": lines(generations),
                "scores.jsonl": lines(points),
                "status.json": json.dumps(whole, sort_keys=True, indent=1),
            }.items():
                (scratch / name).write_text(text, encoding="utf-8")

    def get(self, key: str) -> Trace:
        """Read a trial back.

        Raises:
            OSError, KeyError, TypeError, ValueError, AttributeError: see :func:`damage`.
        """
        folder = self.folder(key)
        raw = load_json((folder / "status.json").read_text())
        raw["trial"] = load_json((folder / "trial.json").read_text())
        looks = (folder / "scores.jsonl").read_text().splitlines()
        trace = Trace.from_json({**raw, "points": [load_json(look) for look in looks]})
        scores = (score for point in trace.points for score in point.scores.values())
        if not all(type(one) is float or type(one) is int for score in scores for one in score):
            raise ValueError("a score is no number")
        spent = (one for point in trace.points for one in asdict(point.spent).values())
        if not all(type(one) is float or type(one) is int for one in spent):
            raise ValueError("what was spent is no number")
        return trace

    def named(self, entry: Entry) -> Trace:
        """A trial under the names that a study's plan gives it."""
        return entry.call(self.get(entry.key))

    def traces(self, keys: Iterable[str] | None = None) -> list[Trace]:
        """Every trial that has ended, or those of ``keys``, in the order of their keys."""
        found = self.root / "trials"
        names = sorted(keys) if keys is not None else sorted(p.name for p in found.glob("[!.]*"))
        return [self.get(name) for name in names if self.status(name).exists()]

    def plan(self) -> list[Entry]:
        """The trials of the study, and what it calls them.

        Raises:
            OSError: there is no plan.
            ValueError: it is none.
        """
        raw: Any = load_json((self.root / "plan.json").read_text(encoding="utf-8"))
        if not isinstance(raw, list):
            raise ValueError("it holds no list of trials")
        return [read_entry(entry) for entry in cast(list[object], raw)]

    def ended(self) -> list[Entry]:
        """The trials of the study that have ended.

        Raises:
            OSError, ValueError: the plan cannot be read.
        """
        return [e for e in self.plan() if self.status(e.key).exists()]

    def planned(self) -> list[Trace]:
        """The trials of the study that have ended, under the names that its plan gives them.

        Raises:
            OSError, ValueError, KeyError: the plan cannot be read.
        """
        return [self.named(entry) for entry in self.ended()]

    def inspection(self, key: str) -> dict[str, Any]:
        """What one measure found inside one model, or how it failed; empty where it was not taken.

        See :mod:`titer.run.inside`.
        """
        path = self.root / "inside" / f"{key}.json"
        return load_json(path.read_text(encoding="utf-8")) if path.exists() else {}

    def inside(self) -> dict[str, list[dict[str, Any]]]:
        """What was found in each model, by its name: one record a measure, with its readings.

        A measure that failed or was not reached is left out.
        """
        path = self.root / "inside.json"
        entries = load_json(path.read_text(encoding="utf-8")) if path.exists() else []
        found: dict[str, list[dict[str, Any]]] = {}
        for entry in entries:
            record = self.inspection(entry["key"])
            if record.get("status") == "ok":
                kept = {"readings": record["readings"], "seconds": record["seconds"]}
                found.setdefault(entry["subject"], []).append({"measure": entry["measure"], **kept})
        return found

    def price(self, source: str) -> dict[str, Any]:
        """What making a model of this run cost its defender: ``steps``, ``tokens``, ``examples``,
        ``flops`` and ``seconds``; empty for a model from elsewhere."""
        home = Path(source)
        path = self.root / home / "titer.json"
        if home.parts[:1] != ("models",) or ".." in home.parts or not path.exists():
            return {}
        facts = load_json(path.read_text(encoding="utf-8"))
        return {**facts["spent"], "seconds": facts["seconds"]}

    def sweep(self) -> None:
        """Remove what a killed process left half written."""
        for folder in (self.root / "trials", self.root / "models"):
            for scratch in folder.glob(".*"):
                shutil.rmtree(scratch, ignore_errors=True)

    def write_results(self, traces: Sequence[Trace]) -> None:
        """``results.jsonl``, and ``results.parquet`` where pyarrow is there: one row a probe and
        look, nothing in it that depends on when or where it ran."""
        found = rows(traces)
        write_atomic(self.root / "results.jsonl", lines(found))
        try:
            import pyarrow
            from pyarrow import parquet
        except ImportError:
            return
        target = self.root / "results.parquet"
        scratch = target.with_name(".results.parquet")
        with room():
            parquet.write_table(pyarrow.Table.from_pylist(found), scratch)
            os.replace(scratch, target)

    def files(self) -> list[str]:
        """Every file of the run folder that a sum is kept of, by its path inside."""
        return [
            path.relative_to(self.root).as_posix()
            for path in sorted(self.root.rglob("*"))
            if path.is_file()
            and path.name != "SHA256SUMS"
            and not any(part.startswith(".") for part in path.relative_to(self.root).parts)
        ]

    def write_sums(self, only: Sequence[str] = ()) -> None:
        """``SHA256SUMS`` over the run folder, in the format that ``sha256sum -c`` reads.

        With ``only``, the sums of what lies in those folders are renewed and all others stay as
        they were written, whatever became of their files; without sums nothing is written.
        """
        sums, files = self.root / "SHA256SUMS", self.files()
        kept: dict[str, str] = {}
        if only:
            if not sums.is_file():
                return
            inside = tuple(f"{folder}/" for folder in only)
            old = (line.partition("  ") for line in sums.read_text().splitlines())
            kept = {name: digest for digest, _, name in old if not name.startswith(inside)}
            files = [name for name in files if name.startswith(inside)]
        for name in files:
            kept[name] = hashlib.sha256((self.root / name).read_bytes()).hexdigest()
        write_atomic(sums, "".join(f"{kept[name]}  {name}\n" for name in sorted(kept)))


def damage(error: Exception) -> str:
    """What is wrong with a file that could not be read, in words that name no path."""
    if isinstance(error, FileNotFoundError) and error.filename:
        return f"{Path(str(error.filename)).name} is missing"
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    if isinstance(error, UnicodeDecodeError):
        return "it holds bytes that are no text"
    if isinstance(error, json.JSONDecodeError):
        return f"it is no JSON ({error})"
    if isinstance(error, KeyError):
        return f"{error} is not in it"
    if type(error) is ValueError:
        return str(error)
    return f"it is of another shape ({error})"


def rows(traces: Iterable[Trace]) -> list[dict[str, Any]]:
    """One row a probe and look, nothing in it that depends on when or where it ran."""
    ordered = sorted(traces, key=lambda trace: trace.trial.key)
    return [row for trace in ordered for row in _rows(trace)]


def _rows(trace: Trace) -> list[dict[str, Any]]:
    trial = trace.trial
    head = {
        "key": trial.key,
        "subject": trial.subject,
        "row": trial.label,
        "purpose": trial.purpose,
        "domain": trial.domain,
        "task": trial.task,
        "seed": trial.seed,
        "lr": float(trial.attack.fields.get("lr", 0.0)),
        "status": trace.status,
        "weights": trace.weights,
    }
    looks = [
        {
            **head,
            "steps": point.spent.steps,
            "tokens": point.spent.tokens,
            "examples": point.spent.examples,
            "flops": point.spent.flops,
            "probe": probe,
            "mean": sum(scores) / len(scores) if scores else None,
            "n": len(scores),
        }
        for point in trace.points
        for probe, scores in sorted(point.scores.items())
    ]
    blank = {"steps": None, "tokens": None, "examples": None, "flops": None}
    return looks or [{**head, **blank, "probe": None, "mean": None, "n": 0}]
