"""Sealing tensors, sealing them anew, and changing who may open them: one chunk in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import BinaryIO

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from titer.core.errors import BadInput
from titer.lock import keys
from titer.lock.header import (
    DOMAIN,
    FORMAT,
    MAGIC,
    Header,
    Kind,
    Malformed,
    Partition,
    TensorSpec,
    render,
)
from titer.lock.keys import SecretKey, SigningKey
from titer.lock.schedule import (
    BLANK,
    MAC,
    PREFIX,
    SIGNATURE,
    bound,
    derive,
    header_mac,
    nonce,
    place,
    tensor_cipher,
    wrap_context,
)
from titer.lock.unseal import Unsealed
from titer.lock.wrap import LOG_N, Recipient, wrap

__all__ = ["CHUNK", "Label", "Part", "reseal", "rewrap", "seal"]

CHUNK = 2**18
"""Bytes sealed at a time: few enough for a core's own cache, which is quicker than memory."""

Buffer = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """What a sealed part is, apart from its tensors.

    Args:
        base: digest of the keyless weights it belongs to, 64 hex digits.
        domain: what the gate is about; lower case.
        kind: an ``adapter``, or whole ``tensors`` that replace those of the base.
        partition: the publisher's word on how the base came about. ``post-hoc`` says that the base
            once saw what is sealed, which protects less.
    """

    base: str
    domain: str
    kind: Kind
    partition: Partition

    def __post_init__(self) -> None:
        if not DOMAIN.fullmatch(self.domain):
            raise BadInput(
                f"domain {self.domain!r}: give up to 63 of a-z, 0-9, - and _, a letter or digit "
                "first."
            )


@dataclass(frozen=True, slots=True)
class Part:
    """A tensor to seal: ``blocks(n)`` yields its bytes, n at a time, the last maybe fewer."""

    spec: TensorSpec
    blocks: Callable[[int], Iterable[Buffer]]


def seal(
    sink: BinaryIO,
    parts: Sequence[Part],
    label: Label,
    to: Sequence[Recipient],
    *,
    signer: SigningKey | None = None,
    chunk: int = CHUNK,
    log_n: int = LOG_N,
) -> Header:
    """Write a container with a new data key.

    Args:
        sink: an empty stream that can seek. After an error its content is worthless.
        parts: at least one, names all different.
        to: at least one recipient; each can open the container alone.
        signer: signs the header and a digest of the body.
        log_n: cost of each passphrase among the recipients.

    Raises:
        BadInput: nothing to seal, nobody to seal for, or a part that is not what its spec says.
    """
    data_key, salt = SecretKey(keys.fresh(32)), keys.fresh(32)
    context = wrap_context(salt, label.domain)
    parts = sorted(parts, key=lambda part: part.spec.name)
    header = Header(
        base=label.base,
        check=derive(data_key, salt, "check").reveal(),
        chunk=chunk,
        domain=label.domain,
        holders=tuple(wrap(data_key, recipient, context, log_n) for recipient in to),
        kind=label.kind,
        partition=label.partition,
        salt=salt,
        signer=signer.public.raw if signer else None,
        # The digest is known at the end, its length now.
        body=bytes(32) if signer else None,
        tensors=tuple(part.spec for part in parts),
    )
    start = _write_head(sink, header, data_key, None)
    digest = hashlib.sha256()
    for part in parts:
        cipher = tensor_cipher(data_key, salt, label.domain, part.spec.name)
        for sealed in _sealed_chunks(cipher, label, part, chunk):
            sink.write(sealed)
            if signer:
                digest.update(sealed)
    if signer:
        header = replace(header, body=digest.digest())
        sink.seek(0)
        if _write_head(sink, header, data_key, signer) != start:
            raise RuntimeError("the header changed its length while the body was sealed")
    sink.flush()
    return header


def _write_head(
    sink: BinaryIO, header: Header, data_key: SecretKey, signer: SigningKey | None
) -> int:
    try:
        raw = render(header)
    except Malformed as error:
        raise BadInput(f"this cannot be sealed: {error}.") from error
    head = PREFIX.pack(MAGIC, FORMAT, len(raw)) + raw
    mac = header_mac(data_key, header.salt, head)
    sink.write(head + mac + (signer.sign(head + mac) if signer else BLANK))
    return len(head) + MAC + SIGNATURE


def _sealed_chunks(cipher: AESGCM, label: Label, part: Part, chunk: int) -> Iterator[bytes]:
    spec = part.spec
    count = spec.chunks(chunk)
    what = bound(label.base, label.domain, label.kind, spec)
    index = 0
    for block in part.blocks(chunk) if spec.size else (b"",):
        last = index == count - 1
        expected = spec.size - index * chunk if last else chunk
        if index >= count or len(block) != expected:
            raise BadInput(f"tensor {spec.name!r} changed while it was being sealed; try again.")
        yield cipher.encrypt(nonce(index), block, what + place(index, last=last))
        index += 1
    if index != count:
        raise BadInput(f"tensor {spec.name!r} ended early while it was being sealed; try again.")


def reseal(
    sink: BinaryIO,
    source: Unsealed,
    to: Sequence[Recipient],
    *,
    signer: SigningKey | None = None,
    log_n: int = LOG_N,
) -> Header:
    """Seal the same tensors anew: new data key, new salt, nothing of the old bytes left.

    Raises:
        BadInput: the source was changed, or nobody is left to seal for.
    """
    header = source.header

    def part(spec: TensorSpec) -> Part:
        # The source was sealed in chunks of this same size.
        return Part(spec, lambda size: source.blocks(spec.name))

    label = Label(
        base=header.base, domain=header.domain, kind=header.kind, partition=header.partition
    )
    parts = [part(spec) for spec in header.tensors]
    return seal(sink, parts, label, to, signer=signer, chunk=header.chunk, log_n=log_n)


def rewrap(
    sink: BinaryIO,
    source: Unsealed,
    *,
    add: Sequence[Recipient] = (),
    drop: Sequence[str] = (),
    signer: SigningKey | None = None,
    log_n: int = LOG_N,
) -> Header:
    """Change the holders only: same data key, same sealed bytes, new header.

    Whoever is dropped here and has once opened the container can still open this one, since the
    data key is the same. :func:`reseal` gives it a new one.

    Raises:
        BadInput: nobody would be left, or there is something to sign that was changed.
    """
    header = source.header
    context = wrap_context(header.salt, header.domain)
    kept = [holder for holder in header.holders if holder.id not in set(drop)]
    added = [wrap(source.data_key, recipient, context, log_n) for recipient in add]
    new = {holder.id for holder in added}
    holders = (*(holder for holder in kept if holder.id not in new), *added)
    digest = hashlib.sha256()
    if signer:
        # A signature over bytes that nobody has looked at would vouch for anything.
        for spec in header.tensors:
            for _ in source.blocks(spec.name):
                pass
        source.stream.seek(source.preamble.start)
        while block := source.stream.read(CHUNK):
            digest.update(block)
    header = replace(
        header,
        holders=holders,
        signer=signer.public.raw if signer else None,
        body=digest.digest() if signer else None,
    )
    _write_head(sink, header, source.data_key, signer)
    source.stream.seek(source.preamble.start)
    while block := source.stream.read(CHUNK):
        sink.write(block)
    sink.flush()
    return header
