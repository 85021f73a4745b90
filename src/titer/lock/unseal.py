"""Opening a container: what it says without a key, and its tensors with one."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from cryptography.exceptions import InvalidTag

from titer.core.errors import BadInput
from titer.lock.header import (
    FORMAT,
    HEADER_LIMIT,
    MAGIC,
    TAG,
    Header,
    Malformed,
    TensorSpec,
    parse,
)
from titer.lock.keys import Credential, SecretKey, VerifyKey
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
from titer.lock.wrap import Holder, unwrap

__all__ = ["Preamble", "Unsealed", "check_body", "inspect", "open_sealed", "require_signer"]

_BLOCK = 2**18


@dataclass(frozen=True, slots=True, kw_only=True)
class Preamble:
    """The start of a container: its header, and the bytes that vouch for it."""

    header: Header
    head: bytes
    mac: bytes
    signature: bytes
    said: str

    @property
    def start(self) -> int:
        """Where the body begins."""
        return len(self.head) + MAC + SIGNATURE

    def places(self) -> Iterator[tuple[TensorSpec, int]]:
        """Every tensor and where its first chunk begins."""
        at = self.start
        for spec in self.header.tensors:
            yield spec, at
            at += spec.size + TAG * spec.chunks(self.header.chunk)


def inspect(stream: BinaryIO, said: str) -> Preamble:
    """Read what needs no key, and check the size and the signature.

    Args:
        stream: a container, able to seek.
        said: what to call it in messages.

    Raises:
        BadInput: it is no container, it is cut or padded, or its signature is wrong.
    """
    try:
        return _preamble(stream, said)
    except Malformed as error:
        raise BadInput(
            f"{said} is no sealed container that titer reads: {error}; get it again from whoever "
            "published it."
        ) from None


def _preamble(stream: BinaryIO, said: str) -> Preamble:
    size = stream.seek(0, 2)
    stream.seek(0)
    prefix = stream.read(PREFIX.size)
    if len(prefix) < PREFIX.size:
        raise Malformed(f"it has only {size:,} bytes")
    magic, version, length = PREFIX.unpack(prefix)
    if magic != MAGIC:
        raise Malformed("it does not start as one")
    if version != FORMAT:
        raise Malformed(f"it has format {version} and this is a reader of format {FORMAT}")
    if length > HEADER_LIMIT:
        raise Malformed(f"its header claims {length:,} bytes, more than {HEADER_LIMIT:,}")
    raw = stream.read(length)
    if len(raw) < length:
        raise Malformed(f"it ends within its header, after {size:,} bytes")
    preamble = Preamble(
        header=parse(raw),
        head=prefix + raw,
        mac=stream.read(MAC),
        signature=stream.read(SIGNATURE),
        said=said,
    )
    expected = preamble.start + preamble.header.body_size
    if size != expected:
        raise Malformed(f"it has {size:,} bytes and its header describes {expected:,}")
    signer = preamble.header.signer
    if signer is None and preamble.signature != BLANK:
        raise Malformed("it has a signature and names no signer")
    if signer is not None and not VerifyKey(signer).verifies(
        preamble.signature, preamble.head + preamble.mac
    ):
        raise Malformed("its signature does not fit its header")
    return preamble


def check_body(stream: BinaryIO, preamble: Preamble) -> None:
    """Compare the sealed bytes with the digest that was signed, where there is one.

    Raises:
        BadInput: they differ.
    """
    if preamble.header.body is None:
        return
    digest = hashlib.sha256()
    stream.seek(preamble.start)
    while block := stream.read(_BLOCK):
        digest.update(block)
    if digest.digest() != preamble.header.body:
        raise BadInput(
            f"{preamble.said} was changed after it was signed (its body has another digest); get "
            "it again from whoever published it."
        )


@dataclass(frozen=True, slots=True)
class Unsealed:
    """A container whose key is at hand. Chunks are decrypted as they are asked for."""

    stream: BinaryIO
    preamble: Preamble
    data_key: SecretKey
    opened_by: Holder

    @property
    def header(self) -> Header:
        """What the container says of itself, vouched for by its key."""
        return self.preamble.header

    def blocks(self, name: str) -> Iterator[bytes]:
        """A tensor's bytes, chunk by chunk, each checked before it is given out.

        Raises:
            BadInput: no such tensor, or a chunk that was changed, moved or taken from elsewhere.
        """
        for spec, at in self.preamble.places():
            if spec.name == name:
                return self._blocks(spec, at)
        raise BadInput(f"{self.preamble.said} holds no tensor {name!r}.")

    def _blocks(self, spec: TensorSpec, at: int) -> Iterator[bytes]:
        header = self.header
        cipher = tensor_cipher(self.data_key, header.salt, header.domain, spec.name)
        count = spec.chunks(header.chunk)
        what = bound(header.base, header.domain, header.kind, spec)
        for index in range(count):
            last = index == count - 1
            size = spec.size - index * header.chunk if last else header.chunk
            self.stream.seek(at)
            sealed = self.stream.read(size + TAG)
            at += size + TAG
            try:
                yield cipher.decrypt(nonce(index), sealed, what + place(index, last=last))
            except InvalidTag:
                raise BadInput(
                    f"{self.preamble.said} was changed after it was sealed (tensor {spec.name!r}, "
                    f"chunk {index}); get it again from whoever published it."
                ) from None


def open_sealed(
    stream: BinaryIO, using: Credential, said: str, trust: VerifyKey | None = None
) -> Unsealed:
    """Check a container and find its data key; nothing is decrypted yet.

    Args:
        trust: accept only what this publisher signed.

    Raises:
        BadInput: malformed, changed, not signed by ``trust``, or the key opens no holder's entry.
    """
    preamble = inspect(stream, said)
    header = preamble.header
    require_signer(preamble, trust)
    check_body(stream, preamble)
    found = unwrap(header.holders, using, wrap_context(header.salt, header.domain))
    if found is None:
        raise BadInput(
            f"this key opens none of the {len(header.holders)} entries of {said}; "
            "`titer inspect` lists whose keys do."
        )
    data_key, holder = found
    # GCM does not commit to its key: a wrapped text can be made to open under two keys. This does.
    check = derive(data_key, header.salt, "check").reveal()
    if not hmac.compare_digest(check, header.check):
        raise BadInput(f"{said} was changed after it was sealed (key check); get it again.")
    if not hmac.compare_digest(header_mac(data_key, header.salt, preamble.head), preamble.mac):
        raise BadInput(f"{said} was changed after it was sealed (header); get it again.")
    return Unsealed(stream, preamble, data_key, holder)


def require_signer(preamble: Preamble, trust: VerifyKey | None) -> None:
    """Raise :class:`BadInput` unless ``trust`` signed it; anybody will do for None."""
    signer = preamble.header.signer
    if trust is not None and signer != trust.raw:
        by = f"signed by {VerifyKey(signer)}" if signer else "not signed"
        raise BadInput(f"{preamble.said} is {by} and {trust} is trusted; do not use it.")
