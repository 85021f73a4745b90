"""Models and data by name: a hub id at a pinned revision, a local folder, or a Fabula organism.

Nothing here touches the network unless a hub id is given, and then only through the ordinary
client, which ``HF_HUB_OFFLINE=1`` keeps to its cache.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from titer.core import modelfolder
from titer.core.errors import BadInput, nearest
from titer.core.readable import require_readable

__all__ = ["DatasetRef", "ModelRef", "dataset_rows", "fetch", "parse_dataset", "resolve_model"]

Progress = Callable[[str, int, int], None]
"""Called with a label, steps done and steps in all."""

_PART = r"[A-Za-z0-9][A-Za-z0-9_.\-]*"
_MODEL = re.compile(rf"(?P<id>{_PART}/{_PART})(?:@(?P<revision>[A-Za-z0-9_.\-/]+))?")
_DATASET = re.compile(
    rf"hub:(?P<id>{_PART}/{_PART})(?:/(?P<config>{_PART}))?"
    rf"(?:@(?P<revision>[^#]+))?#(?P<split>[A-Za-z0-9_.\-]+)"
)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_WANTED = ["*.safetensors", "*.json", "*.jinja", "*.txt", "*.model"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRef:
    """A model that has been found.

    ``source`` is a hub id, the path of a folder, or a Fabula name; ``revision`` the commit of a
    hub id, empty otherwise. ``digest`` (16 hex digits) identifies the content: of a folder, the
    bytes of its files; of a hub id, id and commit, so that nothing large is fetched to know it.
    """

    kind: Literal["fabula", "folder", "hub"]
    source: str
    digest: str
    revision: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetRef:
    """One split of a hub dataset at one commit; ``config`` is its configuration, if it has any."""

    id: str
    revision: str
    split: str
    config: str = ""


def resolve_model(
    source: str, *, base: Path | None = None, progress: Progress | None = None
) -> ModelRef:
    """Find a model: ``fabula:base@small``, a local folder, or ``owner/name@revision``.

    A folder is relative to ``base``, or to where the program runs. A hub id without a commit is
    resolved to one, which is logged and recorded. A folder is checked as
    :func:`titer.core.modelfolder.require` does, the hub's once it is fetched. An organism that is
    not in the cache is grown, which ``progress`` reports.

    Raises:
        BadInput: no such model, or a folder that cannot be loaded; the nearest name is suggested.
    """
    if source.startswith("fabula:"):
        digest = modelfolder.folder_digest(_organism(source, progress))
        return ModelRef(kind="fabula", source=source, digest=digest)
    path = (base or Path()) / Path(source).expanduser()
    match = _MODEL.fullmatch(source)
    # A name such as own/lama is a slip for own/llama where there is a folder own.
    if path.exists() or not match or ("@" not in source and path.parent.is_dir()):
        if not path.is_dir():
            raise BadInput(_no_folder(source, path))
        _require(path)
        return ModelRef(kind="folder", source=str(path), digest=modelfolder.folder_digest(path))
    id, asked = match["id"], match["revision"]
    commit = asked if asked and _COMMIT.fullmatch(asked) else _commit(id, asked)
    digest = hashlib.sha256(f"{id}@{commit}".encode()).hexdigest()[:16]
    return ModelRef(kind="hub", source=id, revision=commit, digest=digest)


def fetch(ref: ModelRef, progress: Progress | None = None) -> Path:
    """The model as a local folder that has passed every check, downloaded or grown if need be.

    Of a hub id only safetensors, configuration and tokenizer files are fetched.

    Raises:
        BadInput: the hub cannot be reached or has no such model, or the folder cannot be loaded.
    """
    if ref.kind == "folder":
        return Path(ref.source)
    if ref.kind == "fabula":
        return _organism(ref.source, progress)
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(ref.source, revision=ref.revision, allow_patterns=_WANTED))
    except Exception as error:
        raise BadInput(_unreachable("model", ref.source, ref.revision, error)) from error
    _require(folder)
    return folder


def _require(folder: Path) -> None:
    modelfolder.require(folder)
    require_readable(folder)
    _tell(folder.resolve())


@functools.cache
def _tell(folder: Path) -> None:
    """What lies beside or in the weights and is not read is said once a process."""
    for note in modelfolder.notes(folder):
        logging.getLogger(__name__).warning("%s: %s", folder, note)


def parse_dataset(reference: str) -> DatasetRef:
    """Read ``hub:owner/name@commit#split`` or ``hub:owner/name/config@commit#split``.

    Raises:
        BadInput: it is not of that form, or no commit is pinned.
    """
    match = _DATASET.fullmatch(reference)
    if not match:
        raise BadInput(f"{reference!r} is no dataset; write hub:owner/name@commit#split.")
    revision = match["revision"] or ""
    if not _COMMIT.fullmatch(revision):
        came = f"{revision!r} can move" if revision else "no revision is pinned"
        raise BadInput(
            f"{reference!r}: {came}; give the 40 digits of a commit, as the dataset's "
            "history on the hub shows them."
        )
    return DatasetRef(
        id=match["id"], revision=revision, split=match["split"], config=match["config"] or ""
    )


def dataset_rows(reference: str, limit: int | None = None) -> Iterator[dict[str, Any]]:
    """The rows of a hub dataset, at most ``limit`` of them.

    Raises:
        BadInput: the reference is not pinned, the extra ``data`` is not installed, or the dataset
            cannot be had, among others because the machine is offline.
    """
    ref = parse_dataset(reference)
    try:
        load: Any = importlib.import_module("datasets").load_dataset
    except ImportError as error:
        raise BadInput(
            f"{reference!r} needs the package datasets; install it with "
            "`pip install 'titer[data]'`, or name a JSONL file."
        ) from error
    try:
        rows: Any = load(ref.id, ref.config or None, split=ref.split, revision=ref.revision)
    except Exception as error:
        raise BadInput(_unreachable("dataset", ref.id, ref.revision, error)) from error
    for number, row in enumerate(rows):
        if number == limit:
            return
        yield dict(cast(Mapping[str, Any], row))


def _commit(id: str, revision: str | None) -> str:
    """The commit a branch, a tag or the default branch stands at."""
    from huggingface_hub import hf_hub_download

    try:
        # The cache keeps files under snapshots/<commit>, so this answers offline as well.
        config = Path(hf_hub_download(id, "config.json", revision=revision))
    except Exception as error:
        raise BadInput(_unreachable("model", id, revision or "", error)) from error
    commit = config.parent.name
    logging.getLogger(__name__).warning(
        "%s is not pinned to a commit; using %s@%s", id if not revision else f"{id}@{revision}",
        id, commit,
    )  # fmt: skip
    return commit


def _unreachable(what: str, id: str, revision: str, error: Exception) -> str:
    from huggingface_hub import constants

    at = f" at revision {revision}" if revision else ""
    first = next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(".")
    if constants.HF_HUB_OFFLINE:
        return f"the {what} {id}{at} is not in the cache and HF_HUB_OFFLINE is set: {first}."
    return f"the {what} {id}{at} cannot be had from the hub: {first}."


def _no_folder(source: str, path: Path) -> str:
    if path.exists():
        return f"{source} is a file; give the model folder that holds it."
    folders: list[str] = []
    if path.parent.is_dir():
        folders = sorted(item.name for item in path.parent.iterdir() if item.is_dir())
    prefix = source.rstrip("/").removesuffix(path.name)
    near = nearest(path.name, folders).replace("mean '", f"mean '{prefix}", 1)
    return (
        f"no model {source!r}.{near} A model is a Hugging Face folder, a hub id "
        "owner/name@revision, or fabula:NAME."
    )


def _organism(source: str, progress: Progress | None) -> Path:
    from titer.worlds import organisms

    return organisms.organism(*organisms.parse(source), progress)
