"""Families of edits: what is generated, what bounds it, how it acts, and how it becomes weights.

An edit is made of *slots*, stacks of vectors: a low-rank update of rank 8 has eight slots of the
input's width and eight of the output's. P patches (1 or one a row), S sites of equal shape, R
slots, I and O the widths a site reads and writes, D the model's width, T tokens.

Budgets are kept by projection, with exact gradients, not by a penalty: without one the adversary
wins by destroying the model, which teaches a defender nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from titer.core.errors import BadInput
from titer.hypernet.apply import Tensors, low_rank, on_input, on_output, rows, times
from titer.hypernet.budgets import (
    Norm,
    bounded,
    cap,
    orthonormal,
    pair_norm,
    relative,
    shrink,
)
from titer.hypernet.sites import Site, at_blocks, at_embedding, at_linears, located, matrix
from titer.train.batches import Batch

__all__ = [
    "Ablation",
    "ActivationEdit",
    "Edit",
    "LowRank",
    "Slots",
    "SoftPrompt",
    "Steering",
]


@dataclass(frozen=True, slots=True)
class Slots:
    """A stack of ``count`` vectors of ``width``. One that starts at ``zero`` makes the whole edit
    the identity, bit for bit."""

    count: int
    width: int
    zero: bool = False


class Edit(Protocol):
    """A family of edits.

    ``limits`` turns the budget into one number a site, (S,), infinite for no budget; a batch is at
    hand where the budget is relative to activations. ``project`` brings generated tensors, by name
    (P, S, R, width), inside it. ``attach`` hooks one site's tensors, (P, R, width), onto a module.
    ``factors`` writes one site's edit, with P = 1, as a change of its weight, the product of an
    (O, R) and an (R, I) matrix; it raises :class:`BadInput` where the family is none.
    """

    def sites(self, model: nn.Module) -> list[Site]: ...

    def slots(self, site: Site) -> dict[str, Slots]: ...

    def limits(self, model: Any, sites: Sequence[Site], batch: Batch) -> Tensor: ...

    def project(self, raw: Mapping[str, Tensor], limits_S: Tensor) -> dict[str, Tensor]: ...

    def attach(
        self, model: nn.Module, module: nn.Module, tensors: Tensors
    ) -> Sequence[RemovableHandle]: ...

    def factors(self, module: nn.Module, tensors: Tensors) -> tuple[Tensor, Tensor]: ...


def _whole(count: int, name: str) -> None:
    if count < 1:
        raise BadInput(f"{name}={count}; it must be at least 1.")


def _no_weights(name: str) -> BadInput:
    return BadInput(
        f"{name} is no change of a weight matrix; export low-rank edits or direction ablation."
    )


# -- the families -------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class LowRank:
    """``W + Vᵀ U`` at linear layers, U (R, I) and V (R, O); what LoRA trains.

    ``budget``: the update's norm as a share of the weight's, largest singular value or Frobenius.
    ``modules``: endings of the layers' names, all linear layers if none.

    Source: Sanyal et al. 2025, arXiv:2509.08000 (edit); the budget is titer's.
    """

    rank: int = 8
    budget: float | None = None
    norm: Norm = "spectral"
    modules: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        bounded(self.budget, "low-rank edit")
        _whole(self.rank, "rank")

    def sites(self, model: nn.Module) -> list[Site]:
        found = at_linears(model, self.modules)
        if self.modules:
            return found
        # Gates and routers are narrower than any useful rank.
        fitting = [site for site in found if self.rank <= min(site.reads, site.writes)]
        return fitting or found

    def slots(self, site: Site) -> dict[str, Slots]:
        if self.rank > min(site.reads, site.writes):
            raise BadInput(f"rank={self.rank} exceeds {site.path}'s {site.reads}×{site.writes}.")
        return {"u": Slots(self.rank, site.reads), "v": Slots(self.rank, site.writes, zero=True)}

    def limits(self, model: Any, sites: Sequence[Site], batch: Batch) -> Tensor:
        weights = [_weight(module) for module in located(model, sites)]
        order: Any = 2 if self.norm == "spectral" else "fro"
        norms = [torch.linalg.matrix_norm(weight.detach().float(), order) for weight in weights]
        return torch.stack(norms) * (math.inf if self.budget is None else self.budget)

    def project(self, raw: Mapping[str, Tensor], limits_S: Tensor) -> dict[str, Tensor]:
        if self.budget is None:
            return dict(raw)
        size_PS = pair_norm(raw["u"], raw["v"], self.norm)
        factor = shrink(size_PS, limits_S)
        return {"u": raw["u"], "v": raw["v"] * factor[..., None, None]}

    def attach(
        self, model: nn.Module, module: nn.Module, tensors: Tensors
    ) -> Sequence[RemovableHandle]:
        return [on_output(module, lambda x, y: low_rank(y, x, tensors))]

    def factors(self, module: nn.Module, tensors: Tensors) -> tuple[Tensor, Tensor]:
        return tensors["v"][0].mT, tensors["u"][0]


@dataclass(frozen=True, kw_only=True)
class Steering:
    """``h + v`` on the residual stream, v (1, D), after each block or at the embedding.

    ``budget``: v's length as a share of the median length of the activations there. At the
    embedding it can be written into the weights of any architecture; a tied head then adds one
    number to all logits, which changes no probability.

    Source: Turner et al. 2023, arXiv:2308.10248.
    """

    budget: float | None = None
    where: Literal["blocks", "embedding"] = "blocks"

    def __post_init__(self) -> None:
        bounded(self.budget, "steering")

    def sites(self, model: nn.Module) -> list[Site]:
        return at_blocks(model) if self.where == "blocks" else at_embedding(model)

    def slots(self, site: Site) -> dict[str, Slots]:
        return {"v": Slots(1, site.writes, zero=True)}

    def limits(self, model: Any, sites: Sequence[Site], batch: Batch) -> Tensor:
        return relative(self.budget, model, sites, batch)

    def project(self, raw: Mapping[str, Tensor], limits_S: Tensor) -> dict[str, Tensor]:
        return {"v": cap(raw["v"], limits_S)}

    def attach(
        self, model: nn.Module, module: nn.Module, tensors: Tensors
    ) -> Sequence[RemovableHandle]:
        v = tensors["v"]
        return [on_output(module, lambda _x, y: y + rows(v, y))]

    def factors(self, module: nn.Module, tensors: Tensors) -> tuple[Tensor, Tensor]:
        if not isinstance(module, nn.Embedding):
            raise _no_weights("steering between blocks")
        # An embedding looks rows up, so its (rows, D) table changes by the outer product 1 vᵀ.
        return torch.ones_like(module.weight[:, :1]), tensors["v"][0]


@dataclass(frozen=True, kw_only=True)
class ActivationEdit:
    """``h + Rᵀ(A h + b − R h)`` after each block, R (R, D) orthonormal by QR.

    What is generated is R, the difference D = A − R, which starts at zero, and b. ``budget`` bounds
    each row of D, and each entry of b as a share of the median length of the activations.

    Source: Wu et al. 2024, arXiv:2404.03592 (LoReFT).
    """

    rank: int = 4
    budget: float | None = None

    def __post_init__(self) -> None:
        bounded(self.budget, "activation edit")
        _whole(self.rank, "rank")

    def sites(self, model: nn.Module) -> list[Site]:
        return at_blocks(model)

    def slots(self, site: Site) -> dict[str, Slots]:
        return {
            "r": Slots(self.rank, site.writes),
            "d": Slots(self.rank, site.writes, zero=True),
            "b": Slots(self.rank, 1, zero=True),
        }

    def limits(self, model: Any, sites: Sequence[Site], batch: Batch) -> Tensor:
        return relative(self.budget, model, sites, batch)

    def project(self, raw: Mapping[str, Tensor], limits_S: Tensor) -> dict[str, Tensor]:
        bound = math.inf if self.budget is None else self.budget
        return {
            "r": orthonormal(raw["r"]),
            "d": cap(raw["d"], torch.full_like(limits_S, bound)),
            "b": cap(raw["b"], limits_S),
        }

    def attach(
        self, model: nn.Module, module: nn.Module, tensors: Tensors
    ) -> Sequence[RemovableHandle]:
        r, d, b = tensors["r"], tensors["d"], tensors["b"]

        def edited(_x: Tensor, h: Tensor) -> Tensor:
            return h + (times(h, d) + rows(b, h).mT) @ rows(r, h)

        return [on_output(module, edited)]

    def factors(self, module: nn.Module, tensors: Tensors) -> tuple[Tensor, Tensor]:
        raise _no_weights("an activation edit")


@dataclass(frozen=True, kw_only=True)
class Ablation:
    """``h − α QᵀQ h``, Q (R, D) orthonormal by QR: on what layers read, or on what they write.

    ``read``: at the layers that read the residual stream after a norm, ``W(I − α QᵀQ)``. ``write``:
    at those whose output is added to it, ``(I − α QᵀQ)W``, biases aside. Bounded by nature:
    |α| < 1, by a hyperbolic tangent; negative α strengthens the directions.

    Source: Arditi et al. 2024, arXiv:2406.11717.
    Departs: directions are learned, one set a layer, and α with them.
    """

    side: Literal["read", "write"] = "write"
    directions: int = 1

    def __post_init__(self) -> None:
        _whole(self.directions, "directions")

    def sites(self, model: nn.Module) -> list[Site]:
        chosen = [site for site in at_linears(model) if site.writer == (self.side == "write")]
        if not chosen:
            raise BadInput(f"no layer of the model is known to {self.side} the residual stream.")
        return chosen

    def slots(self, site: Site) -> dict[str, Slots]:
        width = site.writes if self.side == "write" else site.reads
        return {"q": Slots(self.directions, width), "alpha": Slots(1, 1, zero=True)}

    def limits(self, model: Any, sites: Sequence[Site], batch: Batch) -> Tensor:
        return torch.ones(len(sites))

    def project(self, raw: Mapping[str, Tensor], limits_S: Tensor) -> dict[str, Tensor]:
        return {"q": orthonormal(raw["q"]), "alpha": raw["alpha"].tanh()}

    def attach(
        self, model: nn.Module, module: nn.Module, tensors: Tensors
    ) -> Sequence[RemovableHandle]:
        q, alpha = tensors["q"], tensors["alpha"]

        def without(h: Tensor) -> Tensor:
            return h - rows(alpha, h) * (times(h, q) @ rows(q, h))

        if self.side == "read":
            return [on_input(module, without)]
        bias = getattr(module, "bias", None)
        if bias is None:
            return [on_output(module, lambda _x, y: without(y))]
        return [on_output(module, lambda _x, y: without(y - bias) + bias)]

    def factors(self, module: nn.Module, tensors: Tensors) -> tuple[Tensor, Tensor]:
        q, alpha, weight = tensors["q"][0], tensors["alpha"][0], _weight(module)
        q, alpha = q.to(weight.dtype), alpha.to(weight.dtype)
        if self.side == "read":
            return weight @ q.mT * -alpha, q
        return q.mT * -alpha, q @ weight


@dataclass(frozen=True, kw_only=True)
class SoftPrompt:
    """``tokens`` vectors (R, D) before the first token; their outputs are cut off again.

    ``budget``: each vector's length as a share of the median length of the embedded tokens. A
    prompt takes attention whatever it says, so this family alone does not start at the identity.
    Every forward pass must hold the whole text: generate without a cache.

    Source: Lester et al. 2021, arXiv:2104.08691.
    """

    tokens: int = 4
    budget: float | None = None

    def __post_init__(self) -> None:
        bounded(self.budget, "soft prompt")
        _whole(self.tokens, "tokens")

    def sites(self, model: nn.Module) -> list[Site]:
        return at_embedding(model)

    def slots(self, site: Site) -> dict[str, Slots]:
        return {"p": Slots(self.tokens, site.writes)}

    def limits(self, model: Any, sites: Sequence[Site], batch: Batch) -> Tensor:
        return relative(self.budget, model, sites, batch)

    def project(self, raw: Mapping[str, Tensor], limits_S: Tensor) -> dict[str, Tensor]:
        return {"p": cap(raw["p"], limits_S)}

    def attach(
        self, model: nn.Module, module: nn.Module, tensors: Tensors
    ) -> Sequence[RemovableHandle]:
        prompt = tensors["p"]

        def prepend(_model: nn.Module, args: Any, given: dict[str, Any]) -> tuple[Any, Any]:
            ids = given.pop("input_ids", None)
            if args or ids is None or given.get("past_key_values") is not None:
                raise BadInput("a soft prompt needs input_ids by name and no cache.")
            words = module(ids)
            added = rows(prompt, words).expand(len(words), -1, -1)
            mask = given.get("attention_mask")
            mask = torch.ones_like(ids) if mask is None else mask
            given["inputs_embeds"] = torch.cat([added, words], 1)
            given["attention_mask"] = nn.functional.pad(mask, (prompt.shape[-2], 0), value=1)
            given.pop("position_ids", None)
            return args, given

        def cut(_model: nn.Module, _args: Any, output: Any) -> Any:
            output["logits"] = output.logits[:, prompt.shape[-2] :]
            return output

        return [
            model.register_forward_pre_hook(prepend, with_kwargs=True),
            model.register_forward_hook(cut),
        ]

    def factors(self, module: nn.Module, tensors: Tensors) -> tuple[Tensor, Tensor]:
        raise _no_weights("a soft prompt")


def _weight(module: nn.Module) -> Tensor:
    weight = matrix(module)
    if weight is None:
        raise BadInput(f"a {type(module).__name__} has no weight matrix to edit.")
    return weight
