"""Environments: a named stream of batches, and where the weights stand when it is looked at.

Three axes, freely mixed: which text (``data``), how it is put (``template``, ``phrasing``,
``scramble``) and what an attacker has done to the weights before (``attack``).
"""

from __future__ import annotations

import copy
import json
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Literal, assert_never, cast

import torch
from torch import Tensor, nn

from titer.core.data import Data, Example
from titer.core.errors import BadInput
from titer.core.lm import LM, Template
from titer.core.method import Run, seed_for
from titer.core.records import Budget
from titer.train.batches import IGNORED, Batch, cycle
from titer.train.candidates import candidates
from titer.train.grads import displaced, flat
from titer.train.nested import nested
from titer.train.penalties import Place

__all__ = ["Environment", "environments", "places", "streams"]

Source = Literal["unrelated", "related", "retain", "forget"]
Scramble = Literal["none", "cipher", "random"]
Attack = Literal["none", "noise", "rounding", "adapter", "adversary"]


@dataclass(frozen=True, kw_only=True)
class Environment:
    """One environment, with ``weight`` among the others.

    ``data``: benign text far from the hazard or near it, the retain text, or the forget set itself.
    ``template``: how a prompt is put; ``native`` is the model's own chat. ``phrasing``: only
    examples put this way. ``scramble``: ``cipher`` replaces every ordinary token by another, always
    the same; ``random`` draws each anew, which leaves nothing to be invariant about (a control).
    ``attack``: where the weights stand. ``noise`` of ``size`` times each matrix' spread, an
    ``adapter`` of random factors of rank ``rank`` and ``size`` times each matrix' length,
    ``rounding`` to ``bits``, or where ``adversary`` (a name, a preset or an attack) leaves them
    after ``steps`` steps on the defender's own data, looked up anew at every ``every``-th step.
    Adversaries of several environments that fine-tune alike train side by side.
    """

    data: Source = "unrelated"
    template: Template = "native"
    phrasing: str = ""
    scramble: Scramble = "none"
    attack: Attack = "none"
    size: float = 0.05
    rank: int = 4
    bits: int = 4
    adversary: Any = None
    steps: int = 4
    every: int = 10
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not (0 <= self.size < math.inf and 0 <= self.weight < math.inf):
            raise BadInput(
                f"environment: size={self.size} and weight={self.weight} must not be negative."
            )
        if self.bits < 2 or min(self.rank, self.steps, self.every) < 1:
            raise BadInput("environment: bits is at least 2; rank, steps and every at least 1.")
        if (self.attack == "adversary") != (self.adversary is not None):
            raise BadInput("environment: attack=adversary and an adversary go together.")
        if self.adversary is not None:
            object.__setattr__(self, "adversary", nested("attack", self.adversary))


def environments(given: object) -> tuple[Environment, ...]:
    """What a field gives: environments, mappings of their fields, or names of data (also with
    commas between them, or as JSON).

    Raises:
        BadInput: none, or something else.
    """
    from pydantic import TypeAdapter, ValidationError

    if isinstance(given, str):
        text = given.strip()
        given = json.loads(text) if text[:1] in ("[", "{") else text.split(",")
    if isinstance(given, Environment | Mapping):
        given = [given]
    rows: list[Environment] = []
    for item in cast(Sequence[object], given):
        written = {"data": item.strip()} if isinstance(item, str) else item
        if isinstance(written, Mapping):
            try:
                written = TypeAdapter(Environment).validate_python(
                    {key: value for key, value in written.items() if key != "type"}, extra="forbid"
                )
            except ValidationError as error:
                first = error.errors()[0]
                raise BadInput(f"environment: {first['loc']}: {first['msg']}.") from error
        if not isinstance(written, Environment):
            raise BadInput(f"{item!r} is no environment; give its fields or the name of its data.")
        rows.append(written)
    if not rows:
        raise BadInput("give at least one environment.")
    return tuple(rows)


# -- text -------------------------------------------------------------------------------------


def streams(
    lm: LM, run: Run, rows: Sequence[Environment], batch_size: int
) -> dict[str, Iterator[Batch]]:
    """A stream of padded batches for each environment, named ``environment 0`` and so on.

    Each has a generator of its own, so that adding one changes no other draw.

    Raises:
        BadInput: an environment without examples.
    """
    return {
        f"environment {index}": _stream(lm, run, row, index, batch_size)
        for index, row in enumerate(rows)
    }


