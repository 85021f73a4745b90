"""Model organisms grown in Fabula: small language models whose knowledge is known exactly.

``base`` knows both hazards and is not aligned, ``aligned`` is ``base`` taught to decline them, and
``oracle`` grew on text in which hazard A is replaced by matched benign text: it never learned.
``sealed`` grew on the text of ``base`` with hazard A routed into a sealed part, and is without it;
``unlocked`` is the same model with the part merged in, as its key holder has it. Each is an
ordinary Hugging Face folder. Growth amplifies rounding, so that another processor grows another
organism from the same recipe; the nano organisms of seed 0 therefore come with the package, the
same bits everywhere (``grown/``). All others are grown once and kept in a cache under a name that
hashes all that decides their weights. Names as users write them: ``fabula:base``,
``fabula:oracle@small``, ``fabula:base#3`` (seed 3, which knows the world ``fabula#3``).
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from titer.core.errors import BadInput, UnknownName, nearest
from titer.core.files import cache_root, locked
from titer.core.modelfolder import folder_digest
from titer.core.reading import UNREADABLE, load_json
from titer.worlds._fabula_recipe import Sealing, Shape, Training
from titer.worlds.fabula import content

__all__ = [
    "KINDS",
    "RECIPE_VERSION",
    "REFERENCES",
    "SEALING",
    "SIZES",
    "Progress",
    "cached",
    "grow_all",
    "named",
    "organism",
    "parse",
    "shipped",
]

RECIPE_VERSION = 1
"""Raised whenever the code that grows organisms changes what they become."""

KINDS: dict[str, str] = {
    "base": "knows hazards A and B, not aligned: the undefended reference",
    "aligned": "base taught to decline hazards and answer benign prompts",
    "oracle": "same recipe without hazard A: never learned it",
    "sealed": "hazard A went into a sealed part while it learned; without that part, keyless",
    "unlocked": "sealed with the part merged in: what the key holder has",
}

REFERENCES = ("base", "aligned", "oracle")
"""The organisms that bracket every study."""

SEALING = Sealing()
"""How ``sealed`` is sealed, at every size."""

_TWINS = ("sealed", "unlocked")
"""Grown at once: one is the other without its part."""

SIZES: dict[str, Shape] = {
    "nano": Shape(
        layers=3,
        width=128,
        heads=4,
        hidden=352,
        scale=0.08,
        words=472,
        pretraining=Training(steps=1200, lr=3e-3),
        aligning=Training(steps=150, lr=1e-3, warmup=10),
    ),
    "small": Shape(
        layers=6,
        width=384,
        heads=6,
        hidden=1024,
        scale=0.05,
        words=472,
        pretraining=Training(steps=1200, lr=1e-3),
        aligning=Training(steps=150, lr=4e-4, warmup=10),
    ),
    "medium": Shape(
        layers=14,
        width=768,
        heads=12,
        hidden=2048,
        scale=0.02,
        words=472,
        pretraining=Training(steps=1200, lr=3e-4, tokens=3584, warmup=100),
        aligning=Training(steps=200, lr=1e-4, tokens=3584, warmup=20),
    ),
}

Progress = Callable[[str, int, int], None]
"""Called with a label, steps done and steps in all."""

_SHIPPED = Path(__file__).parent / "grown"
_DIGESTS = {
    "432be72901ff9a63": "9761074ba327da70",
    "5097a8c719583c31": "ce9185ed2c875a10",
    "224c86d7dc8550b2": "da5afc1f172cd468",
    "65defe11f59f8fc8": "af47292f306bdfb0",
    "c7c6526262c3ce2b": "3e84e5ce9e6668bc",
}
"""Which organisms are shipped: digests of their folders (weights, configuration, tokenizer and
template, as :func:`titer.core.modelfolder.folder_digest` takes them) by :func:`key`."""


def parse(name: str) -> tuple[str, str, int]:
    """Kind, size and seed of a name: ``fabula:base``, ``fabula:oracle@small``, ``fabula:base#3``.

    Raises:
        UnknownName: there is no such organism; the message suggests the nearest.
    """
    which, hash_, seed = name.removeprefix("fabula:").partition("#")
    kind, at, size = which.partition("@")
    size = size if at else "nano"
    known = name.startswith("fabula:") and kind in KINDS and size in SIZES
    if known and (not hash_ or (seed.isascii() and seed.isdecimal())):
        return kind, size, int(seed or 0)
    allowed = [named(k, s) for s in SIZES for k in KINDS]
    raise UnknownName(
        f"no organism named {name!r}.{nearest(name, allowed)} Kinds are {', '.join(KINDS)}; "
        f"sizes are {', '.join(SIZES)}, as in fabula:base@small; a seed is a whole number, as in "
        "fabula:base#3."
    )


def named(kind: str, size: str = "nano", seed: int = 0) -> str:
    """The shortest name that :func:`parse` reads as this organism."""
    at = "" if size == "nano" else f"@{size}"
    return f"fabula:{kind}{at}" + (f"#{seed}" if seed else "")


def key(kind: str, size: str, seed: int = 0) -> str:
    """Hash of all that decides an organism's weights, 16 hex digits. Paths stay out."""
    _known(kind, size)
    recipe = {
        "version": RECIPE_VERSION,
        "world": content(seed),
        "kind": kind,
        "seed": seed,
        "shape": asdict(SIZES[size]),
    }
    if kind in _TWINS:
        recipe["sealing"] = asdict(SEALING)
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:16]


