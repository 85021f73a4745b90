"""Secrets show themselves nowhere: not in repr, logs, pickles, messages or files."""

from __future__ import annotations

import copy
import io
import logging
import os
import pickle
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.lock import made
from titer.core.errors import BadInput
from titer.lock import keys, schedule, wrap
from titer.lock.keys import HolderKey, Passphrase, PublicKey, SecretKey, SigningKey, VerifyKey

SECRET = bytes(range(100, 132))


def _shows(text: str, secret: bytes = SECRET) -> bool:
    return any(form in text for form in (secret.hex(), repr(secret)[2:-1], str(list(secret))))


@pytest.mark.parametrize(
    "holder",
    [
        SecretKey(SECRET),
        HolderKey(SecretKey(SECRET)),
        SigningKey(SecretKey(SECRET)),
        Passphrase.of(SECRET.decode("latin-1")),
        [SecretKey(SECRET)],
    ],
)
def test_a_secret_does_not_show_in_any_form_of_text(holder: Any) -> None:
    for text in (repr(holder), str(holder), f"{holder}", f"{holder!r}"):
        assert not _shows(text)
        assert "hidden" in text or "SecretKey" in text
    assert not hasattr(holder, "__dict__") or isinstance(holder, list)


def test_a_secret_is_neither_pickled_nor_copied_nor_hashed() -> None:
    secret = SecretKey(SECRET)
    for act in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError):
            act(secret)
    with pytest.raises(TypeError):
        hash(secret)
    assert secret == SecretKey(SECRET)
    assert secret != SecretKey(SECRET[::-1])
    assert secret != SECRET


def test_whatever_an_opened_container_prints_is_harmless() -> None:
    import titer.lock.unseal as module

    source = module.open_sealed(io.BytesIO(made.small()), made.ALICE, "it")
    assert not _shows(repr(source), source.data_key.reveal())
    assert not _shows(repr(source), made.ALICE.secret.reveal())


# -- text forms ----------------------------------------------------------------------------------


def test_text_forms_go_round(tmp_path: Path) -> None:
    holder, signer = HolderKey.make(), SigningKey.make()
    for key, name in ((holder, "h"), (signer, "s")):
        public = keys.write_pair(key, tmp_path / name)
        assert public == tmp_path / f"{name}.pub"
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    assert keys.credential(keys.read_secret(tmp_path / "h"), "h") == holder
    assert keys.signing_key(keys.read_secret(tmp_path / "s"), "s") == signer
    assert PublicKey.parse(str(holder.public)) == holder.public
    assert PublicKey.parse(str(tmp_path / "h.pub")) == holder.public
    assert VerifyKey.parse(str(tmp_path / "s.pub")) == signer.public
    assert keys.credential("a passphrase\n", "x") == Passphrase.of("a passphrase")


def test_a_key_file_is_never_overwritten(tmp_path: Path) -> None:
    keys.write_pair(HolderKey.make(), tmp_path / "k")
    before = (tmp_path / "k").read_bytes()
    for place in ("k", "k.pub"):
        other = tmp_path / "other"
        (other if place == "k" else tmp_path / "j.pub").write_text("mine")
    for name in ("k", "j"):
        with pytest.raises(BadInput, match="exists"):
            keys.write_pair(HolderKey.make(), tmp_path / name)
    assert (tmp_path / "k").read_bytes() == before
    assert (tmp_path / "j.pub").read_text() == "mine"
    assert not (tmp_path / "j").exists()


HOLDER, SIGNER = f"titer-secret-x25519:{SECRET.hex()}", f"titer-secret-ed25519:{SECRET.hex()}"


