"""What the measures that look inside a model share: passes, groups of weights, intervals.

N items, C choices, L layers counted with the embedding, D width, P weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from titer.core.data import Example
from titer.measures._ask import cut
from titer.method import LM, BadInput, Encoded, Estimate, Reading, seed_for
from titer.nn.hooks import blocks
from titer.train.batches import IGNORED, Batch, collate, encode_all
from titer.train.grads import gradient, still
from titer.train.objectives import token_losses

__all__ = [
    "Split",
    "batched",
    "by_kind",
    "by_layer",
    "first",
    "mean_of",
    "over_entities",
    "pieces",
    "place_of",
    "risk",
    "risk_gradient",
    "split_groups",
    "statements",
    "unknown",
]

Floats = NDArray[np.float64]
Split = Mapping[str, list[int]]
"""Groups of weights: the places, in the model's order of parameters, that each group holds."""

_TOKENS = 4096
_DRAWS = 1000


def first(items: Sequence[Example], count: int, seed: int, name: str) -> list[Example]:
    """At most ``count`` items, drawn by the seed and kept in their order."""
    if len(items) <= count:
        return list(items)
    rng = np.random.default_rng(seed_for(seed, name))
    return [items[i] for i in sorted(rng.choice(len(items), count, replace=False).tolist())]


def place_of(layer: int) -> str:
    """The name of a layer of the residual stream: the embedding is the first."""
    return f"block {layer - 1}" if layer else "embedding"


def pieces(items: Sequence[Example], parts: int) -> list[list[Example]]:
    """Items in at most ``parts`` groups that share no entity, alike in size, none empty."""
    owners: dict[str, list[Example]] = {}
    for item in items:
        owners.setdefault(item.entity or item.fact or item.id, []).append(item)
    found: list[list[Example]] = [[] for _ in range(max(1, min(parts, len(owners))))]
    for own in owners.values():
        min(found, key=len).extend(own)
    return found


# -- what is asked --------------------------------------------------------------------------------


def statements(lm: LM, items: Sequence[Example]) -> list[Encoded]:
    """Each prompt with each of its choices, C rows an item, in order.

    Raises:
        BadInput: an item has fewer than two choices, or not its own answer among them.
    """
    for item in items:
        if len(item.choices) < 2 or item.answer not in item.choices:
            raise BadInput(
                f"item {item.id!r} needs two choices or more, its answer among them; "
                "a probe of hidden facts compares choices."
            )
    limit = lm.context_length()
    return [
        cut(lm.prompt_ids(item.prompt), lm.answer_ids(choice, end=False), limit)
        for item in items
        for choice in item.choices
    ]


def _batched(lm: LM, rows: Sequence[tuple[str, Encoded]]) -> Iterator[Batch]:
    """Padded batches of at most some thousand tokens, in the rows' order."""
    waiting: list[tuple[str, Encoded]] = []
    for row in rows:
        width = max(len(one.ids) for _, one in [*waiting, row])
        if waiting and width * (len(waiting) + 1) > _TOKENS:
            yield collate(waiting, lm.tokenizer.pad_token_id, lm.device)
            waiting = []
        waiting.append(row)
    if waiting:
        yield collate(waiting, lm.tokenizer.pad_token_id, lm.device)


def batched(lm: LM, rows: Sequence[Encoded]) -> Iterator[Batch]:
    """The same of rows without names."""
    return _batched(lm, [("", row) for row in rows])


# -- risk and its gradient ------------------------------------------------------------------------


def risk(lm: LM, items: Sequence[Example]) -> Callable[[], Tensor]:
    """The mean negative log-likelihood of the answers' tokens, in nats, computed anew each call.

    All of the items are in one graph; for a gradient alone :func:`risk_gradient` needs less memory.
    """
    batches = list(_batched(lm, encode_all(lm, items, role="measured")))
    total = sum(_supervised(batch) for batch in batches)

    def loss() -> Tensor:
        return torch.stack([_summed(lm.model, batch) for batch in batches]).sum() / total

    return loss


def risk_gradient(lm: LM, items: Sequence[Example]) -> Tensor:
    """The gradient of the risk by every weight, (P,), in single precision at least."""
    weights = list(lm.model.parameters())
    total, found = 0, None
    with still(lm.model):
        for batch in _batched(lm, encode_all(lm, items, role="measured")):
            total += _supervised(batch)
            part = gradient(_summed(lm.model, batch), weights)
            found = part if found is None else found.add_(part)
    assert found is not None  # encode_all refuses an empty list
    return found.div_(total)


def _supervised(batch: Batch) -> int:
    return max(1, int((batch.labels[:, 1:] != IGNORED).sum()))


def _summed(model: Any, batch: Batch) -> Tensor:
    return token_losses(model(**batch.inputs(), use_cache=False).logits, batch.labels).sum()