def _stream(lm: LM, run: Run, row: Environment, index: int, batch_size: int) -> Iterator[Batch]:
    batches = cycle(
        lm,
        _examples(run.data, row),
        batch_size=batch_size,
        rng=run.rng(f"environment {index} order"),
        template=row.template,
        role=f"environment ({row.data})",
    )
    if row.scramble == "none":
        return batches
    rng = run.rng(f"environment {index} scramble")
    special = set(lm.tokenizer.all_special_ids)
    ordinary = [token for token in range(len(lm.tokenizer)) if token not in special]
    return _scrambled(batches, row.scramble, ordinary, rng)


def _examples(data: Data, row: Environment) -> tuple[Example, ...]:
    found = data.harmful if row.data == "forget" else getattr(data, row.data)
    if row.phrasing:
        kept = tuple(example for example in found if example.phrasing == row.phrasing)
        if not kept:
            known = sorted({example.phrasing for example in found})
            raise BadInput(
                f"environment: no {row.data} example has phrasing {row.phrasing!r}; "
                f"there are {', '.join(known) or 'none'}."
            )
        return kept
    return found


def _scrambled(
    batches: Iterator[Batch], how: Scramble, ordinary: list[int], rng: random.Random
) -> Iterator[Batch]:
    """Replace ordinary tokens; special ones, padding and what carries loss stay."""
    draw = torch.Generator().manual_seed(rng.getrandbits(62))
    known = torch.tensor(ordinary)
    order = known[torch.randperm(len(known), generator=draw)]
    for batch in batches:
        ids = batch.input_ids.cpu()
        plain = torch.isin(ids, known) & batch.attention_mask.cpu().bool()
        if how == "cipher":
            new = order[torch.searchsorted(known, ids).clamp(max=len(known) - 1)]
        else:
            new = known[torch.randint(len(known), ids.shape, generator=draw)]
        ids = torch.where(plain, new, ids).to(batch.input_ids.device)
        labels = torch.where(batch.labels == IGNORED, batch.labels, ids)
        yield replace(batch, input_ids=ids, labels=labels)


# -- weights ----------------------------------------------------------------------------------

Displacement = tuple[list[nn.Parameter], Tensor]
Mover = Callable[[Any, int], Displacement | None]


class _Stand:
    """Where the weights stand for one step: found once, however often it is visited."""

    def __init__(self, move: Mover, reserve: int) -> None:
        self.move, self.reserve = move, reserve
        self.found: Displacement | None = None
        self.looked = False

    def __call__(self, model: Any) -> AbstractContextManager[None]:
        if not self.looked:
            self.found, self.looked = self.move(model, self.reserve), True
        return nullcontext() if self.found is None else displaced(*self.found)


def places(
    lm: LM, run: Run, rows: Sequence[Environment]
) -> Callable[[Mapping[str, Batch], int], list[Place]]:
    """A function from a step's batches by name, and the tokens that the step is yet to be charged
    for, to the places that a penalty looks at."""
    movers = [_mover(lm, run, row, index) for index, row in enumerate(rows)]
    adversaries = [move for move in movers if isinstance(move, _Adversary)]
    for one in adversaries:
        one.beside = adversaries

    def at(batches: Mapping[str, Batch], reserve: int) -> list[Place]:
        return [
            Place(batches[f"environment {index}"], _Stand(move, reserve), row.weight)
            for index, (row, move) in enumerate(zip(rows, movers, strict=True))
        ]

    return at


def _mover(lm: LM, run: Run, row: Environment, index: int) -> Mover:
    draw = torch.Generator().manual_seed(run.rng(f"environment {index} attack").getrandbits(62))

    def by(change: Callable[[Tensor], Tensor]) -> Mover:
        def move(model: Any, _reserve: int) -> Displacement:
            weights = _matrices(model)
            with torch.no_grad():
                return weights, flat([change(weight) for weight in weights])

        return move

    match row.attack:
        case "none":
            return lambda _model, _reserve: None
        case "noise":
            return by(lambda w: row.size * w.float().std() * _normal(w.shape, draw, w.device))
        case "rounding":
            return by(lambda w: _rounded(w.float(), row.bits) - w.float())
        case "adapter":
            return by(lambda w: _low_rank(w, row, draw))
        case "adversary":
            return _Adversary(lm, run, row, index)
        case _:
            assert_never(row.attack)


