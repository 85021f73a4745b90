"""A model as somebody gives it: a place, a name, or one that is in memory already."""

from __future__ import annotations

import copy
import re
from dataclasses import replace
from os import PathLike
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import nn

from titer.core.errors import BadInput
from titer.core.files import atomic_folder
from titer.core.lm import LM, Attention, Held
from titer.core.modelfolder import folder_digest
from titer.core.tokenizer import with_pad
from titer.nn.locked import relock
from titer.plan.subjects import short_name
from titer.worlds.hub import fetch, resolve_model

__all__ = ["Model", "load", "save", "source_of"]

Model = LM | str | PathLike[str] | nn.Module | tuple[nn.Module, Any]
"""What :func:`load` makes an :class:`LM` of."""


def load(
    source: Model,
    *,
    tokenizer: Any = None,
    name: str | None = None,
    device: str | None = None,
    dtype: Held = "float32",
    attention: Attention | None = None,
) -> LM:
    """A model ready to be immunised or attacked.

    ``source`` is a Hugging Face folder, a hub id ``owner/name@revision``, an organism
    ``fabula:NAME`` (grown where it is not there yet), or a causal language model of transformers
    that is in memory already, with its ``tokenizer`` or as a pair with it. That one is not copied:
    it is put in evaluation mode and otherwise left as it is. An :class:`LM` comes back unchanged.
    ``device``, ``dtype`` and ``attention`` (:meth:`LM.load`) are for models that are read from
    disk.

    Raises:
        BadInput: there is no such model, or it cannot be used; the sentence says why.
    """
    if isinstance(source, LM):
        return source
    if isinstance(source, tuple):
        return _in_memory(source[0], source[1] if tokenizer is None else tokenizer, name)
    if not isinstance(source, str | PathLike):
        return _in_memory(source, tokenizer, name)
    if tokenizer is not None:
        raise BadInput(f"{source}: a model that is read from disk brings its own tokenizer.")
    found = resolve_model(str(source))
    how: dict[str, Any] = {"device": device, "dtype": dtype, "attention": attention}
    lm = LM.load(fetch(found), name=name or str(source), **how)
    return replace(relock(lm), origin=found.digest)


def _in_memory(model: Any, tokenizer: Any, name: str | None) -> LM:
    if not isinstance(model, nn.Module) or not hasattr(model, "generate"):
        raise BadInput(
            f"{type(model).__name__} is no model; give a folder, a hub id, fabula:NAME, or a "
            "causal language model of transformers with its tokenizer."
        )
    if tokenizer is None:
        raise BadInput(
            "a model in memory needs its tokenizer; write titer.load(model, tokenizer=tokenizer)."
        )
    if tokenizer.pad_token_id is None:
        tokenizer = copy.deepcopy(tokenizer)  # it is given a padding token, and is the caller's
    known = getattr(getattr(model, "config", None), "name_or_path", "")
    lm = LM(model, with_pad(tokenizer), name or known or type(model).__name__)
    lm.check()
    return relock(lm)


def source_of(model: Model, out: Path, own: dict[str, LM]) -> str:
    """The name by which a study in the folder ``out`` knows a model.

    One that is only in this process is to lie in the run folder, and is put into ``own`` under its
    place there.

    Raises:
        BadInput: it is no model, or another has its name.
    """
    if isinstance(model, str | PathLike):
        return str(model)
    lm = load(model)
    if _as_on_disk(lm):
        return lm.name
    place = str(out / "models" / re.sub(r"[^\w.+@#-]", "_", short_name(lm.name)))
    if own.setdefault(place, lm).model is not lm.model:
        raise BadInput(f"two models are named {lm.name}; name one with titer.load(model, name=…).")
    return place


def _as_on_disk(lm: LM) -> bool:
    """Whether the model's name leads to these very weights."""
    try:
        if not lm.origin or resolve_model(lm.name).digest != lm.origin:
            return False
    except BadInput:
        return False
    there = load(lm.name)
    return (there.digest(), there.template_digest()) == (lm.digest(), lm.template_digest())


def save(lm: LM, folder: Path) -> None:
    """Keep a model in a run folder.

    Raises:
        BadInput: another model is there.
    """
    if not folder.exists():
        with atomic_folder(folder) as scratch:
            lm.save(scratch)
        return
    with TemporaryDirectory(prefix="titer-model-") as scratch:
        lm.save(Path(scratch))
        if folder_digest(Path(scratch)) != folder_digest(folder):
            raise BadInput(
                f"{folder} holds another model; choose another out, or another name with "
                "titer.load(model, name=…)."
            )
