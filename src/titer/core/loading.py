"""What transformers says of a model it has loaded, and whether that is the model of the files."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from titer.core.errors import BadInput
from titer.core.weightfaults import listed
from titer.core.weightfiles import blocks_of, unread

__all__ = ["one_line", "require_as_filed"]

_LINE = 400
_PLAIN = {f"torch.{kind}" for kind in ("float16", "bfloat16", "float32", "float64")}


def one_line(error: BaseException) -> str:
    """All that an error says, in one line; what the terminal would obey is left out."""
    said = " ".join(str(error).split()) or repr(error)
    said = "".join(letter for letter in said if letter.isprintable())
    return said if len(said) <= _LINE else said[: _LINE - 1] + "…"


def require_as_filed(
    model: Any, report: Mapping[str, Any], entries: Mapping[str, Any], source: str
) -> None:
    """Refuse a model that is not what its files hold.

    ``report`` is what ``from_pretrained`` gives for ``output_loading_info``, ``entries`` the files'
    header entries by tensor.

    Raises:
        BadInput: tensors that are missing, of another shape, or in the files and read by nobody.
    """
    kind = type(model).__name__
    # transformers would draw them at random and go on.
    if absent := sorted(map(str, report["missing_keys"])):
        raise BadInput(
            f"{source}: the weights lack {len(absent):,} tensors of a {kind}, among them "
            f"{absent[0]!r}; save the whole model again."
        )
    for name, came, wanted in sorted(report["mismatched_keys"]):
        raise BadInput(
            f"{source}: tensor {name!r} is of shape {tuple(came)}, and a {kind} with this "
            f"config.json needs {tuple(wanted)}; use the config that the model was saved with."
        )
    idle = unread({name: entry["shape"] for name, entry in entries.items()}, model.config.to_dict())
    known = unread(dict.fromkeys(map(str, report["unexpected_keys"]), ()), model.config.to_dict())
    lost = [name for name in map(str, report["unexpected_keys"]) if name not in idle | known]
    lost += [name for name in _passed_over(model, entries) if name not in idle]
    if lost := sorted(set(lost)):
        raise BadInput(
            f"{source}: the weights hold {len(lost):,} tensors that a {kind} with this config.json "
            f"does not read ({listed(lost)}), so the model would not be the one in the files; "
            f"{_remedy(lost)}"
        )
    codes = [name for name, w in model.named_parameters() if str(w.dtype) not in _PLAIN]
    if codes:
        raise BadInput(
            f"{source}: tensor {codes[0]!r} is loaded as {model.get_parameter(codes[0]).dtype}, "
            "which are codes and no weights; give the model before it was quantised."
        )


def _passed_over(model: Any, entries: Mapping[str, Any]) -> Sequence[str]:
    """Tensors that transformers drops for this architecture without a word."""
    patterns = getattr(model, "_keys_to_ignore_on_load_unexpected", None) or ()
    held = set(model.state_dict())
    return [
        name
        for name in entries
        if name not in held and any(re.search(pattern, name) for pattern in patterns)
    ]


def _remedy(lost: Sequence[str]) -> str:
    if all(name.endswith(".bias") for name in lost):
        return "set the config's entry for biases (attention_bias, mlp_bias or the like) to true."
    if all(blocks_of(name) for name in lost):
        return "give the config.json that the model was trained with."
    return "delete them, or save the model again with save_pretrained."
