"""Where the files of a public set lie: in a folder, in the cache, or still to be fetched."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from titer.core.errors import BadInput
from titer.core.files import atomic_file
from titer.worlds.datasets._published import COMMIT, Published, Source, Table

__all__ = ["Plan", "by_source", "places", "plan"]

_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What of a set is here already, and what must be fetched."""

    asked: Published
    here: Mapping[str, Path]
    missing: Mapping[str, Table]

    def said(self) -> list[str]:
        """What would be downloaded, from where, and how large: a line a repository, then a sum."""
        tables = self.missing.values()
        lines = _lines(tables)
        unknown = sum(not table.size for table in tables)
        total = _size(sum(table.size for table in tables))
        beside = f" and {unknown} files of unknown size" if unknown else ""
        return [*lines, f"in all {len(tables)} files, {total}{beside}"]


def by_source(asked: Published) -> list[str]:
    """All files of a set, a line a repository."""
    return _lines(asked.tables.values())


def _lines(tables: Iterable[Table]) -> list[str]:
    sources: dict[Source, list[Table]] = {}
    for table in tables:
        sources.setdefault(table.source, []).append(table)
    return [
        f"{source.page} at commit {source.commit or 'unpinned'}, {source.licence}"
        f"{', gated' if source.gated else ''}: "
        + "; ".join(f"{table.path} ({_how_large(table)})" for table in each)
        for source, each in sources.items()
    ]


def _how_large(table: Table) -> str:
    rows = [f"{table.rows:,} rows"] if table.rows else []
    return ", ".join([*rows, _size(table.size) if table.size else "size unknown"])


def _size(number: int) -> str:
    """Bytes for a person."""
    return f"{number / 1e6:,.1f} MB" if number >= 100_000 else f"{number / 1e3:,.1f} kB"


def plan(asked: Published, folder: Path | None = None) -> Plan:
    """Where each file of a set lies: under ``folder`` alone where one is given, otherwise in the
    caches. Nothing is fetched.

    Raises:
        BadInput: a repository is not pinned to a commit, or the folder lacks a file.
    """
    for source in asked.sources():
        if not COMMIT.fullmatch(source.commit) and folder is None:
            raise BadInput(
                f"{asked.name}: no commit of {source.repo} is known, and a branch can move; write "
                f"{asked.name}@COMMIT with the 40 digits that {source.page} shows."
            )
    found = {
        name: _beneath(folder, table) if folder else _cached(table)
        for name, table in asked.tables.items()
    }
    here = {name: path for name, path in found.items() if path is not None}
    missing = {name: table for name, table in asked.tables.items() if name not in here}
    if folder is not None and missing:
        raise BadInput(
            *(
                f"{asked.name}: {folder} holds no {table.source.repo}/{table.path}; "
                f"it is at {table.source.page}, commit {table.source.commit[:12]}."
                for table in missing.values()
            )
        )
    return Plan(asked=asked, here=here, missing=missing)


def places(asked: Published, folder: Path | None = None) -> dict[str, Path]:
    """Every file of a set, fetched where it must be.

    Raises:
        BadInput: this machine is offline, a repository is gated, or a file cannot be had; what
            would be fetched, from where, how large, and the command that does it.
    """
    from huggingface_hub import constants

    found = plan(asked, folder)
    if found.missing and constants.HF_HUB_OFFLINE:
        raise BadInput(*_wanted(found, "HF_HUB_OFFLINE is set"))
    here = dict(found.here)
    for name, table in found.missing.items():
        try:
            here[name] = _fetched(table)
        except Exception as error:
            raise BadInput(*_refused(found, table, error)) from error
    return {name: here[name] for name in asked.tables}


def _wanted(found: Plan, why: str) -> list[str]:
    name = found.asked.name
    return [
        f"{name} is not here whole, and {why}.",
        *(f"it wants {line}." for line in found.said()),
        f"with a network, `titer data fetch {name}` gets it; files that were fetched elsewhere are "
        f"read by --data {name}=FOLDER, each as FOLDER/owner/name/path.",
    ]


def _refused(found: Plan, table: Table, error: Exception) -> list[str]:
    from huggingface_hub.errors import GatedRepoError

    source = table.source
    first = " ".join((str(error).strip().splitlines() or [type(error).__name__])[0].split())
    if isinstance(error, GatedRepoError) or (source.gated and "401" in str(error)):
        return [
            f"{found.asked.name}: {source.repo} is gated; accept its terms at {source.page}, then "
            "`hf auth login`, and run this again. Nothing else is put in its place."
        ]
    return _wanted(found, f"{source.repo}/{table.path} cannot be had ({first.rstrip('.')[:200]})")


def _beneath(folder: Path, table: Table) -> Path | None:
    """``folder/owner/name/path``, or ``folder/path`` as one repository alone is downloaded."""
    parts = PurePosixPath(table.path)
    for path in (folder / table.source.repo / parts, folder / parts):
        if path.is_file():
            return path
    return None


def _cached(table: Table) -> Path | None:
    if table.source.host == "github":
        path = _own(table)
        return path if path.is_file() else None
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(
        table.source.repo, table.path, revision=table.source.commit, repo_type="dataset"
    )
    return Path(found) if isinstance(found, str) else None


def _own(table: Table) -> Path:
    from titer.worlds.organisms import cache_root

    source = table.source
    return cache_root() / "data" / source.repo / source.commit / PurePosixPath(table.path)


def _fetched(table: Table) -> Path:
    if table.source.host == "github":
        return _from_github(table.source, table.path, _own(table))
    from huggingface_hub import hf_hub_download

    return Path(
        hf_hub_download(
            table.source.repo, table.path, revision=table.source.commit, repo_type="dataset"
        )
    )


def _from_github(source: Source, path: str, place: Path) -> Path:
    """A file of GitHub at a commit, whole or not at all."""
    from huggingface_hub import get_session

    url = f"https://raw.githubusercontent.com/{source.repo}/{source.commit}/{path}"
    answer = get_session().get(url, timeout=_SECONDS, follow_redirects=True)
    answer.raise_for_status()
    place.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(place, 0o644) as file:
        file.write(answer.content)
    return place
