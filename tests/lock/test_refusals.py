"""Anything but a whole, unchanged container is refused in a sentence: never weights, no crash."""

from __future__ import annotations

import io
import json
import random
import tracemalloc
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as some

from tests.lock import made, second
from titer.core.errors import BadInput
from titer.lock.header import HEADER_LIMIT
from titer.lock.unseal import inspect

pytestmark = pytest.mark.exact

SHORT: made.Tensors = {"a": ("BF16", (9,), bytes(18)), "b": ("U8", (3,), b"abc")}
SECRET = made.ALICE.secret.reveal()
BOTH = pytest.mark.parametrize("signed", [False, True])


def _refused(data: bytes) -> str:
    """The one sentence with which a container is refused; both readers must."""
    with pytest.raises(BadInput) as caught:
        made.unsealed(data)
    with pytest.raises(second.Refused):
        second.read(data, SECRET)
    said = str(caught.value)
    assert len(caught.value.faults) == 1
    assert said.startswith(("it ", "this key opens none"))
    assert said.endswith((".", "do."))
    assert "\n" not in said
    assert len(said) < 400
    return said


def _start(data: bytes) -> int:
    return inspect(io.BytesIO(data), "it").start


# -- bytes ---------------------------------------------------------------------------------------


@BOTH
def test_every_single_byte_counts(signed: bool) -> None:
    """One bit of every byte of a short file, one after the other; and anywhere in a longer one."""
    draw = random.Random(0)
    short = made.container(SHORT, signer=made.PUBLISHER if signed else None)
    long = made.small(signed=signed)
    places = [(short, at) for at in range(len(short))]
    for good, at in [*places, *((long, draw.randrange(len(long))) for _ in range(300))]:
        bad = bytearray(good)
        bad[at] ^= 1 << draw.randrange(8)
        with pytest.raises(BadInput):
            made.unsealed(bytes(bad))


@BOTH
def test_every_truncation_is_refused(signed: bool) -> None:
    good = made.container(SHORT, signer=made.PUBLISHER if signed else None)
    for length in range(len(good)):
        with pytest.raises(BadInput):
            made.unsealed(good[:length])


@settings(max_examples=200, deadline=None)
@given(some.booleans(), some.data())
def test_splices_are_refused(signed: bool, data: Any) -> None:
    """Cut anywhere, and put in anything: other bytes, a repeated piece, pieces exchanged."""
    good = made.small(signed=signed)
    places = some.integers(0, len(good))
    a, b, c = sorted(data.draw(some.tuples(places, places, places)))
    bad = data.draw(
        some.sampled_from(
            [
                good[:a] + good[b:],
                good[:b] + good[a:],
                good[:a] + good[b:c] + good[a:b] + good[c:],
                good[:a] + bytes(b - a) + good[b:],
                good + good[a:b],
                good[a:b],
            ]
        )
        | some.binary(max_size=64).map(lambda extra: good[:a] + extra + good[b:])
    )
    if bad != good:
        _refused(bad)


@settings(max_examples=200, deadline=None)
@given(some.binary(max_size=300))
@example(b"")
@example(b"TITERSL\0")
@example(b"TITERSL\0\1\0\0\0\2\0\0\0{}" + bytes(96))
def test_bytes_from_nowhere_are_refused(data: bytes) -> None:
    _refused(data)


def test_chunks_neither_move_nor_travel() -> None:
    """Chunks of one tensor, of tensors alike, of two sealings of the same, all of equal length."""
    raw = bytes(range(256)) * 48
    tensors: made.Tensors = {name: ("U8", (12288,), raw) for name in ("a", "b")}
    one, two = made.container(tensors), made.container(tensors)
    start, sealed = _start(one), 4096 + 16
    assert _start(two) == start

    def exchanged(first: int, other: int) -> bytes:
        bad = bytearray(one)
        x, y = start + first * sealed, start + other * sealed
        bad[x : x + sealed], bad[y : y + sealed] = one[y : y + sealed], one[x : x + sealed]
        return bytes(bad)

    for first, other in ((0, 1), (1, 2), (0, 3), (2, 5)):
        assert "was changed after it was sealed (tensor" in _refused(exchanged(first, other))
    for index in range(6):
        at = start + index * sealed
        _refused(one[:at] + two[at : at + sealed] + one[at + sealed :])
    _refused(one[:start] + two[start:])
    _refused(two[:start] + one[start:])


