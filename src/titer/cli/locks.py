"""``titer keygen | lock | unlock | rotate | inspect``: parse, call, print.

Secrets come from a file, the environment or a prompt. There is no option that takes one: the shell
would remember it, and other users could read it in the list of processes.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from titer.cli import key_input
from titer.cli.guard import Reads, Writes
from titer.cli.options import AsJson, Quiet, loading
from titer.cli.output import say_or_print
from titer.core.errors import BadInput
from titer.core.files import require_regular

__all__ = ["register"]

Release = Annotated[Path, typer.Argument(help="A folder that titer lock wrote."), Reads()]
Out = Annotated[
    Path,
    typer.Option("--out", help="A new folder; nothing is overwritten."),
    Writes("new folder"),
]
KeyFile = Annotated[
    str | None, typer.Option("--key-file", help="A file with a secret key or a passphrase.")
]
KeyEnv = Annotated[
    str | None, typer.Option("--key-env", help="An environment variable with one of the two.")
]
To = Annotated[
    list[str] | None,
    typer.Option("--to", help="A holder's public key, or its .pub file; repeatable."),
]
Ask = Annotated[
    bool, typer.Option("--passphrase", help="Also seal for a passphrase, asked for twice.")
]
PassFile = Annotated[
    str | None, typer.Option("--passphrase-file", help="Also for a passphrase in this file.")
]
PassEnv = Annotated[
    str | None, typer.Option("--passphrase-env", help="Also for one in this variable.")
]
SignFile = Annotated[
    str | None, typer.Option("--sign-key-file", help="A file with your secret signing key.")
]
SignEnv = Annotated[
    str | None, typer.Option("--sign-key-env", help="An environment variable with it.")
]
Trust = Annotated[
    str | None,
    typer.Option("--trust", help="Accept only what this public signing key has signed."),
]
Domain = Annotated[
    str | None, typer.Option("--domain", help="Which sealed part, where there are several.")
]


class Partition(StrEnum):
    """What a publisher says of the keyless weights."""

    POST_HOC = "post-hoc"
    WHILE_LEARNING = "while-learning"


class Form(StrEnum):
    """What unlocking gives."""

    ADAPTER = "adapter"
    MERGED = "merged"


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    for name, command in {
        "keygen": keygen,
        "lock": lock,
        "unlock": loading(unlock),
        "rotate": rotate,
        "inspect": inspect,
    }.items():
        app.command(name)(command)


# -- commands ------------------------------------------------------------------------------------


def keygen(
    out: Annotated[
        Path,
        typer.Argument(help="Where the secret key goes; the public: OUT.pub."),
        Writes("file", beside=(".pub",)),
    ],
    signing: Annotated[
        bool, typer.Option("--signing", help="A pair to sign releases with, not to open them.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make a key pair: OUT (secret, readable by you alone) and OUT.pub (to give away)."""
    from titer.lock.keys import HolderKey, SigningKey, short_id, write_pair

    key_input.no_secret(str(out))
    key = SigningKey.make() if signing else HolderKey.make()
    public = write_pair(key, out)
    found = {
        "secret": str(out),
        "public_file": str(public),
        "public": str(key.public),
        "id": short_id(key.public.raw),
    }
    use = "sign with --sign-key-file" if signing else "open with --key-file"
    say_or_print(
        as_json,
        found,
        f"{key.public}\nid {found['id']}; secret key in {out} ({use}), public key in {public}",
    )


