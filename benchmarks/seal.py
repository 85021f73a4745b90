"""`titer.lock` against raw AES-256-GCM of the `cryptography` package on the same bytes.

Side by side, one thread: in memory (nothing is read or kept) and from file to file (both sides
read, encrypt and write the same chunks). What is left is what key derivation, binding, the header
and, where a release is signed, the digest of the body cost. Goal: at least 0.60 of raw throughput.
The hashes are timed alone too: none is quick enough for a signed release to reach that in memory.
"""

from __future__ import annotations

import hashlib
import io
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from benchmarks._timing import (
    Figure,
    Round,
    Sample,
    absolute,
    arguments,
    interleave,
    measured,
    ratio,
    show,
    single_thread,
    watched,
)
from titer.lock.header import TAG, TensorSpec
from titer.lock.keys import HolderKey, Passphrase, SigningKey
from titer.lock.seal import CHUNK, Label, Part, seal
from titer.lock.unseal import open_sealed

GOAL = "raw AES-256-GCM; goal: at least 0.60"
HASHES = ("sha256", "sha512", "blake2b", "sha3_256")
"""What there is to digest a body with; each is collision-resistant."""
KEY, SIGN = HolderKey.make(), SigningKey.make()
LABEL = Label(base="00" * 32, domain="main", kind="tensors", partition="post-hoc")


class Discard(io.RawIOBase):
    """A place to write to that keeps nothing."""

    def write(self, data: Any) -> int:
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        return offset


