"""The header of a sealed container: canonical JSON, read strictly, of bounded size."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import Any, Literal, cast

from titer.core.modelfolder import DTYPE_BYTES
from titer.lock.wrap import Holder, PassphraseHolder, PublicKeyHolder

__all__ = [
    "DOMAIN",
    "FORMAT",
    "HEADER_LIMIT",
    "MAGIC",
    "TAG",
    "Header",
    "Kind",
    "Malformed",
    "Partition",
    "TensorSpec",
    "canonical",
    "parse",
    "render",
]

MAGIC = b"TITERSL\0"
FORMAT = 1
TAG = 16
HEADER_LIMIT = 4 * 2**20
"""Bytes. About thirty thousand tensors; a parser never holds more of an untrusted header."""

_HOLDERS = 64
_PASSPHRASES = 8
"""Each costs a reader one run of scrypt, so a hostile header must not ask for many."""
_LOG_N = (14, 18)
"""2¹⁸ rounds take 256 MiB, the most that a header may ask of a reader."""
_CHUNK = (2**12, 2**24)
_LARGEST = 2**50
_DIMENSIONS = 8
# safetensors keeps that one name for its own notes.
_NAME = re.compile(r"(?!__metadata__$)[A-Za-z0-9_][A-Za-z0-9_.\-]{0,254}")
DOMAIN = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")

Kind = Literal["adapter", "tensors"]
Partition = Literal["while-learning", "post-hoc"]


class Malformed(Exception):
    """Why bytes are no header. Turned into a sentence by whoever knows the file's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSpec:
    """A sealed tensor as everybody may see it: name, dtype as safetensors names it, shape."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def width(self) -> int:
        """Bytes an element."""
        return DTYPE_BYTES[self.dtype]

    @property
    def size(self) -> int:
        """Bytes of plaintext."""
        return math.prod(self.shape) * self.width

    def chunks(self, chunk: int) -> int:
        """How many pieces it is sealed in; an empty tensor has one, so that it too is vouched
        for."""
        return max(1, -(-self.size // chunk))


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """Everything a container says without a key.

    ``body`` is the SHA-256 of the sealed bytes, and is there exactly where ``signer`` is.
    """

    base: str
    check: bytes
    chunk: int
    domain: str
    holders: tuple[Holder, ...]
    kind: Kind
    partition: Partition
    salt: bytes
    tensors: tuple[TensorSpec, ...]
    signer: bytes | None = None
    body: bytes | None = None

    @property
    def body_size(self) -> int:
        """Bytes after the preamble."""
        return sum(spec.size + TAG * spec.chunks(self.chunk) for spec in self.tensors)


def canonical(value: Any) -> bytes:
    """The one way to write a value: sorted keys, no blanks, ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def render(header: Header) -> bytes:
    """The header's bytes.

    Raises:
        Malformed: a field that :func:`parse` would refuse, so that nothing unreadable is written.
    """
    plain = {
        "base": header.base,
        "body": header.body.hex() if header.body is not None else None,
        "check": header.check.hex(),
        "chunk": header.chunk,
        "domain": header.domain,
        "holders": [_plain_holder(holder) for holder in header.holders],
        "kind": header.kind,
        "partition": header.partition,
        "salt": header.salt.hex(),
        "signer": header.signer.hex() if header.signer is not None else None,
        "tensors": [
            {"dtype": spec.dtype, "name": spec.name, "shape": list(spec.shape)}
            for spec in header.tensors
        ],
    }
    raw = canonical(plain)
    parse(raw)
    return raw


def _plain_holder(holder: Holder) -> dict[str, Any]:
    if isinstance(holder, PublicKeyHolder):
        return {
            "ephemeral": holder.ephemeral.hex(),
            "kind": "x25519",
            "public": holder.public.hex(),
            "wrapped": holder.wrapped.hex(),
        }
    return {
        "kind": "scrypt",
        "log_n": holder.log_n,
        "salt": holder.salt.hex(),
        "wrapped": holder.wrapped.hex(),
    }


