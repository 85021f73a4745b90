"""Key attacks: they find what was planted, and nothing in what is made as it should be."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
import torch

from tests.lock import made
from titer.attacks.guess_keys import COMMON, GuessKeys
from titer.conformance import tiny_data
from titer.core.errors import BadInput
from titer.core.lm import LM
from titer.core.method import Run
from titer.core.records import Budget
from titer.lock import audit
from titer.lock.audit import forgeries, guess, repeated_blocks, shared_streams
from titer.lock.keys import Passphrase
from titer.lock.release import lock, unlock
from titer.lock.schedule import PREFIX

WORD = COMMON[4]


def _put(folder: Path, name: str, data: bytes) -> Path:
    path = folder / f"{name}.titer"
    path.write_bytes(data)
    return path


def _start(data: bytes) -> int:
    return PREFIX.size + struct.unpack("<I", data[12:16])[0] + 32 + 64


def test_a_dictionary_pays_for_every_guess(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _put(tmp_path, "a", made.container(to=[Passphrase.of(WORD), made.ALICE.public]))
    found = guess(path, COMMON, 100)
    assert (found.tried, found.opened) == (5, Passphrase.of(WORD))
    paid: list[int] = []
    real = audit.unwrap
    monkeypatch.setattr(audit, "unwrap", lambda *a: (paid.append(1), real(*a))[1])
    assert guess(path, COMMON, 4) == audit.Guessed(4, None)
    assert len(paid) == 4
    assert WORD not in repr(found)


def test_public_keys_leave_nothing_to_guess(tmp_path: Path) -> None:
    assert guess(_put(tmp_path, "a", made.small()), COMMON, 100) == audit.Guessed(0, None)


def test_two_phrases_cost_twice(tmp_path: Path) -> None:
    phrases = [Passphrase.of("something quite else"), made.PHRASE]
    path = _put(tmp_path, "a", made.container(to=phrases))
    assert guess(path, ["wrong wrong wrong"], 100).tried == 2


def test_sealed_bytes_do_not_repeat_and_plain_ones_would(tmp_path: Path) -> None:
    data = made.container()
    assert repeated_blocks(_put(tmp_path, "a", data)) == 0
    start = _start(data)
    plain = data[:start] + b"sixteen bytes..." * ((len(data) - start) // 16)
    plain += bytes(len(data) - len(plain))
    assert repeated_blocks(_put(tmp_path, "b", plain)) > 100


def test_one_key_stream_for_two_messages_is_found(tmp_path: Path) -> None:
    data = made.container()
    one, two = _put(tmp_path, "a", data), _put(tmp_path, "b", made.container())
    copy = _put(tmp_path, "c", data)
    assert shared_streams([one, two, copy]) == []
    start = _start(data)
    other = _put(tmp_path, "d", data[:start] + bytes([data[start] ^ 1]) + data[start + 1 :])
    assert shared_streams([one, other]) == [(one, other, "block.0.weight")]


@pytest.mark.parametrize("signed", [False, True])
def test_no_exchange_of_sealed_tensors_is_accepted(tmp_path: Path, signed: bool) -> None:
    alike = {
        "a": ("F32", (4, 5), bytes(80)),
        "b": ("F32", (4, 5), bytes(range(80))),
        "c": ("F32", (5, 4), bytes(80)),
    }
    signer = made.PUBLISHER if signed else None
    one, two = (
        _put(tmp_path, name, made.container(alike, signer=signer)) for name in ("one", "two")
    )
    assert forgeries(one, two, made.ALICE) == []
    with pytest.raises(BadInput, match="opens none"):
        forgeries(one, two, made.MALLORY)


def test_an_exchange_that_a_reader_would_miss_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The audit can fail: with one key and no binding for all, every exchange passes."""
    from titer.lock import seal as sealing
    from titer.lock import unseal

    for module in (sealing, unseal):
        real = module.tensor_cipher
        monkeypatch.setattr(
            module,
            "tensor_cipher",
            lambda key, salt, domain, _n, real=real: real(key, salt, domain, "x"),
        )
        monkeypatch.setattr(module, "bound", lambda *_: b"")
    alike = {"a": ("F32", (4, 5), bytes(80)), "b": ("F32", (4, 5), bytes(range(80)))}
    one = _put(tmp_path, "one", made.container(alike))
    assert forgeries(one, one, made.ALICE) == ["a from b of one.titer", "b from a of one.titer"]


def test_a_guessed_passphrase_brings_the_sealed_part_into_the_attack(
    base: Path, full: Path, tmp_path: Path
) -> None:
    weak, strong = tmp_path / "weak", tmp_path / "strong"
    lock(base, full, weak, to=[Passphrase.of(WORD)], log_n=made.CHEAP)
    lock(base, full, strong, to=[made.ALICE.public], log_n=made.CHEAP)
    unlock(weak, Passphrase.of(WORD), tmp_path / "opened")
    opened, attack = LM.load(tmp_path / "opened"), GuessKeys(lr=1e-9)
    for folder, want, flags in (
        (weak, opened, ["passphrase-guessed: main"]),
        (strong, LM.load(base), []),
        (base, LM.load(base), []),
    ):
        run = Run(budget=Budget(steps=1), data=tiny_data())
        found = attack(LM.load(folder), run)
        assert run.flags == flags
        for ours, theirs in zip(found.model.parameters(), want.model.parameters(), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)
