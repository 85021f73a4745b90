"""Whether the small files of a model folder can be read within limits on time and memory.

All that transformers makes of them is made in a child process first (:mod:`titer.core.trying`):
the tokenizer, which cuts some strings that are hard to cut; the chat template, in which some
prompts are put; and the model that the configuration describes, without its weights. What has
passed is remembered by its content, in this process and in titer's cache.
"""

from __future__ import annotations

import functools
import hashlib
import math
from contextlib import suppress
from pathlib import Path
from typing import Any

from titer.core import modelfolder
from titer.core.files import cache_root
from titer.core.tokenizer import FIXED, faithful, rendered, template_of, tokens, turn_end, with_pad
from titer.core.trying import tried
from titer.core.weightfiles import read_json

__all__ = ["require_readable"]

_LONG = 2000
_HARD = (
    "a" * _LONG + "!",
    "1" * _LONG + "a",
    " " * _LONG + "!",
    "\n" * _LONG + "!",
    "ab" * (_LONG // 2) + "\t",
    "a1 " * (_LONG // 3) + "é",
    "word, another word; " * (_LONG // 20) + "\u0301",
    "東京é\u200d😀" * (_LONG // 5),
)
"""Strings on which a regular expression that can go wrong by length mostly does."""
_PROMPTS = (FIXED, "one\ntwo", FIXED * 200)
_RENDERED = 2**20
_PER_CHARACTER = 64
_TIMES = 4
"""Weights that are stored as codes are fewer in the files than in the model."""
_ROOM = 2**28


def require_readable(folder: Path) -> None:
    """Refuse a model whose small files cannot be read within limits; its folder is checked already.

    Raises:
        BadInput: one sentence.
    """
    _once(_key(folder), folder)


def _key(folder: Path) -> str:
    """What the small files hold, and how many weights there are beside them."""
    import importlib.metadata

    versions = (importlib.metadata.version(name) for name in ("titer", "transformers"))
    told = hashlib.sha256("\0".join((*versions, str(_filed(folder)))).encode())
    for path in modelfolder.small_files(folder):
        data = path.read_bytes()
        told.update(f"{path.name}\0{len(data)}\0".encode() + data)
    return told.hexdigest()


@functools.lru_cache(maxsize=1000)
def _once(key: str, folder: Path) -> None:
    """What is refused is not kept, and tried again."""
    kept = cache_root() / "readable" / key
    if kept.is_file():
        return
    _import_for(folder)
    tried(lambda: _fault(folder), f"the model {folder}")
    with suppress(OSError):
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.touch()


def _import_for(folder: Path) -> None:
    """Import what reads this kind of model: what comes after needs it too, and the child inherits
    it."""
    import transformers

    hub: Any = transformers
    config = read_json(folder / "config.json")
    with suppress(KeyError):  # one that transformers does not know is refused later
        kind = hub.CONFIG_MAPPING[str(config["model_type"]) if isinstance(config, dict) else ""]
        _ = hub.AutoTokenizer, hub.MODEL_FOR_CAUSAL_LM_MAPPING[kind]


def _filed(folder: Path) -> int:
    return sum(math.prod(shape) for shape in modelfolder.tensor_shapes(folder).values())


def _fault(folder: Path) -> str | None:
    """Read everything that is small, and what is wrong beside time and memory."""
    import torch
    import transformers

    hub: Any = transformers
    asked: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    config = hub.AutoConfig.from_pretrained(folder, **asked)
    with torch.device("meta"):
        model = hub.AutoModelForCausalLM.from_config(config)
    held = sum(tensor.numel() for tensor in (*model.parameters(), *model.buffers()))
    filed = _filed(folder)
    if held > _TIMES * filed + _ROOM:
        return (
            f"{folder}: config.json makes a model of {held:,} weights, and the files hold "
            f"{filed:,}; give the config.json that the model was saved with."
        )
    tokenizer = with_pad(faithful(hub.AutoTokenizer.from_pretrained(folder, **asked), folder))
    for text in _HARD:
        if (count := len(tokens(tokenizer, text, special=True))) > _PER_CHARACTER * len(text):
            return (
                f"{folder}: the tokenizer makes {count:,} tokens of a text of {len(text):,} "
                "characters; use the one the model was trained with."
            )
    if template := template_of(tokenizer):
        turn_end(tokenizer, template)
        for prompt in _PROMPTS:
            if (count := len(rendered(tokenizer, template, prompt))) > _RENDERED + len(prompt):
                return (
                    f"{folder}: the chat template makes {count:,} characters of a prompt of "
                    f"{len(prompt):,}; use the one the model was trained with."
                )
    return None
