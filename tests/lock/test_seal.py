"""Sealing and unsealing: what goes in comes out, to whom it may, once, and in little memory."""

from __future__ import annotations

import io
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from tests.lock import made
from titer.core.errors import BadInput
from titer.lock import keys, schedule, wrap
from titer.lock.header import TensorSpec
from titer.lock.keys import HolderKey, Passphrase, PublicKey
from titer.lock.seal import Part, reseal, rewrap, seal
from titer.lock.unseal import Unsealed, check_body, inspect, open_sealed

PLAIN = {name: data for name, (_, _, data) in made.TENSORS.items()}
WIDTHS = {"U8": 1, "BF16": 2, "F32": 4, "F64": 8}


def _opened(data: bytes, using: keys.Credential = made.ALICE) -> Unsealed:
    return open_sealed(io.BytesIO(data), using, "it")


def _all(source: Unsealed) -> dict[str, bytes]:
    return {spec.name: b"".join(source.blocks(spec.name)) for spec in source.header.tensors}


# -- round trips ---------------------------------------------------------------------------------


@some.composite
def _tensors(draw: Callable[..., Any]) -> made.Tensors:
    names = draw(
        some.sets(some.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,20}", fullmatch=True), min_size=1)
    )
    found: made.Tensors = {}
    for name in names:
        dtype = draw(some.sampled_from(sorted(WIDTHS)))
        shape = tuple(draw(some.lists(some.integers(0, 24), max_size=3)))
        size = WIDTHS[dtype]
        for side in shape:
            size *= side
        seed = draw(some.binary(min_size=1, max_size=8))
        found[name] = (dtype, shape, (seed * (size // len(seed) + 1))[:size])
    return found


@settings(max_examples=60, deadline=None)
@given(_tensors(), some.sampled_from([4096, 8192, 65536]), some.booleans())
def test_what_is_sealed_comes_back_bit_for_bit(
    tensors: made.Tensors, chunk: int, signed: bool
) -> None:
    signer = made.PUBLISHER if signed else None
    data = made.container(tensors, chunk=chunk, signer=signer)
    assert made.unsealed(data) == {name: raw for name, (_, _, raw) in tensors.items()}


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, 8192, 8193])
def test_sizes_around_a_chunk(size: int) -> None:
    raw = bytes(index % 251 for index in range(size))
    data = made.container({"t": ("U8", (size,), raw)})
    assert made.unsealed(data) == {"t": raw}
    chunks = max(1, -(-size // 4096))
    assert inspect(io.BytesIO(data), "it").header.body_size == size + 16 * chunks


def test_two_sealings_of_the_same_share_no_bytes_of_body() -> None:
    one, two = made.container(), made.container()
    a, b = (inspect(io.BytesIO(data), "it") for data in (one, two))
    assert a.header.salt != b.header.salt
    bodies = [data[pre.start :] for data, pre in ((one, a), (two, b))]
    windows = {bodies[0][at : at + 16] for at in range(len(bodies[0]) - 15)}
    assert not any(bodies[1][at : at + 16] in windows for at in range(len(bodies[1]) - 15))


def test_the_body_looks_like_chance() -> None:
    """A body of zeros, sealed, has each byte value about equally often."""
    data = made.container({"t": ("U8", (2**18,), bytes(2**18))})
    body = data[inspect(io.BytesIO(data), "it").start :]
    counts = [body.count(bytes([value])) for value in range(256)]
    mean = len(body) / 256
    chi = sum((count - mean) ** 2 / mean for count in counts)
    assert 150 < chi < 400  # 255 degrees of freedom: mean 255, deviation 23


def test_a_part_that_is_not_what_it_says_is_refused() -> None:
    short = Part(TensorSpec(name="t", dtype="U8", shape=(5000,)), lambda size: [b"x" * 4096])
    long = Part(TensorSpec(name="t", dtype="U8", shape=(10,)), lambda size: [b"x" * 10, b"y"])
    for wrong in (short, long):
        with pytest.raises(BadInput, match="while it was being sealed"):
            seal(io.BytesIO(), [wrong], made.label(), [made.ALICE.public], chunk=4096)


@pytest.mark.parametrize(
    ("tensors", "to", "changed"),
    [
        ({}, [made.ALICE.public], {}),
        (made.TENSORS, [], {}),
        (made.TENSORS, [made.ALICE.public] * 2, {}),
        ({"a/b": ("U8", (1,), b"x")}, [made.ALICE.public], {}),
        ({"a": ("Q4", (1,), b"x")}, [made.ALICE.public], {}),
        (made.TENSORS, [made.ALICE.public], {"domain": "Ä"}),
        (made.TENSORS, [made.ALICE.public], {"domain": "../up"}),
        (made.TENSORS, [made.ALICE.public], {"base": "12"}),
        (made.TENSORS, [PublicKey(bytes(32))], {}),
    ],
)
def test_what_no_reader_would_take_is_not_written(tensors: Any, to: Any, changed: Any) -> None:
    with pytest.raises(BadInput):
        made.container(tensors, to, **changed)


# -- who may -------------------------------------------------------------------------------------


def test_each_holder_opens_it_alone_and_nobody_else() -> None:
    data = made.container(to=[made.ALICE.public, made.PHRASE, made.BOB.public])
    for using in (made.ALICE, made.BOB, made.PHRASE):
        assert made.unsealed(data, using) == PLAIN
    for wrong in (made.MALLORY, Passphrase.of("correct horse battery stable")):
        with pytest.raises(BadInput, match="opens none of the 3 entries"):
            made.unsealed(data, wrong)


def test_domains_have_separate_keys() -> None:
    alloy = made.container(to=[made.ALICE.public])
    river = made.container(to=[made.BOB.public], domain="river")
    assert made.unsealed(river, made.BOB) == PLAIN
    with pytest.raises(BadInput):
        made.unsealed(river, made.ALICE)
    assert _opened(alloy).data_key != _opened(river, made.BOB).data_key


def test_a_new_key_for_other_holders() -> None:
    old = _opened(made.container(to=[made.ALICE.public, made.BOB.public]))
    sink = io.BytesIO()
    reseal(sink, old, [made.BOB.public, made.MALLORY.public], log_n=made.CHEAP)
    new = sink.getvalue()
    assert made.unsealed(new, made.BOB) == made.unsealed(new, made.MALLORY) == PLAIN
    with pytest.raises(BadInput, match="opens none"):
        made.unsealed(new, made.ALICE)
    assert _opened(new, made.BOB).data_key != old.data_key
    assert _opened(new, made.BOB).header.salt != old.header.salt


def test_rewrapping_changes_the_holders_and_not_a_byte_of_body() -> None:
    data = made.container(to=[made.ALICE.public, made.BOB.public])
    source = _opened(data)
    sink = io.BytesIO()
    dropped = keys.short_id(made.BOB.public.raw)
    rewrap(sink, source, add=[made.PHRASE], drop=[dropped], log_n=made.CHEAP)
    new = sink.getvalue()
    assert made.unsealed(new) == made.unsealed(new, made.PHRASE) == PLAIN
    with pytest.raises(BadInput, match="opens none"):
        made.unsealed(new, made.BOB)
    size = source.header.body_size
    assert new[-size:] == data[-size:]


def test_rewrapping_can_sign_but_not_what_was_changed() -> None:
    data = bytearray(made.container())
    sink = io.BytesIO()
    rewrap(sink, _opened(bytes(data)), signer=made.PUBLISHER)
    assert made.unsealed(sink.getvalue(), trust=made.PUBLISHER.public) == PLAIN
    data[-1] ^= 1
    with pytest.raises(BadInput, match="was changed after it was sealed"):
        rewrap(io.BytesIO(), _opened(bytes(data)), signer=made.PUBLISHER)


# -- who made it ---------------------------------------------------------------------------------


def test_trust_takes_one_signer_and_no_other() -> None:
    other = keys.SigningKey.make()
    signed = made.small(signed=True)
    assert made.unsealed(signed, trust=made.PUBLISHER.public) == PLAIN
    with pytest.raises(BadInput, match="is trusted; do not use it"):
        made.unsealed(signed, trust=other.public)
    with pytest.raises(BadInput, match="not signed"):
        made.unsealed(made.small(), trust=made.PUBLISHER.public)


def test_a_holder_cannot_change_what_the_publisher_signed() -> None:
    """A holder knows the data key, and so can write chunks that decrypt; the digest stops it."""
    data = bytearray(made.small(signed=True))
    source = _opened(bytes(data))
    header = source.header
    spec, at = next((s, at) for s, at in source.preamble.places() if s.name == "scalar")
    cipher = schedule.tensor_cipher(source.data_key, header.salt, header.domain, spec.name)
    what = schedule.bound(header.base, header.domain, header.kind, spec)
    forged = cipher.encrypt(schedule.nonce(0), b"y", what + schedule.place(0, last=True))
    data[at : at + len(forged)] = forged
    with pytest.raises(BadInput, match="another digest"):
        made.unsealed(bytes(data))
    stream = io.BytesIO(bytes(data))
    preamble = inspect(stream, "it")
    with pytest.raises(BadInput, match="another digest"):
        check_body(stream, preamble)


# -- nonces --------------------------------------------------------------------------------------


class _Recorder:
    """AES-GCM that writes down under which key each nonce is used to encrypt."""

    used: list[tuple[bytes, bytes]]
    real: Any

    def __init__(self, key: bytes) -> None:
        self.key, self.cipher = key, _Recorder.real(key)

    def encrypt(self, nonce: bytes, data: Any, bound: bytes) -> bytes:
        _Recorder.used.append((self.key, nonce))
        return self.cipher.encrypt(nonce, data, bound)

    def decrypt(self, nonce: bytes, data: Any, bound: bytes) -> bytes:
        return self.cipher.decrypt(nonce, data, bound)


@pytest.fixture
def nonces(monkeypatch: pytest.MonkeyPatch) -> list[tuple[bytes, bytes]]:
    """Every pair of key and nonce that anything was encrypted under."""
    _Recorder.real, _Recorder.used = schedule.AESGCM, []
    monkeypatch.setattr(schedule, "AESGCM", _Recorder)
    monkeypatch.setattr(wrap, "AESGCM", _Recorder)
    return _Recorder.used


def _a_life() -> None:
    """Seal, seal again, rotate and re-wrap, for one and for several, signed and not."""
    to = [made.ALICE.public, made.BOB.public, made.PHRASE]
    for signer in (None, made.PUBLISHER):
        for domain in ("alloy", "alloy", "river"):
            source = _opened(made.container(to=to, signer=signer, domain=domain))
            for _ in range(2):
                sink = io.BytesIO()
                reseal(sink, source, to, signer=signer, log_n=made.CHEAP)
                again = _opened(sink.getvalue())
                rewrap(io.BytesIO(), again, add=[made.MALLORY.public], signer=signer)
                source = again


def test_no_key_meets_a_nonce_twice(nonces: list[tuple[bytes, bytes]]) -> None:
    _a_life()
    assert len(nonces) > 100
    assert len(set(nonces)) == len(nonces)
    # Several chunks do share a key, so the nonces are not idle.
    assert len({key for key, _ in nonces}) < len(nonces)


def test_the_audit_would_see_a_reused_salt(
    nonces: list[tuple[bytes, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "fresh", lambda size: b"!" * size)
    made.container()
    made.container()
    assert len(set(nonces)) < len(nonces)


# -- memory --------------------------------------------------------------------------------------


def test_sealing_and_unsealing_hold_a_chunk_and_not_the_tensor(tmp_path: Path) -> None:
    size = 48 * 2**20

    def blocks(chunk: int) -> Iterator[bytes]:
        for start in range(0, size, chunk):
            yield bytes(min(chunk, size - start))

    tracemalloc.start()
    try:
        with (tmp_path / "big").open("w+b") as file:
            big = Part(TensorSpec(name="t", dtype="BF16", shape=(size // 2,)), blocks)
            seal(file, [big], made.label(), [made.ALICE.public], signer=made.PUBLISHER)
            source = open_sealed(file, made.ALICE, "it", made.PUBLISHER.public)
            assert sum(map(len, source.blocks("t"))) == size
            with (tmp_path / "again").open("w+b") as other:
                reseal(other, source, [made.BOB.public], signer=made.PUBLISHER)
            with (tmp_path / "third").open("w+b") as other:
                rewrap(other, source, add=[made.BOB.public], signer=made.PUBLISHER)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * 2**20, f"{peak:,} bytes"


def test_a_new_pair_differs_from_the_last() -> None:
    assert HolderKey.make().public != HolderKey.make().public