def parse(raw: bytes) -> Header:
    """Read a header strictly: known fields only, and byte for byte as :func:`render` writes it.

    Raises:
        Malformed: anything else.
    """
    if len(raw) > HEADER_LIMIT:
        raise Malformed(f"its header has {len(raw):,} bytes, more than {HEADER_LIMIT:,}")
    try:
        plain: Any = json.loads(raw)
        same = canonical(plain) == raw
    except (ValueError, RecursionError):
        raise Malformed("its header is not JSON") from None
    if not same:
        raise Malformed("its header is not in canonical form")
    fields = _fields(
        plain,
        "header",
        "base body check chunk domain holders kind partition salt signer tensors",
    )
    signer = None if fields["signer"] is None else _bytes(fields["signer"], 32, "signer")
    body = None if fields["body"] is None else _bytes(fields["body"], 32, "body")
    if (signer is None) != (body is None):
        raise Malformed("it names a signer without a digest of what is signed, or the reverse")
    chunk = _integer(fields["chunk"], *_CHUNK, "chunk")
    if chunk & (chunk - 1):
        raise Malformed("its chunk size is no power of two")
    return Header(
        base=_bytes(fields["base"], 32, "base").hex(),
        check=_bytes(fields["check"], 32, "check"),
        chunk=chunk,
        domain=_matching(fields["domain"], DOMAIN, "domain"),
        holders=_holders(fields["holders"]),
        kind=cast(Kind, _one_of(fields["kind"], ("adapter", "tensors"), "kind")),
        partition=cast(
            Partition, _one_of(fields["partition"], ("while-learning", "post-hoc"), "partition")
        ),
        salt=_bytes(fields["salt"], 32, "salt"),
        signer=signer,
        body=body,
        tensors=_tensors(fields["tensors"]),
    )


def _holders(value: Any) -> tuple[Holder, ...]:
    entries = _list(value, "holders", 1, _HOLDERS)
    found = tuple(_holder(entry) for entry in entries)
    if sum(isinstance(holder, PassphraseHolder) for holder in found) > _PASSPHRASES:
        raise Malformed(f"it has more than {_PASSPHRASES} passphrase holders")
    if len({holder.id for holder in found}) != len(found):
        raise Malformed("it names a holder twice")
    return found


def _holder(value: Any) -> Holder:
    kind = cast(dict[str, Any], value).get("kind") if isinstance(value, dict) else None
    if kind == "x25519":
        fields = _fields(value, "holder", "ephemeral kind public wrapped")
        return PublicKeyHolder(
            public=_bytes(fields["public"], 32, "public"),
            ephemeral=_bytes(fields["ephemeral"], 32, "ephemeral"),
            wrapped=_bytes(fields["wrapped"], 48, "wrapped"),
        )
    if kind == "scrypt":
        fields = _fields(value, "holder", "kind log_n salt wrapped")
        return PassphraseHolder(
            salt=_bytes(fields["salt"], 16, "salt"),
            log_n=_integer(fields["log_n"], *_LOG_N, "log_n"),
            wrapped=_bytes(fields["wrapped"], 48, "wrapped"),
        )
    raise Malformed("it has a holder of unknown kind")


def _tensors(value: Any) -> tuple[TensorSpec, ...]:
    found: list[TensorSpec] = []
    total = 0
    for entry in _list(value, "tensors", 1, HEADER_LIMIT):
        fields = _fields(entry, "tensor", "dtype name shape")
        shape = _list(fields["shape"], "shape", 0, _DIMENSIONS)
        spec = TensorSpec(
            name=_matching(fields["name"], _NAME, "name of a tensor"),
            dtype=_one_of(fields["dtype"], tuple(DTYPE_BYTES), "dtype"),
            shape=tuple(_integer(number, 0, _LARGEST, "shape") for number in shape),
        )
        if found and spec.name <= found[-1].name:
            raise Malformed("its tensors are not in order of name, each once")
        total += spec.size
        if total > _LARGEST:
            raise Malformed("its tensors are too large")
        found.append(spec)
    return tuple(found)


def _fields(value: Any, what: str, names: str) -> dict[str, Any]:
    if not isinstance(value, dict) or sorted(cast(dict[str, Any], value)) != names.split():
        raise Malformed(f"a {what} has other fields than {', '.join(names.split())}")
    return cast(dict[str, Any], value)


def _list(value: Any, what: str, least: int, most: int) -> list[Any]:
    if not isinstance(value, list) or not least <= len(cast(list[Any], value)) <= most:
        raise Malformed(f"its {what} are no list of {least} to {most:,}")
    return cast(list[Any], value)


def _integer(value: Any, least: int, most: int, what: str) -> int:
    # A bool is an int to Python and not to a format.
    if type(value) is not int or not least <= value <= most:
        raise Malformed(f"its {what} is no number from {least:,} to {most:,}")
    return value


def _bytes(value: Any, size: int, what: str) -> bytes:
    if not isinstance(value, str) or not re.fullmatch(f"[0-9a-f]{{{2 * size}}}", value):
        raise Malformed(f"its {what} is not {size} bytes in hex")
    return bytes.fromhex(value)


def _matching(value: Any, pattern: re.Pattern[str], what: str) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise Malformed(f"its {what} is not one that matches {pattern.pattern}")
    return value


def _one_of(value: Any, allowed: tuple[str, ...], what: str) -> str:
    if not isinstance(value, str) or value not in allowed:
        raise Malformed(f"its {what} is none of {', '.join(allowed)}")
    return value