def test_parts_of_the_preamble_do_not_travel_between_releases() -> None:
    """Header of one, MAC or signature of another; or a holder's entry moved into another."""
    tensors = made.TENSORS
    signed = [made.container(tensors, signer=made.PUBLISHER) for _ in range(2)]
    start = _start(signed[0])
    for cut in (start - 96, start - 64, start):
        _refused(signed[0][:cut] + signed[1][cut:])
    one, two = (second.split(made.container(tensors))[0] for _ in range(2))
    for field in ("holders", "salt", "check"):
        body = second.split(made.container(tensors))[3]
        _refused(second.finish({**one, field: two[field]}, body, b"k" * 32, None))


def test_a_signature_cannot_be_taken_off() -> None:
    """Without the data key the MAC cannot be made again, so holders see it even without trust."""
    header, _, _, body = second.split(made.small(signed=True))
    bare = {**header, "signer": None, "body": None}
    assert "header" in _refused(second.finish(bare, body, b"guess" * 7, None))


def test_a_stranger_cannot_add_a_holder_or_change_what_is_said() -> None:
    header, _, _, body = second.split(made.small())
    for field, value in {
        "partition": "while-learning",
        "base": "cd" * 32,
        "domain": "river",
        "kind": "adapter",
    }.items():
        _refused(second.finish({**header, field: value}, body, b"guess" * 7, None))


# -- headers -------------------------------------------------------------------------------------

JSON = some.recursive(
    some.none()
    | some.booleans()
    | some.integers(-(2**70), 2**70)
    | some.floats()
    | some.text(max_size=8)
    | some.sampled_from(["00" * 32, "ab" * 16, "F32", "x25519", "scrypt", "a", "tensors"]),
    lambda inner: (
        some.lists(inner, max_size=3)
        | some.dictionaries(some.sampled_from(["kind", "name", "shape", "x"]), inner, max_size=3)
    ),
    max_leaves=6,
)


def _paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    if isinstance(value, dict):
        for key in value:
            found += _paths(value[key], (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            found += _paths(inner, (*path, index))
    return found


@settings(max_examples=250, deadline=None)
@given(some.data())
def test_headers_with_a_right_mac_are_judged_alike_by_both_readers(data: Any) -> None:
    """A holder can write any header and vouch for it. Whatever is in it, two readers that were
    written apart agree on whether it may be used, and on what it holds."""
    good = made.small()
    header, _, _, body = second.split(good)
    key = second.data_key(header, SECRET)
    changed = json.loads(json.dumps(header))
    for _ in range(data.draw(some.integers(1, 2))):
        path = data.draw(some.sampled_from(_paths(changed)))
        place = changed
        for step in path[:-1]:
            place = place[step]
        if isinstance(place, dict) and data.draw(some.booleans()):
            del place[path[-1]]
        else:
            place[path[-1]] = data.draw(JSON)
        if not _paths(changed):
            return
    try:
        bad = second.finish(changed, body, key, None)
    except (KeyError, TypeError, ValueError):
        return  # no salt to make a MAC with
    try:
        theirs: Any = second.read(bad, SECRET)[1]
    except second.Refused:
        theirs = None
    try:
        ours: Any = made.unsealed(bad)
    except BadInput:
        ours = None
    assert ours == theirs


@pytest.mark.parametrize(
    "write",
    [
        lambda header: json.dumps(header).encode(),
        lambda header: second.dumps(header) + b"\n",
        lambda header: second.dumps(header).replace(b'"chunk":', b'"chunk":1,"chunk":', 1),
        lambda header: second.dumps(header).replace(b'"base"', b'"b\\u0061se"', 1),
        lambda header: second.dumps(header).replace(b":4096", b":4096.0", 1),
        lambda header: second.dumps(header).replace(b":4096", b":4.096e3", 1),
        lambda header: second.dumps(header).decode().encode("utf-16"),
        lambda header: b"[" * 100_000,
        lambda header: b'{"base":' + b"9" * 10_000 + b"}",
        lambda header: b"\xff" * 100,
        lambda header: b"",
        lambda header: b"null",
        lambda header: b"[" + second.dumps(header) + b"]",
    ],
)
def test_there_is_one_way_to_write_a_header(write: Any) -> None:
    good = made.small()
    header, _, _, body = second.split(good)
    raw = write(header)
    head = good[:12] + len(raw).to_bytes(4, "little") + raw
    assert "is no sealed container that titer reads" in _refused(head + bytes(96) + body)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda h: {**h, "chunk": 5000}, "power of two"),
        (lambda h: {**h, "chunk": 2**30}, "chunk"),
        (lambda h: {**h, "chunk": True}, "chunk"),
        (lambda h: {**h, "body": "00" * 32}, "signer"),
        (lambda h: {**h, "note": 1}, "other fields"),
        (lambda h: {**h, "holders": []}, "holders"),
        (lambda h: {**h, "holders": h["holders"] * 2}, "twice"),
        (lambda h: {**h, "tensors": []}, "tensors"),
        (lambda h: {**h, "tensors": h["tensors"][::-1]}, "order"),
        (lambda h: {**h, "tensors": [h["tensors"][0]] * 2}, "order"),
        (lambda h: {**h, "domain": "../../etc"}, "domain"),
        (lambda h: _tensor(h, name="../x"), "name"),
        (lambda h: _tensor(h, name="__metadata__"), "name"),
        (lambda h: _tensor(h, shape=[2**50, 2**50]), "too large"),
        (lambda h: _tensor(h, shape=[2**60]), "shape"),
        (lambda h: _tensor(h, shape=[-1]), "shape"),
        (lambda h: _tensor(h, shape=[1] * 9), "shape"),
        (lambda h: _tensor(h, shape=[2**49]), "its header describes"),
        (lambda h: _tensor(h, dtype="F4"), "dtype"),
        (lambda h: {**h, "holders": [_scrypt(number) for number in range(9)]}, "passphrase"),
        (lambda h: {**h, "holders": [{**_scrypt(0), "log_n": 30}]}, "log_n"),
        (lambda h: {**h, "holders": [{**_scrypt(0), "kind": "md5"}]}, "unknown kind"),
    ],
)
def test_limits_of_the_header(change: Any, said: str) -> None:
    """All vouched for with the right key: limits hold against holders too."""
    header, _, _, body = second.split(made.small())
    key = second.data_key(header, SECRET)
    assert said in _refused(second.finish(change(header), body, key, None))


