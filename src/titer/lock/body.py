"""The digest of a body, which a publisher signs: chunks are hashed each by itself and side by side.

A hash of the whole body in one go is slower than the cipher and can only follow it. Chunks by
themselves are hashed on threads, while the next is encrypted or read.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from titer.lock.header import TAG

__all__ = ["BodyDigest", "body_digest"]

_LEAD = b"titer/seal/v2/body\n"
_THREADS = min(4, os.cpu_count() or 1)
_ROOM = 2**21
"""Bytes that may wait to be hashed, so that memory stays small; two chunks may always wait."""
_SMALL = 2**15
"""A shorter chunk is hashed sooner than handed over."""


class BodyDigest:
    """SHA-256 over :data:`_LEAD` and the SHA-256 of every chunk, in the body's order.

    Where the cuts are follows from the header, which is signed with the digest. So two bodies of
    one digest under one header are the same, or hold a collision of SHA-256.

    Chunks are copied into a few buffers that are used again and again: to hold on to the chunks
    themselves costs more than to hash them, as each is new memory to the operating system.
    """

    def __init__(self, pool: ThreadPoolExecutor, chunk: int) -> None:
        self._pool, self._size = pool, chunk + TAG
        self._total = hashlib.sha256(_LEAD)
        self._waiting: deque[tuple[memoryview, Future[bytes]]] = deque()
        self._free: list[memoryview] = []
        self._most = max(2, min(2 * _THREADS, _ROOM // chunk))

    def add(self, sealed: bytes) -> None:
        """The next chunk, tag and all."""
        buffer = self._buffer()
        buffer[: len(sealed)] = sealed
        self._hash(buffer, len(sealed))

    def read(self, stream: Any, size: int) -> None:
        """The next chunk, from where a stream stands that can be read into a buffer."""
        buffer = self._buffer()
        self._hash(buffer, stream.readinto(buffer[:size]))

    def digest(self) -> bytes:
        """Of all chunks so far."""
        self._settle(0)
        return self._total.digest()

    def _buffer(self) -> memoryview:
        self._settle(self._most - 1)
        return self._free.pop() if self._free else memoryview(bytearray(self._size))

    def _hash(self, buffer: memoryview, size: int) -> None:
        if size < _SMALL:
            self._settle(0)
            self._total.update(_hashed(buffer[:size]))
            self._free.append(buffer)
        else:
            self._waiting.append((buffer, self._pool.submit(_hashed, buffer[:size])))

    def _settle(self, most: int) -> None:
        """Wait until at most so many chunks wait."""
        while len(self._waiting) > most:
            buffer, hashed = self._waiting.popleft()
            self._total.update(hashed.result())
            self._free.append(buffer)


def _hashed(sealed: memoryview) -> bytes:
    return hashlib.sha256(sealed).digest()


@contextmanager
def body_digest(chunk: int) -> Iterator[BodyDigest]:
    """A digest to add chunks of at most so many bytes of plaintext to; its threads end with it."""
    with ThreadPoolExecutor(_THREADS) as pool:
        yield BodyDigest(pool, chunk)