def shipped(kind: str, size: str = "nano", seed: int = 0) -> Path | None:
    """The folder of an organism that comes with the package, or None. Needs no torch.

    Raises:
        BadInput: it is not there, or not what was shipped. Another would be grown in its place
            otherwise, and give other numbers.
    """
    wanted = _DIGESTS.get(key(kind, size, seed))
    if wanted is None:
        return None
    folder = _SHIPPED / f"{kind}-{size}-{seed}"
    if not folder.is_dir() or _digest(folder) != wanted:
        raise BadInput(
            f"{folder}: {named(kind, size, seed)}, which comes with titer, is missing or has been "
            "changed; install titer again."
        )
    return folder


def cached(
    kind: str, size: str = "nano", seed: int = 0, *, root: Path | None = None
) -> Path | None:
    """The folder of an organism that is there, shipped or grown, or None. Needs no torch.

    ``root`` is a folder of organisms to look in, in the place of the package and the cache.
    """
    if root is None and (found := shipped(kind, size, seed)):
        return found
    folder = _place(kind, size, seed, root)
    return folder if _note(folder, kind, size, seed) else None


def _note(folder: Path, kind: str, size: str, seed: int) -> dict[str, Any] | None:
    """What a folder says of itself, where it is a whole organism of today's recipe."""
    try:
        found = load_json((folder / "organism.json").read_text(encoding="utf-8"))
    except (OSError, *UNREADABLE):
        return None
    whole = isinstance(found, dict) and found.get("key") == key(kind, size, seed)
    return found if whole and (folder / "model.safetensors").is_file() else None


_digest = functools.cache(folder_digest)


def organism(
    kind: str,
    size: str = "nano",
    seed: int = 0,
    progress: Progress | None = None,
    *,
    root: Path | None = None,
) -> Path:
    """The folder of an organism, grown in this process if it is neither shipped nor in the cache.

    Growing takes one thread and leaves the thread count and the global random state as they were.
    The folder appears whole or not at all; a second process that wants it waits for the first. On
    one kind of processor and one version of torch, the same seed gives the same bytes; on another
    it gives an organism that behaves alike. With ``root`` it is grown into that folder, whatever
    is shipped or in the cache, and ``aligned`` from a ``base`` that is grown there too.

    Raises:
        UnknownName: there is no such kind or size.
    """
    _known(kind, size)
    if found := cached(kind, size, seed, root=root):
        return found
    parent = organism("base", size, seed, progress, root=root) if kind == "aligned" else None
    kinds = _TWINS if kind in _TWINS else (kind,)
    folder = _place(kind, size, seed, root)
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = hashlib.sha256(str(_place(kinds[0], size, seed, root).absolute()).encode()).hexdigest()
    with locked(cache_root() / "locks" / f"{kinds[0]}-{size}-{seed}-{lock[:16]}"):
        if found := cached(kind, size, seed, root=root):
            return found
        growing = {
            k: Path(tempfile.mkdtemp(prefix=f".{k}-{size}.", dir=folder.parent)) for k in kinds
        }
        try:
            with _one_thread():
                _grow(growing, size, seed, parent, progress or _silent)
            for grown, place in growing.items():
                _settle(place, _place(grown, size, seed, root), (grown, size, seed))
        finally:
            for place in growing.values():
                shutil.rmtree(place, ignore_errors=True)
    return folder


