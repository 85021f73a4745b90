"""Penalties on how the loss of other environments changes with the weights.

Each adds its gradient to ``.grad`` and returns its value. B rows, T tokens, V vocabulary, D width,
P trained weights, K disjoint parts of an environment's batch, E environments.

A penalty is a square, or a product, of something estimated from a batch. The square of an estimate
is too large by its variance, so by default only products of *different* parts are taken: with two
parts the product of the halves, with K the U-statistic. It may be negative, and is not clamped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, assert_never

import torch
from torch import Tensor
from torch.nn import Parameter

from titer.train.batches import IGNORED, Batch
from titer.train.grads import (
    Form,
    Loss,
    add_hessian_product,
    deposit,
    double_backward,
    exact,
    flat,
    gradient,
    still,
    trained,
)
from titer.train.objectives import row_scale_slopes, single, token_losses

__all__ = ["Kind", "Penalty", "Place", "Price", "split"]

Kind = Literal[
    "loss",
    "logit_scale",
    "param_scale",
    "grad_norm",
    "v_rex",
    "iga",
    "fishr",
    "interaction",
]
"""``logit_scale`` (IRMv1 proper): squared slope of the loss as the logits are scaled.
``param_scale``: as the trained weights are scaled. ``grad_norm``: squared length of the gradient.
``v_rex``: variance of the losses over environments. ``iga``: of the gradients. ``fishr``: spread,
over environments, of the variance of the head's gradients a row. ``interaction``: how far a step on
the environment undoes forgetting. ``loss``: no penalty, the loss itself (a control)."""


@dataclass(frozen=True)
class Place:
    """An environment at one step: a batch, where the weights are to stand for it, its weight.

    ``moved(model)`` is a context in which they stand there; gradients found there are taken as
    those at the weights, the displacement being held constant.
    """

    batch: Batch
    moved: Callable[[Any], AbstractContextManager[None]] = nullcontext
    weight: float = 1.0


@dataclass(frozen=True)
class Price:
    """What a penalty costs beyond the passes already counted: in passes forward and backward and in
    forward passes over the environments' batches, and in passes over the forget batch."""

    passes: float = 0.0
    forwards: float = 0.0
    forget: float = 0.0


def split(batch: Batch, parts: int) -> list[Batch]:
    """Rows 0, K, 2K … in the first part, 1, K+1 … in the second, and so on; empty parts left out.

    Tokens are counted anew from the mask; the batch is padded, not packed.
    """
    found: list[Batch] = []
    for start in range(min(parts, len(batch.input_ids))):
        mask = batch.attention_mask[start::parts]
        found.append(
            Batch(
                batch.input_ids[start::parts],
                mask,
                batch.labels[start::parts],
                batch.ids[start::parts],
                int(mask.sum()),
            )
        )
    return found


def _supervised(batch: Batch) -> int:
    return max(1, int((batch.labels[:, 1:] != IGNORED).sum()))


def _logits(model: Any, batch: Batch) -> Tensor:
    return model(**batch.inputs(), use_cache=False).logits


def _loss(model: Any, batch: Batch) -> Tensor:
    """Sum of the losses of supervised tokens."""
    return token_losses(_logits(model, batch), batch.labels).sum()


def _slope(model: Any, batch: Batch) -> Tensor:
    """Sum over supervised tokens of the slope as the logits are scaled."""
    return row_scale_slopes(_logits(model, batch), batch.labels).sum()


