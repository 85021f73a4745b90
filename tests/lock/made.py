"""Containers made in memory, with keys that the tests know."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from functools import cache

from titer.lock.header import TensorSpec
from titer.lock.keys import Credential, HolderKey, Passphrase, SecretKey, SigningKey, VerifyKey
from titer.lock.seal import Label, Part, seal
from titer.lock.unseal import open_sealed
from titer.lock.wrap import Recipient

__all__ = [
    "ALICE",
    "BASE",
    "BOB",
    "CHEAP",
    "MALLORY",
    "PHRASE",
    "PUBLISHER",
    "TENSORS",
    "container",
    "label",
    "part",
    "small",
    "unsealed",
]


def _key(number: int) -> SecretKey:
    return SecretKey(bytes([number]) * 32)


ALICE, BOB, MALLORY = (HolderKey(_key(number)) for number in (1, 2, 3))
PUBLISHER = SigningKey(_key(4))
PHRASE = Passphrase.of("correct horse battery staple")
BASE = "ab" * 32
CHEAP = 14
"""The least scrypt that the format allows, so that tests are quick."""

Tensors = dict[str, tuple[str, tuple[int, ...], bytes]]
TENSORS: Tensors = {
    "block.0.weight": ("BF16", (3000,), bytes(range(250)) * 24),
    "block.1.weight": ("F32", (2, 5), b"\x00\x01\x02\x03" * 10),
    "empty": ("I64", (0, 4), b""),
    "scalar": ("U8", (), b"x"),
}


def part(name: str, dtype: str, shape: tuple[int, ...], data: bytes) -> Part:
    """A part from bytes in memory."""

    def blocks(size: int) -> Iterator[bytes]:
        for start in range(0, len(data), size):
            yield data[start : start + size]

    return Part(TensorSpec(name=name, dtype=dtype, shape=shape), blocks)


def label(**changed: str) -> Label:
    """A label like any other."""
    plain = {"base": BASE, "domain": "alloy", "kind": "tensors", "partition": "post-hoc"}
    return Label(**{**plain, **changed})  # type: ignore[arg-type]


def container(
    tensors: Tensors = TENSORS,
    to: Sequence[Recipient] = (ALICE.public,),
    *,
    signer: SigningKey | None = None,
    chunk: int = 4096,
    **changed: str,
) -> bytes:
    """The bytes of a container."""
    sink = io.BytesIO()
    parts = [part(name, *what) for name, what in tensors.items()]
    seal(sink, parts, label(**changed), to, signer=signer, chunk=chunk, log_n=CHEAP)
    return sink.getvalue()


@cache
def small(*, signed: bool = False) -> bytes:
    """One container for all tests that only read it."""
    return container(signer=PUBLISHER if signed else None)


def unsealed(
    data: bytes, using: Credential = ALICE, trust: VerifyKey | None = None
) -> dict[str, bytes]:
    """Open a container and read every tensor."""
    source = open_sealed(io.BytesIO(data), using, "it", trust)
    return {spec.name: b"".join(source.blocks(spec.name)) for spec in source.header.tensors}