# -- groups of weights ----------------------------------------------------------------------------


def by_layer(model: nn.Module) -> Split:
    """``embedding``, ``block 0`` and so on, ``head`` (final norm included), first to last."""
    homes = _homes(model)
    depth = len(blocks(model))
    order = ["embedding", *(f"block {index}" for index in range(depth)), "head"]
    return _grouped(model, order, lambda weight, _name: homes.get(id(weight), "head"))


def by_kind(model: nn.Module) -> Split:
    """``embeddings``, ``attention``, ``mlp``, ``norms``, ``head``; ``other`` for what is neither.

    A head tied to the embedding counts as embedding.
    """
    norms = {
        id(weight)
        for module in model.modules()
        if "norm" in type(module).__name__.lower()
        for weight in module.parameters(recurse=False)
    }
    homes = _homes(model)

    def kind(weight: nn.Parameter, name: str) -> str:
        home = homes.get(id(weight), "head")
        if id(weight) in norms:
            return "norms"
        if not home.startswith("block"):
            return "embeddings" if home == "embedding" else "head"
        words = name.lower()
        if "attn" in words or "attention" in words:
            return "attention"
        return "mlp" if any(word in words for word in ("mlp", "ffn", "feed", "expert")) else "other"

    order = ["embeddings", "attention", "mlp", "norms", "head", "other"]
    return _grouped(model, order, kind)


def _homes(model: nn.Module) -> dict[int, str]:
    homes = {
        id(weight): "embedding"
        for module in model.modules()
        if isinstance(module, nn.Embedding)
        for weight in module.parameters()
    }
    for index, block in enumerate(blocks(model)):
        homes |= {id(weight): f"block {index}" for weight in block.parameters()}
    return homes


def _grouped(
    model: nn.Module, order: Sequence[str], name_of: Callable[[nn.Parameter, str], str]
) -> Split:
    found: dict[str, list[int]] = {name: [] for name in order}
    for place, (name, weight) in enumerate(model.named_parameters()):
        found[name_of(weight, name)].append(place)
    return {name: places for name, places in found.items() if places}


def split_groups(vector: Tensor, model: nn.Module, groups: Split) -> dict[str, Tensor]:
    """The parts of a vector (P,) over the model's parameters that belong to each group, each flat;
    the whole under the empty name."""
    sizes = [weight.numel() for weight in model.parameters()]
    parts = vector.split(sizes)
    cut = {name: torch.cat([parts[place] for place in places]) for name, places in groups.items()}
    return {"": vector, **cut}


# -- intervals ------------------------------------------------------------------------------------


def unknown(what: str, why: str, unit: str = "") -> Reading:
    """A reading that could not be taken."""
    return Reading(what=what, estimate=Estimate(value=None, note=why), unit=unit)


def mean_of(values: Sequence[float], note: str = "") -> Estimate:
    """The mean of independent repeats with Student's 95 % interval; one repeat has no interval."""
    count, mean = len(values), math.fsum(values) / len(values)
    if count < 2:
        return Estimate(value=mean, n=count, note=note)
    spread = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (count - 1) / count)
    half = _student(count - 1) * spread
    return Estimate(value=mean, low=mean - half, high=mean + half, n=count, note=note)


@lru_cache(maxsize=64)
def _student(freedom: int) -> float:
    from scipy.stats import t

    return float(t.ppf(0.975, freedom))


def over_entities(
    scores: Sequence[float] | Floats, items: Sequence[Example], *, seed: int, shares: bool = False
) -> Estimate:
    """The mean score of items, its 95 % interval by a bootstrap over entities.

    The phrasings and facts of an entity stand and fall together, so whole entities are drawn.
    ``shares``: scores are in [0, 1]; where all are 0, or all 1, Wilson's interval over entities
    stands in for a width of nothing.
    """
    values = np.asarray(scores, dtype=np.float64)
    owners: dict[str, int] = {}
    owner = np.array([owners.setdefault(i.entity or i.fact or i.id, len(owners)) for i in items])
    count = len(owners)
    sums = np.bincount(owner, weights=values, minlength=count)
    sizes = np.bincount(owner, minlength=count).astype(np.float64)
    mean = float(values.mean())
    picks = np.random.default_rng(seed_for(seed, "entities")).integers(0, count, (_DRAWS, count))
    drawn = sums[picks].sum(1) / sizes[picks].sum(1)
    low, high = (float(end) for end in np.quantile(drawn, [0.025, 0.975]))
    if shares and mean in (0.0, 1.0):
        from scipy.stats import binomtest

        ends = binomtest(round(mean * count), count).proportion_ci(method="wilson")
        low, high = float(ends.low), float(ends.high)
    return Estimate(value=mean, low=min(low, mean), high=max(high, mean), n=count)
