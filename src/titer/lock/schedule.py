"""What every byte is bound to: keys from the data key, nonces, and associated data.

On nonces. AES-GCM loses everything if one key ever meets one nonce twice. Here a nonce is the
number of a chunk, and the key belongs to one tensor of one sealing: it is derived from the data
key, a salt and the tensor's name. The salt is 32 fresh random bytes each time bytes are sealed,
drawn by :func:`titer.lock.seal.seal` and never taken from a caller, so sealing again under the same
data key would give other keys; and names occur once in a header. Changing who holds the key leaves
body and salt as they are and encrypts no tensor. Random nonces would add nothing to this but 12
bytes a chunk and a birthday bound.
"""

from __future__ import annotations

import hmac
import struct

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from titer.lock.header import FORMAT, TensorSpec, canonical
from titer.lock.keys import SecretKey

__all__ = [
    "BLANK",
    "MAC",
    "PREFIX",
    "SIGNATURE",
    "bound",
    "derive",
    "header_mac",
    "nonce",
    "place",
    "tensor_cipher",
    "wrap_context",
]

PREFIX = struct.Struct("<8sII")
MAC = 32
SIGNATURE = 64
BLANK = bytes(SIGNATURE)
"""Stands where an unsigned container has its signature."""

_PLACE = struct.Struct("<QB")


def derive(data_key: SecretKey, salt: bytes, purpose: str) -> SecretKey:
    """A key of its own for each purpose: HKDF-SHA256 of the data key."""
    info = f"titer/seal/v1/{purpose}".encode("ascii")
    kdf = HKDF(algorithm=SHA256(), length=32, salt=salt, info=info)
    return SecretKey(kdf.derive(data_key.reveal()))


def tensor_cipher(data_key: SecretKey, salt: bytes, domain: str, name: str) -> AESGCM:
    """AES-256-GCM under the key of one tensor of one sealing."""
    return AESGCM(derive(data_key, salt, f"tensor/{domain}/{name}").reveal())


def header_mac(data_key: SecretKey, salt: bytes, head: bytes) -> bytes:
    """What tells a holder that nobody without the data key wrote this header."""
    return hmac.digest(derive(data_key, salt, "header").reveal(), head, "sha256")


def wrap_context(salt: bytes, domain: str) -> bytes:
    """What a wrapped data key is bound to."""
    return b"titer/seal/v1/wrap\0" + salt + domain.encode("ascii")


def bound(base: str, domain: str, kind: str, spec: TensorSpec) -> bytes:
    """What every chunk of a tensor is bound to, but for its place."""
    return canonical(
        {
            "base": base,
            "domain": domain,
            "dtype": spec.dtype,
            "format": FORMAT,
            "kind": kind,
            "name": spec.name,
            "shape": list(spec.shape),
        }
    )


def place(index: int, *, last: bool) -> bytes:
    """A chunk's number and whether it is the last, to go after :func:`bound`."""
    return _PLACE.pack(index, last)


def nonce(index: int) -> bytes:
    """The chunk's number; see above for why that is enough."""
    return index.to_bytes(12, "little")
