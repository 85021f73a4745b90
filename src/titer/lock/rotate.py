"""Who may open a container: add holders, drop them, and give it a new key."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from titer.core.errors import BadInput, nearest
from titer.core.files import atomic_file, require_space
from titer.lock.containers import container, describe, opened
from titer.lock.keys import Credential, Passphrase, PublicKey, SigningKey, VerifyKey
from titer.lock.seal import reseal, rewrap
from titer.lock.unseal import Unsealed
from titer.lock.wrap import LOG_N, PublicKeyHolder, Recipient

__all__ = ["Change", "rotate"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What to change about who may open a container.

    Args:
        add: new recipients.
        drop: ids of holders to leave out, as :func:`describe` gives them.
        rewrap: keep the data key and the sealed bytes, and change the holders only. Quick, and no
            use against a holder who kept what an earlier opening gave.
        signer: signs the result.
        unsigned: agree to lose the signature of a container that has one.
    """

    add: Sequence[Recipient] = ()
    drop: Sequence[str] = ()
    rewrap: bool = False
    signer: SigningKey | None = None
    unsigned: bool = False


def rotate(
    folder: Path,
    using: Credential,
    change: Change,
    *,
    domain: str | None = None,
    trust: VerifyKey | None = None,
    log_n: int = LOG_N,
) -> dict[str, Any]:
    """Replace a release's container by one with a new data key, or with other holders.

    The file is replaced whole or not at all. Copies of the old one are beyond anybody's reach:
    whoever could open them still can.

    Raises:
        BadInput: see :func:`opened`; an unknown holder; nobody left; a passphrase that a new data
            key would need and that is not at hand; a signature that would be lost.
    """
    with opened(folder, using, domain=domain, trust=trust) as source:
        path, header = container(folder, domain), source.header
        ids = [holder.id for holder in header.holders]
        for unknown in [name for name in change.drop if name not in ids]:
            raise BadInput(
                f"{path} has no holder {unknown!r}, only {', '.join(ids)}.{nearest(unknown, ids)}"
            )
        if header.signer is not None and change.signer is None and not change.unsigned:
            raise BadInput(
                f"{path} is signed by {VerifyKey(header.signer)}; give the signing key, or say "
                "--unsigned to lose the signature."
            )
        if not change.add and set(ids) <= set(change.drop):
            raise BadInput("that would leave nobody who can open it; keep or add a holder.")
        to = [] if change.rewrap else [*_kept(source, using, change, path), *change.add]
        require_space(path, path.stat().st_size + 2**20)
        with atomic_file(path, path.stat().st_mode & 0o777) as sink:
            if change.rewrap:
                rewrap(
                    sink,
                    source,
                    add=change.add,
                    drop=change.drop,
                    signer=change.signer,
                    log_n=log_n,
                )
            else:
                reseal(sink, source, to, signer=change.signer, log_n=log_n)
    return describe(folder, path.stem)[0]


def _kept(source: Unsealed, using: Credential, change: Change, path: Path) -> list[Recipient]:
    """The holders that stay, as recipients of a new data key."""
    given = {key.raw for key in change.add if isinstance(key, PublicKey)}
    kept: list[Recipient] = []
    for holder in source.header.holders:
        if holder.id in change.drop:
            continue
        if isinstance(holder, PublicKeyHolder):
            if holder.public not in given:
                kept.append(PublicKey(holder.public))
        elif holder == source.opened_by and isinstance(using, Passphrase):
            kept.append(using)
        else:
            raise BadInput(
                f"{path}: holder {holder.id} has a passphrase that is not at hand, so no new data "
                f"key can be given to it; open with that passphrase, or say --drop {holder.id}."
            )
    return kept
