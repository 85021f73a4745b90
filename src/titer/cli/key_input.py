"""Where keys and passphrases come from: a file, the environment or a prompt, never an argument."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from titer.cli.output import say
from titer.core.errors import BadInput

if TYPE_CHECKING:
    from titer.lock.keys import Credential, Passphrase, PublicKey, SigningKey, VerifyKey

__all__ = ["credential", "no_secret", "passphrases", "public", "signer", "trusted"]


def no_secret(text: str) -> None:
    """Raise :class:`BadInput` if a secret key stands where a name or path belongs."""
    if "titer-secret-" in text:
        # The text itself is not repeated: error output ends up in logs.
        raise BadInput(
            "a secret key stands on the command line, where the shell remembers it and others can "
            "read it; make a new one, and name a file (--key-file) or a variable (--key-env)."
        )


def _read(path: str) -> str:
    from titer.lock.keys import read_secret

    no_secret(path)
    found = read_secret(Path(path))
    if os.name == "posix" and Path(path).is_file() and Path(path).stat().st_mode & 0o077:
        say(f"titer: others can read {path}; run chmod 600 on it.", err=True)
    return found


def _variable(name: str) -> str:
    no_secret(name)
    found = os.environ.get(name)
    if found is None:
        raise BadInput("the named environment variable is not set; export it first.")
    return found


def _asked(question: str) -> str:
    import getpass

    if not sys.stdin.isatty():
        raise BadInput(
            f"there is no terminal to ask for the {question} on; give a file or variable."
        )
    return getpass.getpass(f"{question}: ")


def _one(*given: object, names: str) -> None:
    if sum(bool(value) for value in given) > 1:
        raise BadInput(f"give one of {names}.")


def credential(file: str | None, variable: str | None) -> Credential:
    """What opens a container: a holder's secret key, or a passphrase."""
    from titer.lock import keys

    _one(file, variable, names="--key-file and --key-env")
    if file:
        return keys.credential(_read(file), file)
    if variable:
        return keys.credential(_variable(variable), f"the environment variable {variable}")
    return keys.credential(_asked("key or passphrase"), "what was typed")


def signer(file: str | None, variable: str | None) -> SigningKey | None:
    """The publisher's secret key, where one is named."""
    from titer.lock.keys import signing_key

    _one(file, variable, names="--sign-key-file and --sign-key-env")
    if file:
        return signing_key(_read(file), file)
    if variable:
        return signing_key(_variable(variable), f"the environment variable {variable}")
    return None


def passphrases(ask: bool, file: str | None, variable: str | None) -> list[Passphrase]:
    """New passphrases to seal for."""
    from titer.lock.keys import Passphrase

    found: list[Passphrase] = []
    if file:
        found.append(Passphrase.of(_read(file), new=True))
    if variable:
        found.append(Passphrase.of(_variable(variable), new=True))
    if ask:
        typed = _asked("new passphrase")
        if typed != _asked("the same again"):
            raise BadInput("the two passphrases differ; try again.")
        found.append(Passphrase.of(typed, new=True))
    return found


def public(given: list[str] | None) -> list[PublicKey]:
    """The holders' public keys to seal for."""
    from titer.lock.keys import PublicKey

    return [PublicKey.parse(text) for text in given or []]


def trusted(text: str | None) -> VerifyKey | None:
    """The one publisher whose signature will do."""
    from titer.lock.keys import VerifyKey

    return VerifyKey.parse(text) if text else None