@dataclass(frozen=True)
class _Product:
    """``A (|S|² − Σ|s_k|²)`` of sums ``s_k`` over K parts with N tokens in all, ``S = Σ s_k``.

    With ``n_k`` rows in part k and n in all, a share ``1 − Σ n_k²/n²`` of the pairs of rows lies in
    two parts, so ``A = 1 / ((1 − Σ n_k²/n²) N²)``: ``K / ((K−1) N²)`` where parts are equal. With
    ``unbiased`` false the squares stay in and ``A = 1/N²``. Means are over the tokens of all parts:
    a mean within each would be biased. Where answers are of unlike length N is random too, and what
    is left is a ratio's bias: within two per cent from sixteen rows on.
    """

    rows: tuple[int, ...]
    tokens: int
    unbiased: bool

    @property
    def factor(self) -> float:
        share = 1.0
        if self.unbiased:
            whole = sum(self.rows)
            share -= sum(rows * rows for rows in self.rows) / (whole * whole)
        return 1.0 / (share * self.tokens**2)

    def value(self, total: Tensor, squares: Tensor | float) -> float:
        """From ``S`` and ``Σ|s_k|²``."""
        whole = total.flatten().dot(total.flatten())
        return self.factor * float(whole - squares if self.unbiased else whole)

    def pull(self, total: Tensor, part: Tensor) -> Tensor:
        """The derivative by ``s_k``."""
        left = total - part if self.unbiased else total.clone()
        return left.mul_(2.0 * self.factor)