@pytest.mark.parametrize(
    ("act", "said"),
    [
        (lambda at: keys.credential(SIGNER, "f"), "an ed25519 key"),
        (lambda at: keys.credential(HOLDER + "00", "f"), "no key that titer keygen wrote"),
        (lambda at: keys.credential(HOLDER.upper().replace("TITER", "titer"), "f"), ""),
        (lambda at: keys.signing_key(HOLDER, "f"), "an x25519 key"),
        (lambda at: keys.signing_key(SECRET.hex(), "f"), "no key"),
        (lambda at: keys.credential("x25519:" + "00" * 32, "f"), "public key"),
        (lambda at: keys.credential("\n", "f"), "empty"),
        (lambda at: Passphrase.of("short", new=True), "5 characters"),
        (lambda at: Passphrase.of(HOLDER, new=True), "--to"),
        (lambda at: PublicKey.parse(HOLDER), "treat it as known"),
        (lambda at: PublicKey.parse(str(at / "secret")), "give its public half"),
        (lambda at: VerifyKey.parse(str(at / "secret")), "give its public half"),
        (lambda at: PublicKey.parse("ed25519:" + "00" * 32), "no x25519 public key"),
        (lambda at: VerifyKey.parse("x25519:" + "00" * 32), "no ed25519 public key"),
        (lambda at: PublicKey.parse("x" * 10_000), "no x25519 public key"),
        (lambda at: PublicKey.parse("\0"), "no x25519 public key"),
        (lambda at: keys.read_secret(at / "absent"), "cannot read the key file"),
        (lambda at: keys.read_secret(at), "cannot read the key file"),
        (lambda at: keys.read_secret(at / "large"), "larger than"),
        (lambda at: keys.read_secret(at / "binary"), "not text"),
        (lambda at: Passphrase.of(SECRET.hex() + "\ud800"), "not valid text"),
    ],
)
def test_wrong_keys_are_named_and_not_shown(
    act: Callable[[Path], Any], said: str, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text(HOLDER)
    (tmp_path / "large").write_bytes(b"x" * 5000)
    (tmp_path / "binary").write_bytes(SECRET + b"\xff")
    if said == "":
        act(tmp_path)  # capitals make it an ordinary passphrase
        return
    with pytest.raises(BadInput, match=said) as caught:
        act(tmp_path)
    error: BaseException | None = caught.value
    while error is not None:
        assert not _shows(str(error))
        assert not _shows(repr(error))
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


# -- nothing left behind -------------------------------------------------------------------------


def test_no_key_is_left_in_files_or_logs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Every key that a cipher was given, and every secret that was drawn, sought in every byte."""
    from titer.lock.seal import reseal, rewrap, seal
    from titer.lock.unseal import open_sealed

    seen: list[bytes] = []
    real = schedule.AESGCM

    def spied(key: bytes) -> Any:
        seen.append(key)
        return real(key)

    monkeypatch.setattr(schedule, "AESGCM", spied)
    monkeypatch.setattr(wrap, "AESGCM", spied)
    caplog.set_level(logging.DEBUG)
    to = [made.ALICE.public, made.PHRASE]
    parts = [made.part(name, *what) for name, what in made.TENSORS.items()]
    with (tmp_path / "one").open("w+b") as file:
        seal(file, parts, made.label(), to, signer=made.PUBLISHER, log_n=made.CHEAP)
        source = open_sealed(file, made.ALICE, "one")
        seen.append(source.data_key.reveal())
        for name, act in (
            ("two", lambda sink: reseal(sink, source, to, log_n=made.CHEAP)),
            ("three", lambda sink: rewrap(sink, source, add=[made.BOB.public])),
        ):
            with (tmp_path / name).open("w+b") as sink:
                act(sink)
                seen.append(open_sealed(sink, made.ALICE, name).data_key.reveal())
    seen += [made.ALICE.secret.reveal(), made.PUBLISHER.secret.reveal()]
    seen.append(made.PHRASE.secret.reveal())
    assert len(set(seen)) > 10
    texts = [path.read_bytes() for path in tmp_path.iterdir()] + [caplog.text.encode()]
    for text in texts:
        for key in seen:
            assert key not in text
            assert key.hex().encode() not in text


def test_chance_comes_from_the_operating_system(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    real = os.urandom
    monkeypatch.setattr(os, "urandom", lambda size: asked.append(size) or real(size))
    made.container(to=[made.ALICE.public, made.PHRASE])
    assert asked == [32, 32, 32, 16]  # data key, salt, ephemeral key, scrypt salt


def test_a_seed_decides_nothing_here() -> None:
    import random

    def drawn() -> bytes:
        random.seed(0)
        return made.container()

    assert drawn() != drawn()