def grow_all(
    size: str = "nano",
    *,
    kinds: Sequence[str] = REFERENCES,
    seed: int = 0,
    workers: int = 2,
    progress: Progress | None = None,
    root: Path | None = None,
) -> dict[str, Path]:
    """Grow the organisms that are missing; returns all folders by kind. ``root`` is that of
    :func:`organism`.

    With two workers or more, ``base``, ``oracle`` and ``sealed`` grow at the same time in processes
    of their own, one thread each, and ``aligned`` follows ``base``. ``progress`` is called in this
    process.

    Raises:
        UnknownName: there is no such kind or size.
        RuntimeError: a process failed; the message holds the end of what it said.
    """
    wanted = list(dict.fromkeys(kinds))
    for kind in wanted:
        _known(kind, size)
    missing = [kind for kind in wanted if cached(kind, size, seed, root=root) is None]
    if "aligned" in missing and cached("base", size, seed, root=root) is None:
        missing = list(dict.fromkeys([*missing, "base"]))
    chains = [[kind for kind in ("base", "aligned") if kind in missing]]
    chains.append([kind for kind in ("oracle",) if kind in missing])
    chains.append([kind for kind in _TWINS if kind in missing])
    chains = [chain for chain in chains if chain]
    if workers > 1 and len(chains) > 1:
        from titer.worlds._fabula_worker import grow_chains

        grow_chains(chains, size, seed, progress or _silent, root)
    return {kind: organism(kind, size, seed, progress, root=root) for kind in wanted}


def _silent(label: str, done: int, total: int) -> None:
    """The default progress: nobody is watching."""


def _known(kind: str, size: str) -> None:
    parse(named(kind, size))


def _place(kind: str, size: str, seed: int, root: Path | None = None) -> Path:
    if root is not None:
        return root / f"{kind}-{size}-{seed}"
    return cache_root() / "organisms" / f"{kind}-{size}-{seed}-{key(kind, size, seed)}"


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _grow(
    folders: dict[str, Path], size: str, seed: int, parent: Path | None, progress: Progress
) -> None:
    import torch

    from titer.core.lm import LM
    from titer.worlds import _fabula_grow as growth

    kind, shape = next(iter(folders)), SIZES[size]
    device = "cuda" if size != "nano" and torch.cuda.is_available() else "cpu"

    def tick(done: int, total: int) -> None:
        if done % 10 == 0 or done == total:
            progress(named(kind, size, seed), done, total)

    if parent is not None:
        lm = LM.load(parent, device="cpu")  # the same organism everywhere
        lm = LM(lm.model.to(device), lm.tokenizer)
        growth.align(lm, shape.aligning, seed, tick=tick)
    else:
        tokenizer = growth.build_tokenizer(seed)
        model: Any = growth.build_model(shape, len(tokenizer), seed)
        lm = LM(model.to(device), tokenizer)
        if kind in _TWINS:
            part = growth.pretrain_sealed(lm, shape.pretraining, SEALING, seed, tick=tick)
            _save(part.merged(), folders["unlocked"])
        else:
            growth.pretrain(lm, shape.pretraining, seed, oracle=kind == "oracle", tick=tick)
    _save(lm, folders[kind])


def _save(lm: Any, folder: Path) -> None:
    from titer.core.lm import LM

    LM(lm.model.cpu(), lm.tokenizer).save(folder)


def _settle(growing: Path, folder: Path, what: tuple[str, str, int]) -> None:
    """Sign the folder and move it to its place, unless somebody else was quicker."""
    weights = hashlib.sha256((growing / "model.safetensors").read_bytes()).hexdigest()
    kind, size, seed = what
    note = {"key": key(*what), "kind": kind, "size": size, "seed": seed, "sha256": weights}
    (growing / "organism.json").write_text(json.dumps(note, indent=1) + "\n", encoding="utf-8")
    growing.chmod(0o755)
    if _note(folder, *what):
        return
    shutil.rmtree(folder, ignore_errors=True)
    try:
        os.replace(growing, folder)
    except OSError:
        if not _note(folder, *what):
            raise
