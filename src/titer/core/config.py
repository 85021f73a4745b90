"""What a model's config says of its text part, whatever the architecture calls it.

A config is an object of transformers or the content of a ``config.json``. In models that also see
or hear, all that concerns text stands in a config of its own inside it.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, cast

from titer.core.errors import BadInput

__all__ = [
    "DEPTHS",
    "UNBOUNDED",
    "WIDTHS",
    "attention_heads",
    "context_length",
    "hidden_size",
    "layers",
    "setting",
    "text_config",
    "vocab_size",
]

_NESTED = ("text_config", "decoder", "generator", "llm_config", "language_config")
WIDTHS = ("hidden_size", "n_embd", "d_model")
DEPTHS = ("num_hidden_layers", "n_layer", "n_layers")
_CONTEXT = (
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "max_sequence_length",
    "seq_length",
    "context_length",
    "n_ctx",
)
UNBOUNDED = 2048
"""Tokens for a model that sets no bound of its own: recurrent ones, and those with ALiBi."""


def text_config(config: Any) -> Any:
    """The part of a config that describes the language model; the config itself where it has none.

    What is set on it is set in the model's config: nothing is copied.
    """
    if isinstance(config, Mapping):
        content = cast(Mapping[str, Any], config)
        inner = [content[name] for name in _NESTED if content.get(name)]
        return next((part for part in inner if hasattr(part, "keys")), content)
    return config.get_text_config()


def setting(config: Any, *names: str) -> int | None:
    """The first of ``names`` that the text part holds as a positive whole number."""
    text = text_config(config)
    get = text.get if hasattr(text, "keys") else functools.partial(_attribute, text)
    for name in names:
        value: Any = get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return None


def _attribute(config: Any, name: str) -> Any:
    return getattr(config, name, None)


def _needed(config: Any, what: str, *names: str) -> int:
    found = setting(config, *names)
    if found is None:
        raise BadInput(
            f"the config gives no {what} ({', '.join(names)}); use a stock architecture of "
            "transformers."
        )
    return found


def context_length(config: Any) -> int:
    """The longest sequence the model takes, in tokens; :data:`UNBOUNDED` where it names none."""
    return setting(config, *_CONTEXT) or UNBOUNDED


def hidden_size(config: Any) -> int:
    """D, the width of the residual stream.

    Raises:
        BadInput: the config gives none.
    """
    return _needed(config, "width", *WIDTHS)


def layers(config: Any) -> int:
    """How many blocks the model has.

    Raises:
        BadInput: the config gives no number.
    """
    return _needed(config, "number of blocks", *DEPTHS)


def attention_heads(config: Any) -> int:
    """How many heads of attention a block has.

    Raises:
        BadInput: the config gives no number, as those of recurrent models do not.
    """
    return _needed(config, "number of attention heads", "num_attention_heads", "n_head", "n_heads")


def vocab_size(config: Any) -> int:
    """V, how many logits the model gives.

    Raises:
        BadInput: the config gives no number.
    """
    return _needed(config, "size of the vocabulary", "vocab_size")
