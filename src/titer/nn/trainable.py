"""Which weights a fine-tune may change: all, a low-rank adapter, or norms and embeddings."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from titer.core.errors import BadInput
from titer.core.lm import LM
from titer.nn.chance import seeded

__all__ = ["Parameters", "Trainable", "named_matrices", "trainable"]

Parameters = Literal["full", "lora", "norms-and-embeddings"]


@dataclass(frozen=True)
class Trainable:
    """A model ready to train: ``lm`` to run, ``weights`` to step, and its cost per token."""

    lm: LM
    weights: list[nn.Parameter]
    flops_per_token: float


@contextmanager
def trainable(
    lm: LM,
    which: Parameters,
    *,
    rank: int = 16,
    alpha: float = 32.0,
    seed: int = 0,
    modules: Sequence[str] = (),
) -> Iterator[Trainable]:
    """Make part of ``lm`` trainable, in place; afterwards adapters are merged and nothing stays.

    LoRA (Hu et al. 2021, arXiv:2106.09685) goes around every linear layer but the head, through
    PEFT, or around those whose name ends in one of ``modules``. ``seed`` draws its first factor.
    After an error inside the block adapters are taken off unmerged.
    A training token costs 6 operations a weight that trains and 4 a frozen one (its gradient with
    respect to the input is still needed), counting weights in matrix products only.

    Raises:
        BadInput: ``modules`` match nothing.
    """
    matrices = lm.matmul_weights()
    size = sum(weight.numel() for weight in matrices)
    flags = [(weight, weight.requires_grad) for weight in lm.model.parameters()]
    try:
        if which == "lora":
            with _lora(lm, rank, alpha, seed, modules) as wrapped:
                weights = [w for w in wrapped.model.parameters() if w.requires_grad]
                extra = sum(weight.numel() for weight in weights)
                yield Trainable(wrapped, weights, 4.0 * size + 6.0 * extra)
        else:
            chosen = _select(lm, which, modules)
            for weight, _ in flags:
                weight.requires_grad_(False)
            for weight in chosen:
                weight.requires_grad_(True)
            trained = {id(weight) for weight in chosen}
            moved = sum(weight.numel() for weight in matrices if id(weight) in trained)
            yield Trainable(lm, chosen, 4.0 * size + 2.0 * moved)
    finally:
        for weight, flag in flags:
            weight.requires_grad_(flag)
            weight.grad = None


@contextmanager
def _lora(lm: LM, rank: int, alpha: float, seed: int, modules: Sequence[str]) -> Iterator[LM]:
    from peft import LoraConfig, get_peft_model

    # PEFT's annotation says int, its arithmetic takes any number.
    scale: Any = alpha
    targets: Any = list(modules) if modules else "all-linear"
    config = LoraConfig(r=rank, lora_alpha=scale, target_modules=targets, task_type="CAUSAL_LM")
    with seeded(seed, lm.device), warnings.catch_warnings():
        # PEFT notes that GPT-2's Conv1D stores its weight transposed, and handles it.
        warnings.simplefilter("ignore")
        try:
            model: Any = get_peft_model(lm.model, config)
        except ValueError as error:
            named = ", ".join(modules) or "all-linear"
            raise BadInput(f"LoRA finds no layer named {named}: {error}") from error
    try:
        yield LM(model, lm.tokenizer, lm.name)
    except BaseException:
        model.unload()
        raise
    else:
        model.merge_and_unload()
    finally:
        # PEFT leaves its configuration on the model; a merged model is an ordinary one.
        for leftover in ("peft_config", "_hf_peft_config_loaded"):
            lm.model.__dict__.pop(leftover, None)


def _select(lm: LM, which: Parameters, modules: Sequence[str]) -> list[nn.Parameter]:
    if which == "full":
        if not modules:
            return list(lm.model.parameters())
        return [weight for _, weight in named_matrices(lm, modules)]
    kept: dict[int, nn.Parameter] = {}
    for module in lm.model.modules():
        own = dict(module.named_parameters(recurse=False))
        if "norm" in type(module).__name__.lower() or isinstance(module, nn.Embedding):
            chosen = list(own.values())
        else:
            chosen = [weight for name, weight in own.items() if name == "bias"]
        kept.update({id(weight): weight for weight in chosen})
    return list(kept.values())


def named_matrices(
    lm: LM, endings: Sequence[str], layers: Sequence[int] | None = None
) -> list[tuple[str, nn.Parameter]]:
    """Weights of the modules whose path ends in one of ``endings``, in the given blocks.

    A path is ``3.mlp.down_proj``: block, then name inside it. Whole path components are compared.

    Raises:
        BadInput: nothing matches; the message lists what could.
    """
    from titer.nn.hooks import blocks

    found: list[tuple[str, nn.Parameter]] = []
    available: set[str] = set()
    wanted = tuple(f".{ending}" for ending in endings)
    for index, block in enumerate(blocks(lm.model)):
        for name, module in block.named_modules():
            weight = getattr(module, "weight", None)
            if not isinstance(weight, nn.Parameter) or weight.dim() < 2:
                continue
            available.add(name)
            path = f".{index}.{name}"
            if path.endswith(wanted) and (layers is None or index in layers):
                found.append((path[1:], weight))
    if not found:
        raise BadInput(
            f"no matrix of {lm.name} is named {', '.join(endings)}"
            + (f" in blocks {', '.join(map(str, layers))}" if layers is not None else "")
            + f"; each block has {', '.join(sorted(available))}."
        )
    return found