def _tensor(header: dict[str, Any], **changed: Any) -> dict[str, Any]:
    return {**header, "tensors": [{**header["tensors"][0], **changed}]}


def _scrypt(number: int) -> dict[str, Any]:
    return {
        "kind": "scrypt",
        "log_n": 14,
        "salt": bytes([number] * 16).hex(),
        "wrapped": "00" * 48,
    }


def test_the_key_check_is_compared_by_itself() -> None:
    """It alone commits the file to one key: a MAC that fits does not make up for it."""
    header, _, _, body = second.split(made.small())
    key = second.data_key(header, SECRET)
    assert "(key check)" in _refused(second.finish({**header, "check": "00" * 32}, body, key, None))


def test_other_formats_are_named() -> None:
    good = made.small()
    assert "format 2" in _refused(good[:8] + b"\2\0\0\0" + good[12:])
    assert "does not start as one" in _refused(b"PK" + good[2:])


def test_hostile_sizes_cost_no_memory() -> None:
    good = made.small()
    header, _, _, _ = second.split(good)
    key = second.data_key(header, SECRET)
    hostile = [
        good[:12] + b"\xff\xff\xff\xff" + good[16:],
        good[:12] + (HEADER_LIMIT + 1).to_bytes(4, "little") + bytes(1000),
        good[:12] + HEADER_LIMIT.to_bytes(4, "little") + b"[" * 1000,
        second.finish(_tensor(header, shape=[2**49]), b"", key, None),
        second.finish(_tensor(header, shape=[2**25, 2**20]), b"", key, None),
    ]
    for data in hostile[:2]:
        assert "its header claims" in _refused(data)
    tracemalloc.start()
    try:
        for data in hostile:
            with pytest.raises(BadInput):
                made.unsealed(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2**21, f"{peak:,} bytes"


def test_the_longest_header_of_nonsense_costs_a_bounded_amount() -> None:
    raw = b"[" + b"[]," * (HEADER_LIMIT // 3 - 1) + b"0]"
    assert len(raw) <= HEADER_LIMIT
    data = made.small()[:12] + len(raw).to_bytes(4, "little") + raw + bytes(96)
    tracemalloc.start()
    try:
        with pytest.raises(BadInput):
            made.unsealed(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 64 * HEADER_LIMIT, f"{peak:,} bytes"