@dataclass(kw_only=True)
class Penalty:
    """One penalty with its estimator.

    ``parts``: how many disjoint parts an environment's batch is taken in, each with the memory of
    its own size; two are the split halves, and a batch of one row has no parts. ``form``: how
    second derivatives are taken, and ``radius`` how far the weights move for a difference.
    ``unbiased``: leave the squares out.
    ``smoothing``: what a step's variances keep of the earlier ones, for ``fishr``, whose only state
    this is.
    """

    kind: Kind
    parts: int = 2
    form: Form = "auto"
    radius: float = 0.003
    unbiased: bool = True
    smoothing: float = 0.95
    _seen: dict[int, Tensor] = field(default_factory=dict[int, Tensor])

    def add(
        self, model: Any, places: Sequence[Place], scale: float, forget: Callable[[], Tensor]
    ) -> float:
        """Add ``scale`` times the gradient of the penalty to ``.grad``; returns the penalty.

        ``forget`` computes the loss whose undoing ``interaction`` looks for.
        """
        with still(model):
            match self.kind:
                case "v_rex":
                    return self._variance_of_losses(model, places, scale)
                case "iga":
                    return self._variance_of_gradients(model, places, scale)
                case "fishr":
                    return self._variance_of_variances(model, places, scale)
                case _:
                    return sum(
                        place.weight * self._of_one(model, place, scale * place.weight, forget)
                        for place in places
                    )

    def _of_one(
        self, model: Any, place: Place, scale: float, forget: Callable[[], Tensor]
    ) -> float:
        batch = place.batch
        with self._differentiable(model), place.moved(model):
            match self.kind:
                case "logit_scale":
                    return self._logit_scale(model, batch, scale)
                case "param_scale":
                    return self._param_scale(model, batch, scale)
                case "grad_norm":
                    return self._grad_norm(model, batch, scale)
                case "interaction":
                    return self._interaction(model, batch, scale, forget)
                case _:
                    return _plain(model, batch, scale)

    def price(self, half_precision: bool = False) -> Price:
        """What :meth:`add` costs beyond one pass over each environment's batch.

        A double backward counts as two passes on top of the one it differentiates.
        """
        doubled = self.form == "exact" or (self.form == "auto" and half_precision)
        product = 3.0 if doubled else 1.0
        again = 0.0 if self.parts == 2 else 1.0
        match self.kind:
            case "loss":
                return Price()
            case "logit_scale":
                return Price(forwards=0.0 if self.parts == 2 else 1.0)
            case "param_scale" | "grad_norm":
                return Price(passes=product + again)
            case "v_rex" | "fishr":
                return Price(forwards=1.0)
            case "iga":
                return Price(passes=product)
            case "interaction":
                return Price(passes=product, forget=1.0 + product)
            case _:
                assert_never(self.kind)

    @contextmanager
    def _differentiable(self, model: Any) -> Iterator[None]:
        second = self.kind in ("param_scale", "grad_norm", "iga", "interaction")
        with (
            double_backward(model) if second and exact(self.form, trained(model)) else nullcontext()
        ):
            yield

    def _parted(self, batch: Batch) -> tuple[list[Batch], _Product]:
        parts = split(batch, self.parts) if self.unbiased or self.parts > 2 else [batch]
        tokens = sum(_supervised(part) for part in parts)
        rows = tuple(len(part.input_ids) for part in parts)
        return parts, _Product(rows, tokens, self.unbiased and len(parts) > 1)

    # -- one environment ----------------------------------------------------------------------

    def _logit_scale(self, model: Any, batch: Batch, scale: float) -> float:
        """Squared ``g = ∂/∂w E[CE(w z, y)]`` at 1, in closed form: no double backward."""
        parts, product = self._parted(batch)
        if len(parts) <= 2:  # both halves in one pass
            rows = row_scale_slopes(_logits(model, batch), batch.labels)
            sums = torch.stack([rows[k :: len(parts)].sum() for k in range(len(parts))])
            total, known = sums.detach().sum(), sums.detach()
            (scale * (product.pull(total, known) * sums).sum()).backward()
        else:
            with torch.no_grad():
                known = torch.stack([_slope(model, part) for part in parts])
            total = known.sum()
            for part, value in zip(parts, known, strict=True):
                (scale * product.pull(total, value) * _slope(model, part)).backward()
        return product.value(total, known.pow(2).sum())

    def _param_scale(self, model: Any, batch: Batch, scale: float) -> float:
        """Squared ``g = <θ, ∇ℓ>`` over the weights that train; ``∇g = ∇ℓ + Hθ``."""
        weights = trained(model)
        start = flat(weights)
        parts, product = self._parted(batch)
        # Two vectors are kept; of more parts only the sums, and the vectors are found again.
        kept = [gradient(_loss(model, part), weights) for part in parts] if len(parts) <= 2 else []
        found = kept or (gradient(_loss(model, part), weights) for part in parts)
        sums = torch.stack([torch.dot(start, vector) for vector in found])
        for k, part in enumerate(parts):
            vector = kept[k] if kept else gradient(_loss(model, part), weights)
            pull = scale * float(product.pull(sums.sum(), sums[k]))
            deposit(weights, vector, pull)
            self._bend(partial(_loss, model, part), weights, start, vector, pull)
        return product.value(sums.sum(), sums.pow(2).sum())

    def _grad_norm(self, model: Any, batch: Batch, scale: float) -> float:
        """Squared ``‖∇ℓ‖``, whose gradient is twice the Hessian times the gradient."""
        weights = trained(model)
        parts, product = self._parted(batch)
        # Two vectors are kept; of more parts only the sum, and the vectors are found again.
        kept = [gradient(_loss(model, part), weights) for part in parts] if len(parts) <= 2 else []
        total, squares = None, 0.0
        for vector in kept or (gradient(_loss(model, part), weights) for part in parts):
            total = vector.clone() if total is None else total.add_(vector)
            squares += float(vector.dot(vector))
        assert total is not None  # a batch has a row
        for k, part in enumerate(parts):
            vector = kept[k] if kept else gradient(_loss(model, part), weights)
            pull = product.pull(total, vector)
            self._bend(partial(_loss, model, part), weights, pull, vector, scale)
        return product.value(total, squares)

    def _interaction(
        self, model: Any, batch: Batch, scale: float, forget: Callable[[], Tensor]
    ) -> float:
        """``relu(−<∇ℓ_u, ∇ℓ_i>)``: to first order, how much a unit step on i undoes forgetting."""
        weights, tokens = trained(model), _supervised(batch)
        ours = gradient(forget(), weights)
        theirs = gradient(_loss(model, batch) / tokens, weights)
        product = float(torch.dot(ours, theirs))
        if product < 0:
            self._bend(forget, weights, theirs, ours, -scale)
            self._bend(lambda: _loss(model, batch) / tokens, weights, ours, theirs, -scale)
        return max(0.0, -product)

    def _bend(
        self, loss: Loss, weights: list[Parameter], vector: Tensor, here: Tensor, scale: float
    ) -> None:
        """Add ``scale`` times the loss's Hessian times ``vector`` to ``.grad``."""
        add_hessian_product(
            loss, weights, vector, scale=scale, here=here, form=self.form, radius=self.radius
        )

    # -- several environments -----------------------------------------------------------------

    def _variance_of_losses(self, model: Any, places: Sequence[Place], scale: float) -> float:
        """``Σ_e w_e (R_e − R̄)² / E``. Source: Krueger et al. 2020, arXiv:2003.00688."""
        risks: list[float] = []
        for place in places:
            with torch.no_grad(), place.moved(model):
                risks.append(float(_loss(model, place.batch)) / _supervised(place.batch))
        mean = sum(risks) / len(risks)
        spread = [place.weight * (risk - mean) for place, risk in zip(places, risks, strict=True)]
        drift = sum(spread) / len(spread)
        for place, off in zip(places, spread, strict=True):
            pull = 2.0 * (off - drift) / len(places)
            with place.moved(model):
                _plain(model, place.batch, scale * pull)
        return sum(off * (risk - mean) for off, risk in zip(spread, risks, strict=True)) / len(
            places
        )

    def _variance_of_gradients(self, model: Any, places: Sequence[Place], scale: float) -> float:
        """``Σ_e w_e ‖g_e − ḡ‖² / E``. Source: Koyama and Yamaguchi 2020, arXiv:2008.01883."""
        weights = trained(model)
        found: list[Tensor] = []
        for place in places:
            with place.moved(model):
                found.append(
                    gradient(_loss(model, place.batch) / _supervised(place.batch), weights)
                )
        mean = torch.stack(found).mean(0)
        spread = [place.weight * (g - mean) for place, g in zip(places, found, strict=True)]
        drift = torch.stack(spread).mean(0)
        value = 0.0
        for place, off, here in zip(places, spread, found, strict=True):
            value += float(torch.dot(off, here - mean)) / len(places)
            pull = 2.0 * (off - drift) / len(places)
            tokens = _supervised(place.batch)
            with self._differentiable(model), place.moved(model):
                loss = partial(_loss, model, place.batch)
                self._bend(loss, weights, pull, tokens * here, scale / tokens)
        return value

    def _variance_of_variances(self, model: Any, places: Sequence[Place], scale: float) -> float:
        """Mean squared distance of each environment's variance of head gradients from their mean.

        The gradient by the head of row b is ``Σ_t (p − y) ⊗ h / n_b``, in closed form, which takes
        the memory of B heads. Each environment is passed twice, as the weights must still stand in
        its place when they are differentiated. Source: Rame et al. 2021, arXiv:2109.02934.
        """
        variances: list[Tensor] = []
        for index, place in enumerate(places):
            with torch.no_grad(), place.moved(model):
                now = _head_variance(model, place.batch)
            before = self._seen.get(index, torch.zeros_like(now))
            self._seen[index] = self.smoothing * before + (1.0 - self.smoothing) * now
            # As its authors do: the pull on this step's variance is that without smoothing.
            variances.append(self._seen[index] / (1.0 - self.smoothing))
        mean = torch.stack(variances).mean(0)
        spread = [place.weight * (v - mean) for place, v in zip(places, variances, strict=True)]
        drift = torch.stack(spread).mean(0)
        value = 0.0
        for place, off, variance in zip(places, spread, variances, strict=True):
            value += float((off * (variance - mean)).mean()) / len(places)
            pull = (2.0 * scale / (len(places) * len(mean))) * (off - drift)
            with place.moved(model):
                torch.dot(pull, _head_variance(model, place.batch)).backward()
        return value


def _plain(model: Any, batch: Batch, scale: float) -> float:
    loss = _loss(model, batch) / _supervised(batch)
    (scale * loss).backward()
    return float(loss.detach())


def _head_variance(model: Any, batch: Batch) -> Tensor:
    """Variance over rows of each row's gradient by the head, (V · D,)."""
    out = model(**batch.inputs(), use_cache=False, output_hidden_states=True)
    hidden_BTD, logits_BTV = single(out.hidden_states[-1][:, :-1]), single(out.logits[:, :-1])
    labels = batch.labels[:, 1:]
    mask = labels != IGNORED
    hit = torch.nn.functional.one_hot(labels.clamp(min=0), logits_BTV.shape[-1])
    wrong = (logits_BTV.softmax(-1) - hit) * mask.unsqueeze(-1)
    counts = mask.sum(-1).clamp(min=1)[:, None, None]
    rows = torch.einsum("btv,btd->bvd", wrong, hidden_BTD) / counts
    return (rows - rows.mean(0)).pow(2).mean(0).flatten()
