"""A second reader and writer of sealed containers, from docs/reference/sealed-format.md alone.

It imports nothing of titer, so that both would have to be wrong in the same way for a mistake in
the format to go unseen. It is slow, holds everything in memory, and says little about what is
wrong.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import unicodedata
from dataclasses import dataclass
from math import prod
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

WIDTH = {
    **{name: 1 for name in ["BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2"]},
    **{name: 2 for name in ["I16", "U16", "F16", "BF16"]},
    **{name: 4 for name in ["I32", "U32", "F32"]},
    **{name: 8 for name in ["I64", "U64", "F64"]},
}
KEYS = {
    "base",
    "body",
    "check",
    "chunk",
    "domain",
    "holders",
    "kind",
    "partition",
    "salt",
    "signer",
    "tensors",
}


class Refused(Exception):
    """Not a container that may be used."""


def need(condition: bool, why: str) -> None:
    if not condition:
        raise Refused(why)


def dumps(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def hkdf(secret: bytes, salt: bytes, info: bytes) -> bytes:
    """RFC 5869 for one block of output, by hand."""
    prk = hmac.new(salt, secret, hashlib.sha256).digest()
    return hmac.new(prk, info + b"\x01", hashlib.sha256).digest()


def derive(data_key: bytes, salt: bytes, purpose: str) -> bytes:
    return hkdf(data_key, salt, b"titer/seal/v1/" + purpose.encode())


def wrapping(salt: bytes, domain: str) -> bytes:
    return b"titer/seal/v1/wrap" + b"\x00" + salt + domain.encode()


def stretch(passphrase: str, salt: bytes, log_n: int) -> bytes:
    text = unicodedata.normalize("NFC", passphrase).encode()
    return hashlib.scrypt(text, salt=salt, n=2**log_n, r=8, p=1, dklen=32, maxmem=2**29)


def pieces(size: int, chunk: int) -> list[tuple[int, int]]:
    starts = range(0, size, chunk) if size else [0]
    return [(start, min(start + chunk, size)) for start in starts]


def size_of(tensor: dict[str, Any]) -> int:
    return prod(tensor["shape"]) * WIDTH[tensor["dtype"]]


def binding(header: dict[str, Any], tensor: dict[str, Any]) -> bytes:
    shared = {key: header[key] for key in ("base", "domain", "kind")}
    return dumps({**shared, **tensor, "format": 1})


def place(index: int, last: bool) -> bytes:
    return index.to_bytes(8, "little") + bytes([last])


@dataclass
class Chance:
    """Fixed randomness, for vectors. Real sealing must draw all of it anew."""

    data_key: bytes
    salt: bytes
    holders: list[bytes]


def write(
    tensors: dict[str, tuple[str, list[int], bytes]],
    *,
    base: str,
    domain: str,
    kind: str,
    partition: str,
    chunk: int,
    to: list[bytes | tuple[str, int]],
    chance: Chance,
    sign: bytes | None = None,
) -> bytes:
    """A whole container. ``to``: public keys, or pairs of a passphrase and log_n."""
    key, salt = chance.data_key, chance.salt
    context = wrapping(salt, domain)
    holders: list[dict[str, Any]] = []
    for recipient, random in zip(to, chance.holders, strict=True):
        if isinstance(recipient, bytes):
            secret = X25519PrivateKey.from_private_bytes(random)
            mine = secret.public_key().public_bytes_raw()
            shared = secret.exchange(X25519PublicKey.from_public_bytes(recipient))
            kek = hkdf(shared, mine + recipient, b"titer/seal/v1/wrap/x25519")
            entry = {"kind": "x25519", "ephemeral": mine.hex(), "public": recipient.hex()}
        else:
            kek = stretch(recipient[0], random, recipient[1])
            entry = {"kind": "scrypt", "log_n": recipient[1], "salt": random.hex()}
        wrapped = AESGCM(kek).encrypt(bytes(12), key, context)
        holders.append({**entry, "wrapped": wrapped.hex()})
    header: dict[str, Any] = {
        "base": base,
        "body": None,
        "check": derive(key, salt, "check").hex(),
        "chunk": chunk,
        "domain": domain,
        "holders": holders,
        "kind": kind,
        "partition": partition,
        "salt": salt.hex(),
        "signer": None,
        "tensors": [
            {"dtype": tensors[name][0], "name": name, "shape": tensors[name][1]}
            for name in sorted(tensors)
        ],
    }
    body = b""
    for tensor in header["tensors"]:
        name = tensor["name"]
        cipher = AESGCM(derive(key, salt, f"tensor/{domain}/{name}"))
        cuts = pieces(size_of(tensor), chunk)
        for index, (start, stop) in enumerate(cuts):
            bound = binding(header, tensor) + place(index, index == len(cuts) - 1)
            plain = tensors[name][2][start:stop]
            body += cipher.encrypt(index.to_bytes(12, "little"), plain, bound)
    signer = Ed25519PrivateKey.from_private_bytes(sign) if sign else None
    if signer:
        header["signer"] = signer.public_key().public_bytes_raw().hex()
        header["body"] = hashlib.sha256(body).hexdigest()
    return finish(header, body, key, sign)


def finish(header: dict[str, Any], body: bytes, key: bytes, sign: bytes | None) -> bytes:
    """Prefix, header, MAC, signature and body; the header is taken as it is."""
    raw = dumps(header)
    head = b"TITERSL\x00" + (1).to_bytes(4, "little") + len(raw).to_bytes(4, "little") + raw
    mac_key = derive(key, bytes.fromhex(header["salt"]), "header")
    head += hmac.new(mac_key, head, hashlib.sha256).digest()
    signature = Ed25519PrivateKey.from_private_bytes(sign).sign(head) if sign else bytes(64)
    return head + signature + body


def split(data: bytes) -> tuple[dict[str, Any], bytes, bytes, bytes]:
    """Header, the bytes that are signed, signature, body."""
    need(data[:12] == b"TITERSL\x00\x01\x00\x00\x00", "prefix")
    length = int.from_bytes(data[12:16], "little")
    need(length <= 4 * 1024 * 1024, "header limit")
    raw = data[16 : 16 + length]
    try:
        header = json.loads(raw)
        need(dumps(header) == raw, "canonical")
    except (ValueError, RecursionError) as error:
        raise Refused("json") from error
    at = 48 + length
    return header, data[:at], data[at : at + 64], data[at + 64 :]


def read(
    data: bytes, secret: bytes | str, *, trust: bytes | None = None
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Header and tensors; ``secret`` is an X25519 secret key or a passphrase."""
    header, signed, signature, body = split(data)
    check_header(header)
    need(sum(map(size_of, header["tensors"])) <= len(body), "length")
    cuts = {t["name"]: pieces(size_of(t), header["chunk"]) for t in header["tensors"]}
    expected = sum(stop - start + 16 for found in cuts.values() for start, stop in found)
    need(len(signature) == 64 and len(body) == expected, "length")
    if header["signer"] is None:
        need(signature == bytes(64) and trust is None, "unsigned")
    else:
        signer = bytes.fromhex(header["signer"])
        need(trust in (None, signer), "signer")
        try:
            Ed25519PublicKey.from_public_bytes(signer).verify(signature, signed)
        except Exception as error:
            raise Refused("signature") from error
        need(hashlib.sha256(body).hexdigest() == header["body"], "body")
    key, salt = data_key(header, secret), bytes.fromhex(header["salt"])
    need(derive(key, salt, "check").hex() == header["check"], "check")
    mac = hmac.new(derive(key, salt, "header"), signed[:-32], hashlib.sha256).digest()
    need(mac == signed[-32:], "mac")
    found: dict[str, bytes] = {}
    at = 0
    for tensor in header["tensors"]:
        name = tensor["name"]
        cipher = AESGCM(derive(key, salt, f"tensor/{header['domain']}/{name}"))
        found[name] = b""
        for index, (start, stop) in enumerate(cuts[name]):
            bound = binding(header, tensor) + place(index, index == len(cuts[name]) - 1)
            sealed = body[at : at + stop - start + 16]
            at += len(sealed)
            try:
                found[name] += cipher.decrypt(index.to_bytes(12, "little"), sealed, bound)
            except Exception as error:
                raise Refused(f"chunk {index} of {name}") from error
    return header, found


