"""One data key, wrapped once for each holder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from titer.core.errors import BadInput
from titer.lock import keys
from titer.lock.keys import Credential, HolderKey, Passphrase, PublicKey, SecretKey, short_id

__all__ = [
    "LOG_N",
    "Holder",
    "PassphraseHolder",
    "PublicKeyHolder",
    "Recipient",
    "unwrap",
    "wrap",
]

_NONCE = bytes(12)
# A key-encryption key encrypts once and is never seen again: it comes from a new ephemeral key or a
# new scrypt salt. So there is one message a key, and the nonce can be constant.

LOG_N = 17
"""Default cost of a passphrase: 2¹⁷ rounds of scrypt with r = 8, which takes 128 MiB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicKeyHolder:
    """A data key wrapped for an X25519 key: 32, 32 and 48 bytes."""

    public: bytes
    ephemeral: bytes
    wrapped: bytes

    @property
    def id(self) -> str:
        """How people name this holder."""
        return short_id(self.public)


@dataclass(frozen=True, slots=True, kw_only=True)
class PassphraseHolder:
    """A data key wrapped under a stretched passphrase: salt 16 and wrapped 48 bytes."""

    salt: bytes
    log_n: int
    wrapped: bytes

    @property
    def id(self) -> str:
        """How people name this holder; it says nothing of the passphrase."""
        return short_id(self.salt)


Holder = PublicKeyHolder | PassphraseHolder
Recipient = PublicKey | Passphrase


def wrap(data_key: SecretKey, to: Recipient, context: bytes, log_n: int = LOG_N) -> Holder:
    """Encrypt the data key to one recipient.

    Args:
        context: what the wrapping is bound to: the container's salt and domain.

    Raises:
        BadInput: a public key that is not a usable point.
    """
    if isinstance(to, PublicKey):
        ephemeral = HolderKey(SecretKey(keys.fresh(32)))
        own = ephemeral.public.raw
        key = _agree(ephemeral.private(), to.raw, own, to.raw)
        if key is None:
            raise BadInput(f"{to} is a degenerate public key, which protects nothing; make a pair.")
        wrapped = AESGCM(key.reveal()).encrypt(_NONCE, data_key.reveal(), context)
        return PublicKeyHolder(public=to.raw, ephemeral=own, wrapped=wrapped)
    salt = keys.fresh(16)
    key = _stretch(to, salt, log_n)
    wrapped = AESGCM(key.reveal()).encrypt(_NONCE, data_key.reveal(), context)
    return PassphraseHolder(salt=salt, log_n=log_n, wrapped=wrapped)


def unwrap(
    holders: Sequence[Holder], using: Credential, context: bytes
) -> tuple[SecretKey, Holder] | None:
    """The data key and whose entry gave it, or None if no entry opens."""
    for holder in holders:
        if isinstance(holder, PublicKeyHolder) and isinstance(using, HolderKey):
            if holder.public != using.public.raw:
                continue
            key = _agree(using.private(), holder.ephemeral, holder.ephemeral, holder.public)
        elif isinstance(holder, PassphraseHolder) and isinstance(using, Passphrase):
            key = _stretch(using, holder.salt, holder.log_n)
        else:
            continue
        if key is None:
            continue
        try:
            found = AESGCM(key.reveal()).decrypt(_NONCE, holder.wrapped, context)
        except InvalidTag:
            continue
        return SecretKey(found), holder
    return None


def _agree(
    private: X25519PrivateKey, peer: bytes, ephemeral: bytes, public: bytes
) -> SecretKey | None:
    try:
        shared = private.exchange(X25519PublicKey.from_public_bytes(peer))
    except ValueError:  # a point of small order: the secret would be all zeros
        return None
    kdf = HKDF(
        algorithm=SHA256(), length=32, salt=ephemeral + public, info=b"titer/seal/v1/wrap/x25519"
    )
    return SecretKey(kdf.derive(shared))


def _stretch(passphrase: Passphrase, salt: bytes, log_n: int) -> SecretKey:
    kdf = Scrypt(salt=salt, length=32, n=2**log_n, r=8, p=1)
    return SecretKey(kdf.derive(passphrase.secret.reveal()))
