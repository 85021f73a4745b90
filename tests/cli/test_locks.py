"""Locks on the command line: a life of a release, where secrets come from, and exit codes."""

from __future__ import annotations

import getpass
import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.lock.conftest import adapter, base, full
from titer.cli.app import main

__all__ = ["adapter", "base", "full"]

Run = Callable[..., tuple[int, str, str]]
PHRASE = "correct horse battery staple"


@pytest.fixture
def titer(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Run:
    """Run the command line in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["titer", *map(str, words)])
        capsys.readouterr()
        try:
            main()
            code: Any = 0
        except SystemExit as stop:
            code = stop.code
        out, err = capsys.readouterr()
        return int(code or 0), out, err

    return run


def _typed(monkeypatch: pytest.MonkeyPatch, *answers: str) -> None:
    """A terminal at which somebody types."""
    waiting = list(answers)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(getpass, "getpass", lambda question: waiting.pop(0))


def _done(result: tuple[int, str, str]) -> str:
    code, out, err = result
    assert code == 0, err
    return out


def _refused(result: tuple[int, str, str], *said: str) -> None:
    code, out, err = result
    assert code == 2, err
    assert "Traceback" not in err + out
    for text in said:
        assert text in err, err


@pytest.fixture
def keys(titer: Run) -> None:
    """alice.key, bob.key and sign.key in the working folder."""
    for name in ("alice", "bob"):
        _done(titer("keygen", f"{name}.key"))
    _done(titer("keygen", "sign.key", "--signing"))


def _lock(titer: Run, base: Path, delta: Path, *more: object) -> str:
    return _done(
        titer("lock", base, "--delta", delta, "--out", "r", "--to", "alice.key.pub", "-q", *more)
    )


def test_the_life_of_a_release(
    titer: Run, keys: None, base: Path, adapter: Path, tmp_path: Path
) -> None:
    signed = ("--sign-key-file", "sign.key")
    said = _lock(titer, base, adapter, *signed)
    assert "post-hoc" in said
    assert "weaker" in said
    facts = json.loads(_done(titer("inspect", "r", "--check", "--trust", "sign.key.pub", "--json")))
    assert facts[0]["kind"] == "adapter"
    trusted = ("--trust", "sign.key.pub", "-q")
    _done(titer("unlock", "r", "--key-file", "alice.key", "--out", "a", *trusted))
    name = "adapter_config.json"
    assert (tmp_path / "a" / name).read_bytes() == (adapter / name).read_bytes()
    _done(titer("unlock", "r", "--key-file", "alice.key", "--out", "m", "--as", "merged", *trusted))
    assert (tmp_path / "m" / "model.safetensors").exists()
    alice = facts[0]["holders"][0]["id"]
    rotated = titer(
        "rotate", "r", "--key-file", "alice.key", "--to", "bob.key.pub", "--drop", alice, *signed
    )
    assert alice not in _done(rotated)
    _refused(titer("unlock", "r", "--key-file", "alice.key", "--out", "x"), "opens none")
    _done(titer("unlock", "r", "--key-file", "bob.key", "--out", "b", *trusted))
    assert not (tmp_path / "x").exists()
    text = _done(titer("inspect", "r"))
    assert "holder" in text
    assert "lora_A" in text


def test_keys_are_made_private_and_kept(titer: Run, tmp_path: Path) -> None:
    facts = json.loads(_done(titer("keygen", "k", "--json")))
    assert stat.S_IMODE((tmp_path / "k").stat().st_mode) == 0o600
    assert (tmp_path / "k.pub").read_text().strip() == facts["public"]
    secret = (tmp_path / "k").read_text().strip()
    assert secret not in json.dumps(facts)
    _refused(titer("keygen", "k"), "k exists")
    assert (tmp_path / "k").read_text().strip() == secret


def test_secrets_come_from_the_environment(
    titer: Run,
    keys: None,
    base: Path,
    full: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PHRASE", PHRASE + "\n")
    monkeypatch.setenv("ALICE", (tmp_path / "alice.key").read_text())
    monkeypatch.setenv("SIGN", (tmp_path / "sign.key").read_text())
    _lock(titer, base, full, "--passphrase-env", "PHRASE", "--sign-key-env", "SIGN")
    for name in ("PHRASE", "ALICE"):
        _done(titer("unlock", "r", "--key-env", name, "--out", name, "-q"))
        weights = "model.safetensors"
        assert (tmp_path / name / weights).read_bytes() == (full / weights).read_bytes()
    _refused(titer("unlock", "r", "--key-env", "ABSENT", "--out", "x"), "not set")


def test_secrets_come_from_a_prompt(
    titer: Run,
    keys: None,
    base: Path,
    full: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _typed(monkeypatch, PHRASE, PHRASE + "!")
    asked = ("lock", base, "--delta", full, "--out", "r", "--passphrase", "-q")
    _refused(titer(*asked), "the two passphrases differ")
    _typed(monkeypatch, "short", "short")
    _refused(titer(*asked), "5 characters")
    _typed(monkeypatch, PHRASE, PHRASE)
    _done(titer(*asked))
    _typed(monkeypatch, PHRASE)
    _done(titer("unlock", "r", "--out", "a", "-q"))
    _typed(monkeypatch, "wrong " + PHRASE)
    _refused(titer("unlock", "r", "--out", "b", "-q"), "opens none")
    assert not (tmp_path / "b").exists()


def test_without_a_terminal_nothing_waits(titer: Run, keys: None, base: Path, full: Path) -> None:
    _lock(titer, base, full)
    _refused(titer("unlock", "r", "--out", "x"), "no terminal")


def test_a_secret_on_the_command_line_is_refused_and_not_repeated(
    titer: Run, keys: None, base: Path, full: Path, tmp_path: Path
) -> None:
    _lock(titer, base, full)
    secret = (tmp_path / "alice.key").read_text().strip()
    for words in (
        ["unlock", "r", "--out", "x", "--key-file", secret],
        ["unlock", "r", "--out", "x", "--key-env", secret],
        ["unlock", "r", "--out", "x", "--key-file", "alice.key", "--trust", secret],
        ["lock", base, "--delta", full, "--out", "x", "--to", secret],
        ["lock", base, "--delta", full, "--out", "x", "--passphrase-file", secret],
        ["rotate", "r", "--key-file", "alice.key", "--sign-key-file", secret],
        ["keygen", secret],
    ):
        result = titer(*words)
        _refused(result, "secret key")
        assert secret[-60:] not in result[1] + result[2]
    _refused(titer("unlock", "r", "--out", "x", "--key", secret), "No such option")


def test_a_key_that_others_can_read_is_mentioned(
    titer: Run, keys: None, base: Path, full: Path, tmp_path: Path
) -> None:
    _lock(titer, base, full)
    (tmp_path / "alice.key").chmod(0o644)
    code, _, err = titer("unlock", "r", "--out", "x", "--key-file", "alice.key", "-q")
    assert code == 0
    assert "chmod 600" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["inspect", "absent"], "holds nothing sealed"),
        (["unlock", "absent", "--out", "x", "--key-file", "alice.key"], "holds nothing sealed"),
        (["rotate", "absent", "--key-file", "alice.key"], "holds nothing sealed"),
        (["lock", "absent", "--delta", "absent", "--out", "x", "--to", "alice.key.pub"], "folder"),
        (["lock", ".", "--delta", ".", "--out", "x", "--to", "alice.key"], "secret key"),
        (["lock", ".", "--delta", ".", "--out", "x", "--to", "alice"], "public key"),
        (["lock", "fabula:none", "--delta", "a", "--out", "x", "--to", "alice.key.pub"], "fabula"),
        (["lock", ".", "--delta", ".", "--out", "x", "--partition", "never"], "never"),
    ],
)
def test_bad_input_ends_with_2(titer: Run, keys: None, words: list[str], said: str) -> None:
    _refused(titer(*words), said)


def test_bad_options_end_with_2(titer: Run, keys: None, base: Path, full: Path) -> None:
    _refused(titer("lock", base, "--delta", full, "--out", "x"), "nobody could open")
    _lock(titer, base, full)
    both = ("--key-file", "alice.key", "--key-env", "A")
    _refused(titer("unlock", "r", "--out", "x", *both), "give one of")
    key = ("--key-file", "alice.key")
    _refused(titer("unlock", "r", "--out", "x", *key, "--as", "adapter"), "merged")
    _refused(titer("unlock", "r", "--out", "r", *key), "exists")
    _refused(titer("unlock", "r", "--out", "x", *key, "--domain", "b"), "no sealed domain")
    _refused(titer("inspect", "r", "--trust", "sign.key.pub"), "not signed")


def test_looking_into_a_release_imports_no_torch(
    titer: Run, keys: None, base: Path, full: Path, tmp_path: Path
) -> None:
    """Sealing and unsealing checkpoints needs none either."""
    code = (
        "import sys\n"
        "from titer.cli import main\n"
        "for words in (\n"
        f"    ['lock', {str(base)!r}, '--delta', {str(full)!r}, '--out', 'r', '-q',\n"
        "     '--to', 'alice.key.pub'],\n"
        "    ['inspect', 'r', '--check'],\n"
        "    ['rotate', 'r', '--key-file', 'alice.key'],\n"
        "    ['unlock', 'r', '--key-file', 'alice.key', '--out', 'x', '-q'],\n"
        "):\n"
        "    sys.argv = ['titer', *words]\n"
        "    try:\n        main()\n    except SystemExit as stop:\n        assert not stop.code\n"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "x" / "model.safetensors").exists()
