"""What can be tried against sealed containers without their key, and what must not work with it.

An audit finds faults of a file; that it finds none proves nothing beyond what it looks for.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from titer.core.errors import BadInput
from titer.lock.header import TAG, TensorSpec
from titer.lock.keys import Credential, Passphrase
from titer.lock.schedule import derive, wrap_context
from titer.lock.unseal import Preamble, inspect, open_sealed
from titer.lock.wrap import PassphraseHolder, unwrap

__all__ = ["Guessed", "forgeries", "guess", "repeated_blocks", "shared_streams"]

_BLOCK = 16


@dataclass(frozen=True, slots=True)
class Guessed:
    """What a dictionary came to: how many stretches of a guess were paid for, and what opened."""

    tried: int
    opened: Passphrase | None


def guess(path: Path, words: Iterable[str], most: int) -> Guessed:
    """Try words as passphrases against a container, each at its real price.

    A guess costs one run of scrypt for each passphrase holder, at the cost that the header names;
    there is no cheaper test. No guess is made where only public keys hold it.

    Args:
        most: stretches that may be paid for.

    Raises:
        BadInput: it is no container.
    """
    with path.open("rb") as stream:
        header = inspect(stream, str(path)).header
    holders = [holder for holder in header.holders if isinstance(holder, PassphraseHolder)]
    context, tried = wrap_context(header.salt, header.domain), 0
    for word in words:
        if not word.strip():
            continue
        using = Passphrase.of(word)
        for holder in holders:
            if tried >= most:
                return Guessed(tried, None)
            tried += 1
            found = unwrap([holder], using, context)
            if found and derive(found[0], header.salt, "check").reveal() == header.check:
                return Guessed(tried, using)
    return Guessed(tried, None)


def repeated_blocks(path: Path) -> int:
    """How many 16-byte blocks of the sealed bytes occur before in the file: 0 but for chance of
    about n² / 2¹²⁹ for n blocks. A cipher that repeats itself would show the shape of weights.

    Holds a hash of every block in memory.
    """
    with path.open("rb") as stream:
        preamble = inspect(stream, str(path))
        stream.seek(preamble.start)
        seen: set[bytes] = set()
        repeats = 0
        while block := stream.read(_BLOCK):
            repeats += block in seen
            seen.add(block)
    return repeats


def shared_streams(paths: Sequence[Path]) -> list[tuple[Path, Path, str]]:
    """Pairs of containers that seal different bytes of one tensor under one key and nonce.

    A key stream belongs to data key, salt, domain and a tensor's name, and its nonces count from
    zero. So two bodies of the same salt, domain and name that differ are two messages under one
    nonce: their difference is that of the weights, and the authentication is lost. Re-wrapped
    copies share all of it and the body too, which gives nothing away.

    Raises:
        BadInput: one of them is no container.
    """
    seen: dict[tuple[bytes, str, str], tuple[bytes, Path]] = {}
    found: list[tuple[Path, Path, str]] = []
    for path in paths:
        with path.open("rb") as stream:
            preamble = inspect(stream, str(path))
            for spec, at in preamble.places():
                stream.seek(at)
                digest = hashlib.sha256(stream.read(_size(preamble, spec))).digest()
                key = (preamble.header.salt, preamble.header.domain, spec.name)
                before = seen.setdefault(key, (digest, path))
                if before[0] != digest:
                    found.append((before[1], path, spec.name))
    return found


def _size(preamble: Preamble, spec: TensorSpec) -> int:
    return spec.size + TAG * spec.chunks(preamble.header.chunk)


def forgeries(first: Path, second: Path, using: Credential) -> list[str]:
    """Put each sealed tensor of ``second`` in the place of each of ``first`` of the same size, and
    say which of these files a holder of ``first`` would accept: none, if the format holds.

    The parts are exchanged byte for byte, as somebody without the key could; tensors within
    ``first`` are exchanged too. No signature is asked for: of an unsigned container the cipher's
    own binding is tried, of a signed one the digest of its body comes first.

    Raises:
        BadInput: one of them is no container, or the key does not open ``first``.
    """
    raw = first.read_bytes()
    with io.BytesIO(raw) as stream:
        open_sealed(stream, using, str(first))
        mine = inspect(stream, str(first))
    accepted: list[str] = []
    for path in dict.fromkeys((first, second)):
        other = path.read_bytes()
        theirs = inspect(io.BytesIO(other), str(path))
        for spec, at in mine.places():
            for source, start in theirs.places():
                size = _size(mine, spec)
                part = other[start : start + size]
                if _size(theirs, source) != size or part == raw[at : at + size]:
                    continue
                forged = raw[:at] + part + raw[at + size :]
                if _accepts(forged, using, spec.name):
                    accepted.append(f"{spec.name} from {source.name} of {path.name}")
    return accepted


def _accepts(forged: bytes, using: Credential, name: str) -> bool:
    try:
        opened = open_sealed(io.BytesIO(forged), using, "a forgery")
        for _ in opened.blocks(name):
            pass
    except BadInput:
        return False
    return True
