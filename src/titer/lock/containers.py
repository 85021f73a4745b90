"""The containers of a release folder, and what they say without a key."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from titer.core.errors import BadInput, nearest
from titer.lock.header import Header, Partition
from titer.lock.keys import Credential, PublicKey, VerifyKey, short_id
from titer.lock.unseal import Unsealed, check_body, inspect, open_sealed, require_signer
from titer.lock.weights import Tell, weights_digest
from titer.lock.wrap import PassphraseHolder

__all__ = [
    "SEALED",
    "SUFFIX",
    "container",
    "containers",
    "describe",
    "note",
    "opened",
    "require_base",
]

SEALED = "sealed"
"""A subfolder, which keeps tools that take every safetensors file of a folder away from it."""
SUFFIX = ".titer"

_NOTE = """\
# Sealed weights

`{name}` holds {kind}, encrypted. The files beside this folder are an ordinary model without it,
which needs no key and no code of ours. Those who hold a key run `titer unlock`; `titer inspect`
shows what is sealed and for whom.

What this protects: without a key the container shows names, dtypes, shapes and sizes of what is
sealed, and nothing of its values. Any attack on this release is an attack on the keyless weights.

What it does not protect: {partition} Nor does it bind anyone who holds a key or has ever held one,
or keep secret what is served from the unlocked model.
"""
_PARTITIONS: dict[Partition, str] = {
    "while-learning": "by its publisher's word the keyless weights never learned from what is "
    "sealed; they may still be taught it from other sources.",
    "post-hoc": "the keyless weights were made from a model that had learned what is sealed, and "
    "may give it up under further training. This is the weaker kind of release.",
}
_KINDS = {"adapter": "a LoRA adapter", "tensors": "tensors that replace those of the keyless model"}


def containers(folder: Path) -> dict[str, Path]:
    """The containers of a release by domain; none for an ordinary model folder."""
    found = sorted((folder / SEALED).glob(f"*{SUFFIX}"))
    return {path.stem: path for path in found if path.is_file()}


def container(folder: Path, domain: str | None) -> Path:
    """The container of a domain, or the only one there is.

    Raises:
        BadInput: none, several, or none of that name.
    """
    found = containers(folder)
    if not found:
        raise BadInput(f"{folder} holds nothing sealed; give a folder that titer lock wrote.")
    if domain is None and len(found) > 1:
        raise BadInput(f"{folder} has several sealed domains; give --domain {' or '.join(found)}.")
    if domain is not None and domain not in found:
        raise BadInput(
            f"{folder} has no sealed domain {domain!r}, only {', '.join(found)}."
            f"{nearest(domain, found)}"
        )
    return found[domain] if domain is not None else next(iter(found.values()))


def require_base(header: Header, digest: str, path: Path) -> None:
    """Raise :class:`BadInput` unless the container is of these weights and under its own name."""
    if header.domain != path.stem:
        raise BadInput(
            f"{path} says that it is domain {header.domain!r}; "
            "files were exchanged, get them again."
        )
    if header.base != digest:
        raise BadInput(
            f"{path} was sealed for other weights (digest {header.base[:16]}, and these are "
            f"{digest[:16]}); keep the keyless files it was published with."
        )


@contextmanager
def opened(
    folder: Path,
    using: Credential,
    *,
    domain: str | None = None,
    trust: VerifyKey | None = None,
    tell: Tell | None = None,
) -> Generator[Unsealed, None, None]:
    """A release's container, checked against the weights it lies with.

    Raises:
        BadInput: no such container, wrong key, changed bytes, other weights, other signer.
    """
    path = container(folder, domain)
    with path.open("rb") as stream:
        found = open_sealed(stream, using, str(path), trust)
        require_base(found.header, weights_digest(folder, tell), path)
        yield found


def describe(
    folder: Path,
    domain: str | None = None,
    *,
    check: bool = False,
    trust: VerifyKey | None = None,
    tell: Tell | None = None,
) -> list[dict[str, Any]]:
    """What a release says without a key: one entry a container.

    Args:
        check: also compare the weights it lies with, and the signed digest of what is sealed.

    Raises:
        BadInput: nothing sealed, malformed, not signed by ``trust``, or a failed check.
    """
    first = container(folder, domain) if domain is not None else None
    paths = [first] if first else list(containers(folder).values())
    if not paths:
        container(folder, None)
    digest = weights_digest(folder, tell) if check else ""
    found: list[dict[str, Any]] = []
    for path in paths:
        with path.open("rb") as stream:
            preamble = inspect(stream, str(path))
            require_signer(preamble, trust)
            if check:
                require_base(preamble.header, digest, path)
                check_body(stream, preamble)
        found.append({"file": str(path), "bytes": path.stat().st_size, **_facts(preamble.header)})
    return found


def _facts(header: Header) -> dict[str, Any]:
    return {
        "domain": header.domain,
        "kind": header.kind,
        "partition": header.partition,
        "meaning": _PARTITIONS[header.partition],
        "base": header.base,
        "signer": str(VerifyKey(header.signer)) if header.signer else None,
        "signer_id": short_id(header.signer) if header.signer else None,
        "holders": [
            {"id": holder.id, "kind": "passphrase", "log_n": holder.log_n}
            if isinstance(holder, PassphraseHolder)
            else {
                "id": holder.id,
                "kind": "public key",
                "public": str(PublicKey(holder.public)),
            }
            for holder in header.holders
        ],
        "tensors": [
            {"name": s.name, "dtype": s.dtype, "shape": list(s.shape), "bytes": s.size}
            for s in header.tensors
        ],
    }


def note(folder: Path) -> str:
    """A page for people who find the sealed folder and wonder."""
    notes: list[str] = []
    for path in containers(folder).values():
        with path.open("rb") as stream:
            header = inspect(stream, path.name).header
        notes.append(
            _NOTE.format(
                name=path.name,
                kind=_KINDS[header.kind],
                partition=_PARTITIONS[header.partition],
            )
        )
    return "\n".join(notes)
