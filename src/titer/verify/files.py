"""What is wrong with the files of a run folder: which are there, whole, and what they were."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from titer.core.reading import load_json
from titer.core.records import Trace
from titer.run.store import Store, rows

__all__ = ["Check", "Finding", "layout", "sums", "table"]

Check = Literal["layout", "hash", "suite", "model", "trial", "missing", "result", "judge"]
_WANTED = ("env.json", "plan.json", "calibration.json", "results.jsonl", "SHA256SUMS")
_AGAIN = "run the same bench command again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is wrong (``fault``), or that could not be looked at (``note``)."""

    check: Check
    where: str
    says: str
    kind: Literal["fault", "note"] = "fault"

    def line(self) -> str:
        """``fault: hash: results.jsonl: …``."""
        return f"{self.kind}: {self.check}: {self.where}: {self.says}"


def layout(root: Path) -> Iterator[Finding]:
    """The files that every run folder has, and links, which could lead out of it."""
    for name in _WANTED:
        if not (root / name).is_file():
            says = f"is missing; {_AGAIN} to complete the study."
            yield Finding(check="layout", where=name, says=says)
    if (root / "env.json").is_file() and not _is_object(root / "env.json"):
        yield Finding(check="layout", where="env.json", says="holds no JSON object.")
    for path in sorted(root.rglob("*")):
        if path.is_symlink():
            says = "is a link; a run folder holds its files itself."
            yield Finding(check="layout", where=path.relative_to(root).as_posix(), says=says)


def _is_object(path: Path) -> bool:
    try:
        return isinstance(load_json(path.read_text(encoding="utf-8")), dict)
    except ValueError:
        return False


def sums(root: Path) -> Iterator[Finding]:
    """Files against ``SHA256SUMS``, both ways; of a trial's four files in one sentence."""
    path = root / "SHA256SUMS"
    if not path.is_file():
        return
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        yield Finding(check="hash", where="SHA256SUMS", says="holds bytes that are no text.")
        return
    if not lines:
        says = f"is empty, so no file can be held against it; {_AGAIN}."
        yield Finding(check="hash", where="SHA256SUMS", says=says)
        return
    named: set[str] = set()
    told: dict[tuple[str, str], list[str]] = {}

    def tell(name: str, says: str) -> None:
        parts = name.split("/")
        inside = parts[0] == "trials" and len(parts) > 2
        told.setdefault(("/".join(parts[:2]) if inside else name, says), []).append(parts[-1])

    lost = not (root / "trials").is_dir()
    if lost:
        says = "is no folder, so all that SHA256SUMS has of it is not there."
        yield Finding(check="hash", where="trials", says=says)
    for line in lines:
        digest, _, name = line.partition("  ")
        inside = PurePosixPath(name)
        if not re.fullmatch(r"[0-9a-f]{64}", digest) or _leads_out(inside):
            says = f"has a line that is none: {line[:120]!r}"
            yield Finding(check="hash", where="SHA256SUMS", says=says)
            continue
        named.add(name)
        if lost and name.startswith("trials/"):
            continue
        if not (root / name).is_file():
            tell(name, "in SHA256SUMS and not in the folder.")
        elif hashlib.sha256((root / name).read_bytes()).hexdigest() != digest:
            tell(name, "changed since SHA256SUMS was written.")
    for name in Store(root).files():
        if name not in named:
            tell(name, "in the folder and not in SHA256SUMS.")
    for (where, says), names in told.items():
        one = len(names) == 1
        verb = ("has" if one else "have") if says.startswith("changed") else "is" if one else "are"
        files = "" if where.endswith(names[0]) else f"{', '.join(names)} "
        yield Finding(check="hash", where=where, says=f"{files}{verb} {says}")


def _leads_out(path: PurePosixPath) -> bool:
    return not path.parts or path.is_absolute() or ".." in path.parts


def table(root: Path, named: list[Trace]) -> Iterator[Finding]:
    """``results.parquet`` against the trials, where there is one and pyarrow to read it."""
    path = root / "results.parquet"
    if not path.is_file():
        return
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        says = "was not compared with the trials: it needs pyarrow (pip install 'titer[store]')."
        yield Finding(check="result", where=path.name, says=says, kind="note")
        return
    wanted = pyarrow.Table.from_pylist(rows(named))
    try:
        same = parquet.read_table(path).equals(wanted)
    except (pyarrow.ArrowException, OSError):
        yield Finding(check="result", where=path.name, says=f"is no Parquet file; {_AGAIN}.")
        return
    if not same:
        says = f"is not what the trials give; {_AGAIN}."
        yield Finding(check="result", where=path.name, says=says)
