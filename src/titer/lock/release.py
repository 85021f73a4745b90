"""Release folders: a keyless model that any tool loads, and beside it what is sealed.

``model.safetensors``, ``config.json`` and the rest are the base as it was; ``sealed/NAME.titer`` is
one container a domain. The subfolder keeps tools that take every safetensors file away from it.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from titer.core import modelfolder
from titer.core.errors import BadInput
from titer.core.files import atomic_folder, require_space
from titer.core.modelfolder import weight_files
from titer.lock.containers import SEALED, SUFFIX, containers, describe, note, opened, require_base
from titer.lock.header import Partition
from titer.lock.keys import Credential, SigningKey, VerifyKey
from titer.lock.seal import Label, Part, seal
from titer.lock.unseal import Unsealed, inspect
from titer.lock.weights import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    MODEL_CONFIG,
    Tell,
    adapter_parts,
    changed_parts,
    overlay,
    rebuild,
    weights_digest,
    write_safetensors,
)
from titer.lock.wrap import LOG_N, Recipient

__all__ = ["Form", "lock", "unlock", "write_adapter"]

Form = Literal["adapter", "merged"]

INDEX = "model.safetensors.index.json"
_CARRIED = {
    "config.json",
    "generation_config.json",
    INDEX,
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
    "README.md",
    "LICENSE",
    "LICENSE.txt",
    "LICENSE.md",
    "NOTICE",
    "NOTICE.txt",
}
"""What goes into a release. A list, because anything else that lies about (optimiser states, other
weights, notes on training data) could hold what is being sealed."""


def lock(
    base: Path,
    delta: Path,
    out: Path,
    *,
    to: Sequence[Recipient],
    domain: str = "main",
    replace: bool = False,
    signer: SigningKey | None = None,
    partition: Partition = "post-hoc",
    log_n: int = LOG_N,
    tell: Tell | None = None,
) -> dict[str, Any]:
    """Write a keyless release with a sealed part in it.

    Args:
        base: the keyless model folder; an earlier release, whose containers are carried along.
        delta: what to seal: a LoRA adapter folder, or a full checkpoint of the same architecture,
            of which the tensors that differ are sealed.
        out: a folder that does not exist or is empty; written whole or not at all.
        replace: seal in the place of what ``base`` has sealed under this domain, which is left out.
        partition: the publisher's word on the base; ``post-hoc`` claims less and is the default.

    Returns:
        What :func:`describe` says of the new container, with the files left behind.

    Raises:
        BadInput: folders that are not what they should be, or nothing or nobody to seal for.
    """
    modelfolder.require(base)
    _require_new(out)
    if not to:
        raise BadInput("nobody could open this: give a public key or a passphrase to seal for.")
    earlier = containers(base)
    if replace and domain not in earlier:
        raise BadInput(f"{base} has no sealed domain {domain!r} to replace; leave out --replace.")
    if not replace and domain in earlier:
        raise BadInput(
            f"{base} has a sealed domain {domain!r} already; give another --domain, or --replace "
            "to seal something else in its place."
        )
    earlier = {name: path for name, path in earlier.items() if name != domain}
    adapter = (delta / ADAPTER_CONFIG).is_file()
    if not adapter:
        modelfolder.require(delta)
    parts = adapter_parts(base, delta) if adapter else changed_parts(base, delta)
    digest = weights_digest(base, tell)
    for path in earlier.values():
        with path.open("rb") as stream:
            require_base(inspect(stream, str(path)).header, digest, path)
    label = Label(
        base=digest, domain=domain, kind="adapter" if adapter else "tensors", partition=partition
    )
    kept = _carried(base)
    size = sum(part.spec.size for part in parts) + sum(path.stat().st_size for path in kept)
    require_space(out, size + 2**20)
    with atomic_folder(out) as scratch:
        for path in kept:
            shutil.copyfile(path, scratch / path.name)
        (scratch / SEALED).mkdir()
        for path in earlier.values():
            shutil.copyfile(path, scratch / SEALED / path.name)
        with (scratch / SEALED / f"{domain}{SUFFIX}").open("w+b") as sink:
            seal(sink, _told(parts, tell), label, to, signer=signer, log_n=log_n)
        (scratch / SEALED / "README.md").write_text(note(scratch), encoding="utf-8")
    left = sorted(p.name for p in base.iterdir() if p not in kept and p.name != SEALED)
    return {**describe(out, domain)[0], "left_behind": left}


def _told(parts: Sequence[Part], tell: Tell | None) -> list[Part]:
    """The same parts, which say where they are when their turn comes."""
    if tell is None:
        return list(parts)
    ordered = sorted(parts, key=lambda part: part.spec.name)

    def watched(index: int, part: Part) -> Part:
        def blocks(size: int) -> Any:
            yield from part.blocks(size)
            tell("sealing", index + 1, len(ordered))

        return Part(part.spec, blocks)

    return [watched(index, part) for index, part in enumerate(ordered)]


def _require_new(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise BadInput(f"{out} exists; choose another --out, nothing is overwritten.")


def _carried(base: Path) -> list[Path]:
    named = [base / name for name in sorted(_CARRIED) if (base / name).is_file()]
    return [*named, *weight_files(base)]


def unlock(
    folder: Path,
    using: Credential,
    out: Path,
    *,
    form: Form | None = None,
    domain: str | None = None,
    trust: VerifyKey | None = None,
    tell: Tell | None = None,
) -> dict[str, Any]:
    """Write what was sealed: the adapter as it was, or the model with it merged in.

    Args:
        form: ``adapter`` or ``merged``; by default an adapter comes back as an adapter, and tensors
            as a model.

    Returns:
        Domain, kind, form and the folder.

    Raises:
        BadInput: see :func:`opened`; or whole tensors are asked for as an adapter.
    """
    modelfolder.require(folder)
    _require_new(out)
    with opened(folder, using, domain=domain, trust=trust, tell=tell) as source:
        kind = source.header.kind
        form = form or ("adapter" if kind == "adapter" else "merged")
        if kind == "tensors" and form == "adapter":
            raise BadInput("what is sealed is whole tensors and no adapter; unlock it as merged.")
        size = sum(spec.size for spec in source.header.tensors)
        kept = _carried(folder) if form == "merged" else []
        require_space(out, size + sum(path.stat().st_size for path in kept) + 2**20)
        with atomic_folder(out) as scratch:
            if form == "adapter":
                write_adapter(source, scratch)
            elif kind == "adapter":
                from titer.lock.merge import merged

                merged(folder, source).save(scratch)
            elif any(spec.name == MODEL_CONFIG for spec in source.header.tensors):
                weights = {path.name for path in weight_files(folder)} | {INDEX}
                for path in kept:
                    if path.name not in weights:
                        shutil.copyfile(path, scratch / path.name)
                rebuild(scratch, folder, source.header.tensors, source.blocks)
            else:
                for path in kept:
                    shutil.copyfile(path, scratch / path.name)
                overlay(scratch, source.header.tensors, source.blocks)
        return {"domain": source.header.domain, "kind": kind, "form": form, "out": str(out)}


def write_adapter(source: Unsealed, folder: Path) -> None:
    """The adapter's two files, as PEFT reads them.

    Raises:
        BadInput: the container holds no adapter, or was changed.
    """
    specs = [spec for spec in source.header.tensors if spec.name != ADAPTER_CONFIG]
    with (folder / ADAPTER_CONFIG).open("wb") as file:
        file.writelines(source.blocks(ADAPTER_CONFIG))
    write_safetensors(folder / ADAPTER_WEIGHTS, specs, source.blocks)
