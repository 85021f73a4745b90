"""Keys, their text forms, and secrets that do not show themselves."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from titer.core.errors import BadInput
from titer.core.files import atomic_file, require_regular

__all__ = [
    "Credential",
    "HolderKey",
    "Passphrase",
    "PublicKey",
    "SecretKey",
    "SigningKey",
    "VerifyKey",
    "credential",
    "fresh",
    "read_secret",
    "short_id",
    "signing_key",
    "write_pair",
]

_PUBLIC = re.compile(r"(x25519|ed25519):([0-9a-f]{64})")
_SECRET = re.compile(r"titer-secret-(x25519|ed25519):([0-9a-f]{64})")
_MARK = "titer-secret-"
_LONGEST = 4096
_PIPES = ("/dev/fd/", "/proc/self/fd/", "/dev/stdin")
"""What the shell hands over, as `<(…)` does, and is read to its end."""
_SHORTEST = 12
"""Characters of a new passphrase. Anyone can try passphrases against a public file for ever."""


def fresh(size: int) -> bytes:
    """Random bytes from the operating system: the only source of chance in this package."""
    return os.urandom(size)


class SecretKey:
    """Secret bytes that stay out of ``repr``, logs, pickles, copies and messages.

    Python cannot promise to wipe memory: what :meth:`reveal` returned lives until it is collected.
    """

    __slots__ = ("_secret",)

    def __init__(self, secret: bytes) -> None:
        self._secret = bytes(secret)

    def reveal(self) -> bytes:
        """The bytes themselves, for a cipher and nothing else."""
        return self._secret

    def __repr__(self) -> str:
        return "SecretKey(hidden)"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SecretKey):
            return NotImplemented
        return hmac.compare_digest(self._secret, other.reveal())

    __hash__ = None  # type: ignore[assignment]

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a SecretKey is neither pickled nor copied")


def short_id(public: bytes) -> str:
    """16 hex digits by which people tell holders and signers apart."""
    return hashlib.sha256(public).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class PublicKey:
    """Whom to seal for: 32 bytes of X25519, written ``x25519:<64 hex digits>``."""

    raw: bytes

    @staticmethod
    def parse(text: str) -> PublicKey:
        """Read the text form, or a file that holds it.

        Raises:
            BadInput: neither.
        """
        return PublicKey(_public(text, "x25519"))

    def __str__(self) -> str:
        return f"x25519:{self.raw.hex()}"


@dataclass(frozen=True, slots=True)
class VerifyKey:
    """Who signed: 32 bytes of Ed25519, written ``ed25519:<64 hex digits>``."""

    raw: bytes

    @staticmethod
    def parse(text: str) -> VerifyKey:
        """Read the text form, or a file that holds it.

        Raises:
            BadInput: neither.
        """
        return VerifyKey(_public(text, "ed25519"))

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Whether the signature is this key's over this message."""
        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, message)
        except (InvalidSignature, ValueError):
            return False
        return True

    def __str__(self) -> str:
        return f"ed25519:{self.raw.hex()}"


@dataclass(frozen=True, slots=True)
class HolderKey:
    """The secret half of a holder's X25519 pair."""

    secret: SecretKey

    @staticmethod
    def make() -> HolderKey:
        """A new pair."""
        return HolderKey(SecretKey(fresh(32)))

    @property
    def public(self) -> PublicKey:
        """What to give to whoever seals."""
        return PublicKey(self.private().public_key().public_bytes_raw())

    def private(self) -> X25519PrivateKey:
        """As the cryptography package wants it."""
        return X25519PrivateKey.from_private_bytes(self.secret.reveal())