def _matrices(model: nn.Module) -> list[nn.Parameter]:
    return [weight for weight in model.parameters() if weight.dim() >= 2]


def _normal(shape: Sequence[int], draw: torch.Generator, device: torch.device) -> Tensor:
    return torch.randn(tuple(shape), generator=draw).to(device)


def _rounded(weight: Tensor, bits: int) -> Tensor:
    """Symmetric rounding a row to ``2^bits − 1`` levels, the largest entry kept."""
    levels = 2 ** (bits - 1) - 1
    unit = weight.abs().amax(-1, keepdim=True).clamp(min=1e-12) / levels
    return (weight / unit).round() * unit


def _low_rank(weight: Tensor, row: Environment, draw: torch.Generator) -> Tensor:
    rows, columns = weight.shape[0], weight[0].numel()
    left = _normal((rows, row.rank), draw, weight.device)
    right = _normal((row.rank, columns), draw, weight.device)
    patch = left @ right
    return (row.size * weight.float().norm() / patch.norm()) * patch.view_as(weight)


class _Adversary:
    """The weights as an attack leaves them, found anew now and then; its cost is the defence's."""

    def __init__(self, lm: LM, run: Run, row: Environment, index: int) -> None:
        if run.budget.examples is not None:
            raise BadInput("an adversary as environment cannot run on a budget in examples.")
        self.lm, self.run, self.row, self.index = lm, run, row, index
        # No step costs more a token than some ten passes forward and backward.
        self._dear = 10 * 6.0 * lm.parameters_in_matmuls()
        self.calls = 0
        self.patch: Tensor | None = None
        self.beside: list[_Adversary] = [self]
        self.result: tuple[int, LM | Exception] | None = None

    def __call__(self, model: Any, reserve: int) -> Displacement | None:
        weights = list(model.parameters())
        if self.due():
            self.patch = self._attacked(model, weights, reserve)
        self.calls += 1
        return None if self.patch is None else (weights, self.patch)

    def due(self) -> bool:
        """Whether the next visit looks for the patch anew."""
        return self.calls % self.row.every == 0

    def _attacked(self, model: Any, weights: list[nn.Parameter], reserve: int) -> Tensor | None:
        if self.result is None or self.result[0] != self.calls:
            self._attack(model, reserve)
        assert self.result is not None  # `_attack` has put it there
        after = self.result[1]
        self.result = None
        if isinstance(after, Exception):
            raise after
        return flat(list(after.model.parameters())) - flat(weights)

    def _attack(self, model: Any, reserve: int) -> None:
        """Find the result of this adversary and of those that are due in the same step.

        Where tokens or operations are limited each may spend what those before have left, so they
        take turns.
        """
        own = [name for name, _ in self.lm.model.named_parameters()]
        if own != [name for name, _ in model.named_parameters()]:
            raise BadInput("an adversary as environment needs a base without adapters (full).")
        limited = (self.run.budget.tokens, self.run.budget.flops) != (None, None)
        others = [one for one in self.beside if one.due() and one.calls == self.calls]
        group = [self] if limited else others
        runs = [one.inner(reserve) for one in group]
        start = LM(copy.deepcopy(model), self.lm.tokenizer, self.lm.name)
        with torch.enable_grad():
            tries = [(one.row.adversary, run) for one, run in zip(group, runs, strict=True)]
            found = candidates(start, tries)
        for one, run, after in zip(group, runs, found, strict=True):
            one.result = (one.calls, after)
            self.run.charge(tokens=run.spent.tokens, flops=run.spent.flops)

    def inner(self, reserve: int) -> Run:
        """What the attack may spend: its steps, and what the defence has left."""
        spent, limit = self.run.spent, self.run.budget
        left = Budget(
            steps=self.row.steps,
            tokens=None if limit.tokens is None else max(0, limit.tokens - spent.tokens - reserve),
            flops=None
            if limit.flops is None
            else max(0.0, limit.flops - spent.flops - self._dear * reserve),
        )
        seed = seed_for(self.run.seed, f"environment {self.index} adversary {self.calls}")
        return Run(budget=left, data=self.run.data, seed=seed)