def lock(
    model: Annotated[str, typer.Argument(help="The keyless model: a folder, or fabula:NAME.")],
    delta: Annotated[
        str,
        typer.Option("--delta", help="What to seal: a LoRA adapter folder, or a full checkpoint."),
    ],
    out: Out,
    to: To = None,
    passphrase: Ask = False,
    passphrase_file: PassFile = None,
    passphrase_env: PassEnv = None,
    domain: Annotated[str, typer.Option("--domain", help="What the sealed part is about.")] = (
        "main"
    ),
    replace: Annotated[
        bool,
        typer.Option("--replace", help="In the place of what MODEL has sealed under this domain."),
    ] = False,
    sign_key_file: SignFile = None,
    sign_key_env: SignEnv = None,
    partition: Annotated[
        Partition,
        typer.Option(
            "--partition",
            help="Your word on MODEL: while-learning if it never learned what is sealed, "
            "post-hoc (weaker) if that was taken out of it later.",
        ),
    ] = Partition.POST_HOC,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Write a keyless release: MODEL as it is, and what is sealed, encrypted beside it.

    The folder loads in stock transformers. A full checkpoint given as --delta is compared with
    MODEL, and the tensors that differ are sealed. To seal a second part with keys of its own, lock
    the release again under another --domain; to seal anew what you have unlocked and trained, lock
    the release with --replace.
    """
    from titer.cli.progress import shown
    from titer.lock import release

    base, sealed, holders = _folder(model), _folder(delta), key_input.public(to)
    phrases = key_input.passphrases(passphrase, passphrase_file, passphrase_env)
    with shown(quiet=quiet) as tell:
        facts = release.lock(
            base,
            sealed,
            out,
            to=[*holders, *phrases],
            domain=domain,
            replace=replace,
            signer=key_input.signer(sign_key_file, sign_key_env),
            partition=partition.value,
            tell=tell,
        )
    lines = [_described(facts)]
    if facts["left_behind"]:
        lines.append(f"left behind in {model}: {', '.join(facts['left_behind'])}")
    lines.append(f"release: {out}")
    say_or_print(as_json, facts, "\n".join(lines))


def unlock(
    release: Release,
    out: Out,
    key_file: KeyFile = None,
    key_env: KeyEnv = None,
    form: Annotated[
        Form | None,
        typer.Option("--as", help="The adapter as it was sealed, or a model with it merged in."),
    ] = None,
    domain: Domain = None,
    trust: Trust = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Open a release with a key and write what was sealed, in the clear.

    Without --key-file and --key-env the key or passphrase is asked for. Everything is checked
    before the folder appears: a wrong key or a changed byte leaves nothing.
    """
    from titer.cli.progress import shown
    from titer.lock import release as releases
    from titer.lock.containers import container

    container(release, domain)
    trusted, using = key_input.trusted(trust), key_input.credential(key_file, key_env)
    with shown(quiet=quiet) as tell:
        facts = releases.unlock(
            release,
            using,
            out,
            form=form.value if form else None,
            domain=domain,
            trust=trusted,
            tell=tell,
        )
    what = "adapter" if facts["form"] == "adapter" else "model"
    say_or_print(as_json, facts, f"the {what} of domain {facts['domain']} is in {out}, unencrypted")


def rotate(
    release: Release,
    key_file: KeyFile = None,
    key_env: KeyEnv = None,
    to: To = None,
    passphrase: Ask = False,
    passphrase_file: PassFile = None,
    passphrase_env: PassEnv = None,
    drop: Annotated[
        list[str] | None,
        typer.Option("--drop", help="A holder's id, as titer inspect shows it; repeatable."),
    ] = None,
    rewrap: Annotated[
        bool,
        typer.Option("--rewrap", help="Change the holders only, and keep the key and the bytes."),
    ] = False,
    sign_key_file: SignFile = None,
    sign_key_env: SignEnv = None,
    unsigned: Annotated[
        bool, typer.Option("--unsigned", help="Agree to lose the signature of a signed release.")
    ] = False,
    domain: Domain = None,
    trust: Trust = None,
    as_json: AsJson = False,
) -> None:
    """Seal anew with a fresh key, for the same holders or others. In place, whole or not at all.

    Nothing takes back what a holder could open before: copies of the old file still open for them,
    and after --rewrap so does the new one, if they kept its data key.
    """
    from titer.lock import rotate as rotation
    from titer.lock.containers import container

    container(release, domain)
    trusted, recipients = key_input.trusted(trust), key_input.public(to)
    using = key_input.credential(key_file, key_env)
    change = rotation.Change(
        add=[*recipients, *key_input.passphrases(passphrase, passphrase_file, passphrase_env)],
        drop=drop or [],
        rewrap=rewrap,
        signer=key_input.signer(sign_key_file, sign_key_env),
        unsigned=unsigned,
    )
    facts = rotation.rotate(release, using, change, domain=domain, trust=trusted)
    say_or_print(as_json, facts, _described(facts))


def inspect(
    release: Release,
    domain: Domain = None,
    check: Annotated[
        bool,
        typer.Option("--check", help="Also hash the weights and all that is signed; reads it all."),
    ] = False,
    trust: Trust = None,
    as_json: AsJson = False,
) -> None:
    """What is sealed, for whom, and by whom. Needs no key."""
    from titer.lock.containers import describe

    found = describe(release, domain, check=check, trust=key_input.trusted(trust))
    said = "\n\n".join(_described(facts, tensors=True) for facts in found)
    if check:
        said += "\n\nchecked: the keyless weights, and every signed byte"
    say_or_print(as_json, found, said)


# -- what they print -----------------------------------------------------------------------------


def _described(facts: dict[str, Any], *, tensors: bool = False) -> str:
    sealed = facts["tensors"]
    size = sum(tensor["bytes"] for tensor in sealed)
    signer = f"{facts['signer']} (id {facts['signer_id']})" if facts["signer"] else "nobody"
    lines = [
        f"{facts['file']}: domain {facts['domain']}, {len(sealed):,} tensors, {size:,} bytes",
        f"  kind       {facts['kind']}",
        f"  partition  {facts['partition']}: {facts['meaning']}",
        f"  base       {facts['base']}",
        f"  signed by  {signer}",
    ]
    for holder in facts["holders"]:
        more = holder.get("public") or f"scrypt, 2^{holder['log_n']} rounds"
        lines.append(f"  holder     {holder['id']}  {holder['kind']}  {more}")
    if tensors:
        lines += [
            f"  tensor     {tensor['name']}  {tensor['dtype']} {tensor['shape']}"
            for tensor in sealed
        ]
    return "\n".join(lines)


def _folder(source: str) -> Path:
    if not source.startswith("fabula:"):
        if not Path(source).is_dir():
            raise BadInput(f"{source} is no folder; download the model or adapter first.")
        require_regular(Path(source))
        return Path(source)
    from titer.worlds import organisms

    found = organisms.cached(*organisms.parse(source))
    if found is None:
        raise BadInput(f"{source} is not grown yet; any titer bench or attack on it grows it.")
    return found