def _pieces(path: Path, start: int, size: int, chunk: int) -> Iterator[memoryview]:
    buffer = memoryview(bytearray(chunk))
    with path.open("rb", buffering=0) as file:
        file.seek(start)
        for _ in range(size // chunk):
            if file.readinto(buffer) != chunk:
                raise RuntimeError("the file is shorter than it was")
            yield buffer


class Work:
    """The same bytes, sealed and encrypted in every way that is compared."""

    def __init__(self, folder: Path, tensors: int, size: int) -> None:
        self.folder, self.tensors, self.size = folder, tensors, size
        self.total = tensors * size
        self.plain = folder / "plain"
        block = bytes(range(256)) * (CHUNK // 256)
        with self.plain.open("wb") as file:
            for _ in range(self.total // CHUNK):
                file.write(block)
        self.block = block
        self.cipher = AESGCM(bytes(range(32)))
        self.sealed_block = self.cipher.encrypt(bytes(12), block, b"")
        self.raw_to_file()
        for name, signer in (("sealed", None), ("signed", SIGN)):
            with (folder / name).open("w+b") as sink:
                self._seal(sink, self._from_file, signer)
        sink = io.BytesIO()
        self._seal(sink, self._from_memory, None)
        self.memory = sink
        self.signed = io.BytesIO()
        self._seal(self.signed, self._from_memory, SIGN)

    # -- raw ---------------------------------------------------------------------------------

    def raw(self) -> None:
        for index in range(self.total // CHUNK):
            self.cipher.encrypt(index.to_bytes(12, "little"), self.block, b"")

    def raw_back(self) -> None:
        for _ in range(self.total // CHUNK):
            self.cipher.decrypt(bytes(12), self.sealed_block, b"")

    def digested(self, name: str) -> None:
        digest = hashlib.new(name)
        for _ in range(self.total // CHUNK):
            digest.update(self.sealed_block)
        digest.digest()

    def raw_to_file(self) -> None:
        with (self.folder / "raw").open("wb") as sink:
            for index, piece in enumerate(_pieces(self.plain, 0, self.total, CHUNK)):
                sink.write(self.cipher.encrypt(index.to_bytes(12, "little"), piece, b""))

    def raw_from_file(self) -> None:
        with (self.folder / "raw").open("rb") as file, (self.folder / "out").open("wb") as sink:
            for index in range(self.total // CHUNK):
                sealed = file.read(CHUNK + TAG)
                sink.write(self.cipher.decrypt(index.to_bytes(12, "little"), sealed, b""))

    # -- ours --------------------------------------------------------------------------------

    def _from_memory(self, index: int, chunk: int) -> Iterator[bytes]:
        for _ in range(self.size // chunk):
            yield self.block

    def _from_file(self, index: int, chunk: int) -> Iterator[memoryview]:
        return _pieces(self.plain, index * self.size, self.size, chunk)

    def _seal(self, sink: Any, source: Callable[..., Any], signer: SigningKey | None) -> None:
        parts = [
            Part(
                TensorSpec(name=f"layer.{index:04}.weight", dtype="U8", shape=(self.size,)),
                partial(source, index),
            )
            for index in range(self.tensors)
        ]
        seal(sink, parts, LABEL, [KEY.public], signer=signer)

    def seal_in_memory(self) -> None:
        self._seal(Discard(), self._from_memory, None)

    def seal_signed_in_memory(self) -> None:
        self._seal(Discard(), self._from_memory, SIGN)

    def seal_to_file(self, signer: SigningKey | None) -> None:
        with (self.folder / "again").open("w+b") as sink:
            self._seal(sink, self._from_file, signer)

    def _unseal(self, file: BinaryIO, sink: Any) -> None:
        source = open_sealed(file, KEY, "benchmark")
        for spec in source.header.tensors:
            for block in source.blocks(spec.name):
                sink.write(block)

    def unseal_in_memory(self) -> None:
        self._unseal(self.memory, Discard())

    def unseal_signed_in_memory(self) -> None:
        self._unseal(self.signed, Discard())

    def unseal_to_file(self, name: str) -> None:
        with (self.folder / name).open("rb") as file, (self.folder / "out").open("wb") as sink:
            self._unseal(file, sink)


PAIRS = {
    "seal, in memory": "raw encrypt, in memory",
    "seal and sign, in memory": "raw encrypt, in memory",
    "unseal, in memory": "raw decrypt, in memory",
    "unseal signed, in memory": "raw decrypt, in memory",
    "seal, files": "raw encrypt, files",
    "seal and sign, files": "raw encrypt, files",
    "unseal, files": "raw decrypt, files",
    "unseal signed, files": "raw decrypt, files",
}


def alternatives(work: Work) -> dict[str, Callable[[], Sample]]:
    """All that is timed, by name."""
    ways: dict[str, Callable[[], object]] = {
        "raw encrypt, in memory": work.raw,
        "seal, in memory": work.seal_in_memory,
        "seal and sign, in memory": work.seal_signed_in_memory,
        "raw decrypt, in memory": work.raw_back,
        "unseal, in memory": work.unseal_in_memory,
        "unseal signed, in memory": work.unseal_signed_in_memory,
        "raw encrypt, files": work.raw_to_file,
        "seal, files": partial(work.seal_to_file, None),
        "seal and sign, files": partial(work.seal_to_file, SIGN),
        "raw decrypt, files": work.raw_from_file,
        "unseal, files": partial(work.unseal_to_file, "sealed"),
        "unseal signed, files": partial(work.unseal_to_file, "signed"),
        **{f"{name}, in memory": partial(work.digested, name) for name in HASHES},
    }
    return {name: partial(measured, way) for name, way in ways.items()}


def figures(rounds: Sequence[Round], total: int) -> list[Figure]:
    """Shares of raw throughput by both clocks, then each way's own throughput."""
    found: list[Figure] = []
    for ours, raw in PAIRS.items():
        for clock in ("cpu", "wall"):
            # Time of raw over time of ours is throughput of ours over throughput of raw.
            share = ratio(f"share of raw throughput: {ours}", rounds, raw, ours, clock)
            found.append(replace(share, against=GOAL))
    for name in rounds[0]:
        speeds = [total / taken[name].wall / 1e9 for taken in rounds]
        found.append(absolute(name, "GB/s", speeds))
    return found


def passphrase(rounds: int) -> Figure:
    """What one guess costs at the default setting."""
    phrase = Passphrase.of("correct horse battery staple")
    sink = io.BytesIO()
    spec = TensorSpec(name="t", dtype="U8", shape=(1,))
    seal(sink, [Part(spec, lambda size: [b"x"])], LABEL, [phrase])
    taken = [measured(lambda: open_sealed(sink, phrase, "it")).cpu for _ in range(rounds)]
    return absolute("opening with a passphrase", "s", taken, "what each guess costs too")


def main(given: Sequence[str] | None = None) -> None:
    """Run and print."""
    parser = arguments(__doc__ or "", rounds=7)
    parser.add_argument("--tensors", type=int, default=16, help="how many tensors")
    parser.add_argument("--mib", type=int, default=16, help="MiB a tensor")
    options = parser.parse_args(given)
    single_thread()
    with watched(), tempfile.TemporaryDirectory(prefix="seal-") as folder:
        work = Work(Path(folder), options.tensors, options.mib * 2**20)
        ways = alternatives(work)
        interleave(ways, 1)
        found = figures(interleave(ways, options.rounds), work.total)
    show([*found, passphrase(min(3, options.rounds))], as_json=options.json)


if __name__ == "__main__":
    main()
