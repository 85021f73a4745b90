"""Known answers: fixed keys in, fixed bytes out, from two programs that share no code."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lock import made, second
from titer.lock import keys
from titer.lock.keys import HolderKey, Passphrase, PublicKey, SecretKey, SigningKey
from titer.lock.seal import Label, seal
from titer.lock.wrap import Recipient

VECTORS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parent / "vectors.json").read_text(encoding="utf-8")
)
"""Written once by ``second.write``; the file is data and is not made again by any test."""

each = pytest.mark.parametrize("vector", VECTORS, ids=[vector["name"] for vector in VECTORS])


def _tensors(vector: dict[str, Any]) -> dict[str, tuple[str, list[int], bytes]]:
    return {
        name: (dtype, shape, bytes(index % 251 for index in range(size)))
        for name, (dtype, shape, size) in vector["tensors"].items()
    }


def _recipients(vector: dict[str, Any]) -> list[bytes | tuple[str, int]]:
    return [bytes.fromhex(to) if isinstance(to, str) else (to[0], to[1]) for to in vector["to"]]


def _expected(vector: dict[str, Any]) -> tuple[bytes, str]:
    return bytes.fromhex(vector["start"]), vector["sha256"]


@each
def test_the_second_program_writes_the_known_bytes(vector: dict[str, Any]) -> None:
    random = [bytes.fromhex(text) for text in vector["random"]]
    data = second.write(
        _tensors(vector),
        **vector["label"],
        chunk=vector["chunk"],
        to=_recipients(vector),
        chance=second.Chance(random[0], random[1], random[2:]),
        sign=bytes.fromhex(vector["sign"]) if vector["sign"] else None,
    )
    assert (data[: len(_expected(vector)[0])], hashlib.sha256(data).hexdigest()) == _expected(
        vector
    )


@each
def test_titer_writes_the_known_bytes(
    vector: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    random: Iterator[bytes] = iter(bytes.fromhex(text) for text in vector["random"])

    def drawn(size: int) -> bytes:
        found = next(random)
        assert len(found) == size
        return found

    monkeypatch.setattr(keys, "fresh", drawn)
    to: list[Recipient] = [
        PublicKey(one) if isinstance(one, bytes) else Passphrase.of(one[0])
        for one in _recipients(vector)
    ]
    sink = io.BytesIO()
    seal(
        sink,
        [made.part(name, d, tuple(s), raw) for name, (d, s, raw) in _tensors(vector).items()],
        Label(**vector["label"]),
        to,
        signer=SigningKey(SecretKey(bytes.fromhex(vector["sign"]))) if vector["sign"] else None,
        chunk=vector["chunk"],
        log_n=14,
    )
    data = sink.getvalue()
    assert (data[: len(_expected(vector)[0])], hashlib.sha256(data).hexdigest()) == _expected(
        vector
    )
    plain = {name: raw for name, (_, _, raw) in _tensors(vector).items()}
    for text in vector["opens_with"]:
        secret: Any = bytes.fromhex(text[4:]) if text.startswith("hex:") else text
        using = HolderKey(SecretKey(secret)) if isinstance(secret, bytes) else Passphrase.of(secret)
        assert made.unsealed(data, using) == plain
        assert second.read(data, secret)[1] == plain


def test_titer_reads_what_the_second_program_writes_with_keys_of_its_own() -> None:
    chance = second.Chance(b"d" * 32, b"s" * 32, [b"e" * 32, b"p" * 16])
    tensors = {name: (d, list(s), raw) for name, (d, s, raw) in made.TENSORS.items()}
    data = second.write(
        tensors,
        base=made.BASE,
        domain="alloy",
        kind="tensors",
        partition="while-learning",
        chunk=4096,
        to=[made.BOB.public.raw, ("Ångström passphrase", 14)],
        chance=chance,
        sign=made.PUBLISHER.secret.reveal(),
    )
    plain = {name: raw for name, (_, _, raw) in tensors.items()}
    assert made.unsealed(data, made.BOB, made.PUBLISHER.public) == plain
    # The same letter, written as A and a ring above.
    assert made.unsealed(data, Passphrase.of("Ångström passphrase")) == plain


@pytest.mark.parametrize("signed", [False, True])
def test_the_second_program_reads_what_titer_writes(signed: bool) -> None:
    data = made.small(signed=signed)
    header, tensors = second.read(
        data,
        made.ALICE.secret.reveal(),
        trust=made.PUBLISHER.public.raw if signed else None,
    )
    assert tensors == {name: raw for name, (_, _, raw) in made.TENSORS.items()}
    assert header["domain"] == "alloy"


def test_text_forms_of_keys_follow_the_rfcs() -> None:
    """RFC 7748 section 6.1, Bob's pair, and RFC 8032 section 7.1, test 1."""
    holder = keys.credential(
        "titer-secret-x25519:5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb\n",
        "here",
    )
    assert isinstance(holder, HolderKey)
    assert str(holder.public) == (
        "x25519:de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"
    )
    signer = keys.signing_key(
        "titer-secret-ed25519:9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "here",
    )
    assert str(signer.public) == (
        "ed25519:d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    )
    assert signer.sign(b"").hex().startswith("e5564300c360ac729086e2cc806e828a84877f1eb8e5d974")