@dataclass(frozen=True, slots=True)
class SigningKey:
    """The secret half of a publisher's Ed25519 pair."""

    secret: SecretKey

    @staticmethod
    def make() -> SigningKey:
        """A new pair."""
        return SigningKey(SecretKey(fresh(32)))

    @property
    def public(self) -> VerifyKey:
        """What to tell the world."""
        return VerifyKey(self._private().public_key().public_bytes_raw())

    def sign(self, message: bytes) -> bytes:
        """64 bytes."""
        return self._private().sign(message)

    def _private(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(self.secret.reveal())


@dataclass(frozen=True, slots=True)
class Passphrase:
    """A passphrase as the bytes that are stretched: UTF-8 of its NFC form."""

    secret: SecretKey

    @staticmethod
    def of(text: str, *, new: bool = False) -> Passphrase:
        """From what a person typed, without the end of line that a file has.

        Raises:
            BadInput: empty, or new and shorter than 12 characters.
        """
        text = text.rstrip("\r\n")
        if not text:
            raise BadInput("the passphrase is empty; give one, or a key file.")
        if new and (text.strip().startswith(_MARK) or _PUBLIC.fullmatch(text.strip())):
            raise BadInput("a key was given where a passphrase belongs; seal for it with --to.")
        if new and len(text) < _SHORTEST:
            raise BadInput(
                f"the passphrase has {len(text)} characters and a public file can be attacked for "
                f"ever; take {_SHORTEST} or more, such as six random words."
            )
        try:
            return Passphrase(SecretKey(unicodedata.normalize("NFC", text).encode("utf-8")))
        except UnicodeEncodeError:
            # Not chained: the original error carries the text.
            raise BadInput("the passphrase is not valid text; retype it.") from None


Credential = HolderKey | Passphrase


def credential(text: str, said: str) -> Credential:
    """A holder's secret key where the text is one, otherwise a passphrase.

    Args:
        text: what the file, the environment or the prompt gave. It is never repeated in a message.
        said: where it came from, for messages.

    Raises:
        BadInput: it is a key of the wrong sort, or empty.
    """
    trimmed = text.strip()
    if trimmed.startswith(_MARK):
        return HolderKey(_secret(trimmed, "x25519", said))
    if _PUBLIC.fullmatch(trimmed):
        raise BadInput(f"{said} holds a public key; unlocking takes the secret one.")
    return Passphrase.of(text)


def signing_key(text: str, said: str) -> SigningKey:
    """The publisher's secret key from its text.

    Raises:
        BadInput: it is something else.
    """
    return SigningKey(_secret(text.strip(), "ed25519", said))


def read_secret(path: Path) -> str:
    """The text of a key or passphrase file.

    Raises:
        BadInput: no such file, or one that cannot be it.
    """
    if not str(path).startswith(_PIPES):
        require_regular(path)
    try:
        with path.open("rb") as file:
            raw = file.read(_LONGEST + 1)
    except OSError as error:
        raise BadInput(f"cannot read the key file {path}: {error.strerror}.") from error
    if len(raw) > _LONGEST:
        raise BadInput(f"{path} is larger than {_LONGEST:,} bytes, so it is no key file.")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise BadInput(f"{path} is not text, so it is no key file.") from None


def write_pair(key: HolderKey | SigningKey, path: Path) -> Path:
    """Write the secret half to ``path`` (mode 0600) and the public half beside it, as ``.pub``.

    Returns:
        The path of the public half.

    Raises:
        BadInput: one of the two files is there already; a key is never overwritten.
    """
    public = path.with_name(f"{path.name}.pub")
    for place in (path, public):
        if place.exists():
            raise BadInput(f"{place} exists; a lost key cannot be made again, so choose another.")
    kind = "x25519" if isinstance(key, HolderKey) else "ed25519"
    for place, text, mode in (
        (path, f"{_MARK}{kind}:{key.secret.reveal().hex()}\n", 0o600),
        (public, f"{key.public}\n", 0o644),
    ):
        with atomic_file(place, mode) as file:
            file.write(text.encode("ascii"))
    return public


def _public(text: str, kind: str) -> bytes:
    said = text if len(text) <= 100 else f"{text[:100]}…"
    if text.strip().startswith(_MARK):
        raise BadInput(
            "a secret key was given where a public one belongs; treat it as known to others, make "
            "a new pair, and give the .pub file."
        )
    path = Path(text)
    if not _PUBLIC.fullmatch(text.strip()) and len(text) < _LONGEST and path.is_file():
        text, said = read_secret(path), str(path)
        if text.strip().startswith(_MARK):
            raise BadInput(f"{said} holds a secret key; give its public half, the .pub file.")
    match = _PUBLIC.fullmatch(text.strip())
    if not match or match[1] != kind:
        raise BadInput(
            f"{said!r} is no {kind} public key; give {kind}:<64 hex digits> or a file with that, "
            "as titer keygen writes."
        )
    return bytes.fromhex(match[2])


def _secret(text: str, kind: str, said: str) -> SecretKey:
    match = _SECRET.fullmatch(text)
    if not match or match[1] != kind:
        found = f"an {match[1]} key" if match else "no key that titer keygen wrote"
        raise BadInput(f"{said} holds {found}; a secret {kind} key is needed.")
    return SecretKey(bytes.fromhex(match[2]))
