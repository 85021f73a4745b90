"""Published files as rows: CSV, JSON, JSON lines (plain, gzip, xz) and Parquet."""

from __future__ import annotations

import csv
import gzip
import hashlib
import importlib
import io
import json
import lzma
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from titer.core.errors import BadInput, nearest
from titer.worlds.datasets._published import Table

__all__ = ["rows"]

_MAX_BYTES = 2**31
"""What a file may come to once it is unpacked."""


def rows(path: Path, table: Table) -> list[Mapping[str, Any]]:
    """The rows of a published file that has been fetched.

    Raises:
        BadInput: its bytes are not those that were published, it cannot be read, is empty, or has
            not the columns of the published schema.
    """
    if table.sha256 and _digest(path) != table.sha256:
        raise BadInput(
            f"{path} is not {table.path} of {table.source.repo} as it was published at commit "
            f"{table.source.commit[:12]}: its SHA-256 differs; fetch it again."
        )
    try:
        found = _parsed(path)
    except BadInput:
        raise
    except Exception as error:
        first = " ".join(str(error).split())[:200] or type(error).__name__
        raise BadInput(f"{path} cannot be read ({first}); fetch it again.") from error
    if not found or not all(isinstance(row, dict) for row in found):
        raise BadInput(f"{path} holds no rows; fetch it again.")
    told = cast(list[Mapping[str, Any]], found)
    for column in table.columns:
        at = next((number for number, row in enumerate(told) if column not in row), None)
        if at is not None:
            known = list(told[at])
            raise BadInput(
                f"{path}, row {at + 1}: {table.source.repo} was published with a column "
                f"{column!r}, which is not there.{nearest(column, known)} "
                f"There are {', '.join(known[:12])}."
            )
    return told


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _parsed(path: Path) -> list[Any]:
    name = path.name
    if name.endswith(".parquet"):
        return _parquet(path)
    data = _unpacked(path)
    if data.startswith(b"version https://git-lfs"):
        raise BadInput(f"{path} is a git-lfs pointer and not the file; run git lfs pull.")
    text = data.decode("utf-8-sig")
    if ".csv" in name:
        return list(csv.DictReader(io.StringIO(text, newline="")))
    if text.lstrip().startswith("["):
        return list(json.loads(text))
    return [json.loads(line) for line in text.splitlines() if line.strip()]


def _unpacked(path: Path) -> bytes:
    opened: Any = {".gz": gzip.open, ".xz": lzma.open}.get(path.suffix, open)
    with opened(path, "rb") as file:
        data: bytes = file.read(_MAX_BYTES + 1)
    if len(data) > _MAX_BYTES:
        raise BadInput(f"{path} unpacks to more than {_MAX_BYTES:,} bytes.")
    return data


def _parquet(path: Path) -> list[Any]:
    try:
        parquet: Any = importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise BadInput(
            f"{path} is a Parquet file, which needs pyarrow; install it with "
            "`pip install 'titer[data]'`."
        ) from error
    # A handle and not a path: pyarrow looks into the names of folders for columns.
    with path.open("rb") as file:
        return parquet.read_table(file).to_pylist()