def data_key(header: dict[str, Any], secret: bytes | str) -> bytes:
    context = wrapping(bytes.fromhex(header["salt"]), header["domain"])
    for holder in header["holders"]:
        if isinstance(secret, str) and holder["kind"] == "scrypt":
            kek = stretch(secret, bytes.fromhex(holder["salt"]), holder["log_n"])
        elif isinstance(secret, bytes) and holder["kind"] == "x25519":
            mine = X25519PrivateKey.from_private_bytes(secret)
            ephemeral, public = (bytes.fromhex(holder[k]) for k in ("ephemeral", "public"))
            try:
                shared = mine.exchange(X25519PublicKey.from_public_bytes(ephemeral))
            except ValueError:
                continue
            kek = hkdf(shared, ephemeral + public, b"titer/seal/v1/wrap/x25519")
        else:
            continue
        try:
            return AESGCM(kek).decrypt(bytes(12), bytes.fromhex(holder["wrapped"]), context)
        except Exception:
            continue
    raise Refused("no holder")


def check_header(header: Any) -> None:
    """The rules of the page's section on the header."""
    need(isinstance(header, dict) and set(header) == KEYS, "keys")
    for name in ("base", "check", "salt"):
        hexed(header[name], 32)
    need((header["signer"] is None) == (header["body"] is None), "signer and body")
    if header["signer"] is not None:
        hexed(header["signer"], 32)
        hexed(header["body"], 32)
    chunk = header["chunk"]
    need(type(chunk) is int and chunk in [2**power for power in range(12, 25)], "chunk")
    matches(header["domain"], r"[a-z0-9][a-z0-9_-]{0,62}")
    need(header["kind"] in ("adapter", "tensors"), "kind")
    need(header["partition"] in ("post-hoc", "while-learning"), "partition")
    need(type(header["holders"]) is list and 1 <= len(header["holders"]) <= 64, "holders")
    ids: list[str] = []
    for holder in header["holders"]:
        need(type(holder) is dict, "holder")
        if holder.get("kind") == "x25519":
            need(set(holder) == {"ephemeral", "kind", "public", "wrapped"}, "holder")
            hexed(holder["ephemeral"], 32)
            ids.append(hexed(holder["public"], 32))
        else:
            need(set(holder) == {"kind", "log_n", "salt", "wrapped"}, "holder")
            need(holder["kind"] == "scrypt", "holder")
            need(type(holder["log_n"]) is int and 14 <= holder["log_n"] <= 18, "log_n")
            ids.append(hexed(holder["salt"], 16))
        hexed(holder["wrapped"], 48)
    need(len(set(ids)) == len(ids), "holder twice")
    need(sum(h["kind"] == "scrypt" for h in header["holders"]) <= 8, "passphrases")
    need(type(header["tensors"]) is list and len(header["tensors"]) >= 1, "tensors")
    for tensor in header["tensors"]:
        need(type(tensor) is dict and set(tensor) == {"dtype", "name", "shape"}, "tensor")
        need(tensor["name"] != "__metadata__", "name")
        matches(tensor["name"], r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,254}")
        need(isinstance(tensor["dtype"], str) and tensor["dtype"] in WIDTH, "dtype")
        need(type(tensor["shape"]) is list and len(tensor["shape"]) <= 8, "shape")
        need(all(type(n) is int and 0 <= n <= 2**50 for n in tensor["shape"]), "shape")
    names = [tensor["name"] for tensor in header["tensors"]]
    need(names == sorted(set(names)), "order")
    need(sum(size_of(tensor) for tensor in header["tensors"]) <= 2**50, "size")


def hexed(value: Any, size: int) -> str:
    matches(value, f"[0-9a-f]{{{2 * size}}}")
    return value


def matches(value: Any, pattern: str) -> None:
    need(isinstance(value, str) and re.fullmatch(pattern, value) is not None, pattern)


def weights_digest(tensors: dict[str, tuple[str, list[int], bytes]]) -> str:
    total = b"titer/weights/v1\n"
    for name in sorted(tensors):
        dtype, shape, data = tensors[name]
        total += dumps({"dtype": dtype, "name": name, "shape": shape}) + b"\n" + data
    return hashlib.sha256(total).hexdigest()
