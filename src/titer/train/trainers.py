"""TRL's trainers driven in the place of our loop: budget, looks, rates and logs are a run's all the
same, and of what TRL does to a model nothing stays but the weights."""

from __future__ import annotations

import copy
import importlib
import math
import random
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from titer.core.errors import BadInput, Diverged
from titer.core.lm import LM
from titer.core.method import Run
from titer.nn.chance import seeded
from titer.nn.trainable import Trainable
from titer.train.loop import Recipe, doubt
from titer.train.optimisers import build_optimiser, multiplier

__all__ = ["Job", "Step", "dataset", "library", "named_after"]


@dataclass(kw_only=True)
class Step:
    """The price of a step, the most it can be before it is taken and then what it was."""

    ids: tuple[str, ...]
    tokens: int
    flops: float
    loss: float = math.nan


@dataclass(kw_only=True)
class Job:
    """A training that TRL does on ``ready``, in place."""

    ready: Trainable
    run: Run
    recipe: Recipe
    steps: int
    price: Callable[[int], Step]
    settings: Mapping[str, Any]
    now: Step = field(init=False)

    def train(self, kind: str, made: Callable[[Any, dict[str, Any]], Any], **fields: Any) -> None:
        """Train by ``made(config, parts)``, a trainer; ``kind`` names its configuration.

        Raises:
            Diverged: the loss, the gradient or the final weights are not finite.
        """
        lm, run = self.ready.lm, self.run
        doubt(self.ready.weights, run)
        if not self._affordable(0):
            return
        seed = run.rng("trl").getrandbits(31)
        with (
            tempfile.TemporaryDirectory() as place,
            _as_it_was(lm.model),
            _kept(),
            seeded(seed, lm.device),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore", FutureWarning)  # between transformers and TRL
            config = self._config(kind, {**self._basics(place, seed), **fields})
            trainer = made(config, self._parts())
            trainer.remove_callback(_transformers("PrinterCallback"))
            trainer.train()
        if not all(bool(torch.isfinite(weight).all()) for weight in self.ready.weights):
            raise Diverged(
                f"after {run.spent.steps} steps some weights are not finite; "
                "lower the learning rate."
            )

    def _config(self, kind: str, fields: dict[str, Any]) -> Any:
        try:
            return getattr(library(), kind)(**{**fields, **self.settings})
        except (TypeError, ValueError) as error:
            raise BadInput(
                f"engine=trl: {kind} does not take {dict(self.settings)}: {error}"
            ) from error

    def _basics(self, place: str, seed: int) -> dict[str, Any]:
        return {
            "output_dir": place,
            "max_steps": self.steps,
            "seed": seed,
            "max_grad_norm": self.recipe.clip,
            "logging_steps": 1,
            "logging_nan_inf_filter": False,
            "save_strategy": "no",
            "report_to": [],
            "disable_tqdm": True,
            "bf16": False,
            "gradient_checkpointing": False,
            "disable_dropout": True,
            "use_cpu": self.ready.lm.device.type == "cpu",
        }

    def _parts(self) -> dict[str, Any]:
        recipe, steps = self.recipe, self.steps
        group: Any = {
            "params": self.ready.weights,
            "lr": recipe.lr,
            "weight_decay": recipe.weight_decay,
        }
        optimiser = build_optimiser(recipe.optimiser, [group])
        warmup = round(recipe.warmup * steps)
        rates = torch.optim.lr_scheduler.LambdaLR(
            optimiser, lambda step: multiplier(recipe.schedule, step, steps, warmup)
        )
        return {
            "model": self.ready.lm.model,
            "processing_class": self.ready.lm.tokenizer,
            "optimizers": (optimiser, rates),
            "callbacks": [_watch(self)],
        }

    # -- what the trainer tells -----------------------------------------------------------------

    def begins(self) -> None:
        self._look()
        self.now = self.price(self.run.spent.steps - self._first)

    def told(self, logs: Mapping[str, Any]) -> None:
        if any(not math.isfinite(logs.get(name, 0.0)) for name in ("loss", "grad_norm")):
            raise Diverged(
                f"after {self.run.spent.steps} steps the loss is {logs['loss']} and the gradient "
                f"norm {logs.get('grad_norm')}; lower the learning rate or clip."
            )

    def ended(self, rate: float, more: Callable[[], None]) -> None:
        """Charge and log the step, look, and call ``more`` where no further one is to be taken."""
        now = self.now
        self.run.charge(steps=1, tokens=now.tokens, examples=now.ids, flops=now.flops)
        self.run.log(now.loss, rate)
        self._look()
        if self.run.exhausted() or not self._affordable(self.run.spent.steps - self._first):
            more()

    def __post_init__(self) -> None:
        self._first = self.run.spent.steps

    def _affordable(self, step: int) -> bool:
        if step >= self.steps:
            return False
        most = self.price(step)
        return self.run.affords(tokens=most.tokens, examples=most.ids, flops=most.flops)

    def _look(self) -> None:
        if not self.run.due():
            return
        lm = self.ready.lm
        with _own_forward(lm.model), seeded(0, lm.device):
            lm.model.eval()
            self.run.look(lm)


def _watch(job: Job) -> Any:
    """The job's ear at a trainer."""

    class Watch(_transformers("TrainerCallback")):
        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            job.begins()
            rates = kwargs["optimizer"].param_groups
            self.rate = float(rates[0]["lr"])

        def on_log(self, args: Any, state: Any, control: Any, logs: Any, **kwargs: Any) -> None:
            job.told(logs)
            if "loss" in logs and math.isnan(job.now.loss):
                job.run.losses[-1] = float(logs["loss"])

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            job.ended(self.rate, lambda: setattr(control, "should_training_stop", True))

    return Watch()


def library() -> Any:
    """TRL itself; being imported draws numbers."""
    with _kept():
        return importlib.import_module("trl")


def _transformers(name: str) -> Any:
    return getattr(importlib.import_module("transformers"), name)


def dataset(rows: Sequence[Mapping[str, Any]]) -> Any:
    return importlib.import_module("datasets").Dataset.from_list(list(rows))


@contextmanager
def _kept() -> Iterator[None]:
    """Python's and NumPy's generators are as before."""
    kept, drawn = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(kept)
        np.random.set_state(drawn)


@contextmanager
def named_after(model: Any, start: LM | None) -> Iterator[None]:
    """TRL loads a policy's reference from where its configuration says it came from."""
    if start is None:
        yield
        return
    before = model.config._name_or_path  # noqa: SLF001
    with tempfile.TemporaryDirectory() as place:
        start.clone().save(place, as_held=True)  # saving writes into a configuration
        model.config._name_or_path = place  # noqa: SLF001
        try:
            yield
        finally:
            model.config._name_or_path = before  # noqa: SLF001


@contextmanager
def _own_forward(model: Any) -> Iterator[None]:
    """Without the forward pass that TRL has put on, which a copy would share with the original."""
    wrapped = vars(model).pop("forward", None)
    try:
        yield
    finally:
        if wrapped is not None:
            model.forward = wrapped


@contextmanager
def _as_it_was(model: Any) -> Iterator[None]:
    """A trainer changes a model in place beyond its weights; all of that is undone."""
    held = {name: copy.deepcopy(getattr(model, name)) for name in ("config", "generation_config")}
    attributes = set(vars(model))
    rates = [(part, part.p) for part in model.modules() if isinstance(part, nn.Dropout)]
    try:
        yield
    finally:
        for name in set(vars(model)) - attributes:
            delattr(model, name)
        for part, rate in rates:
            part.p = rate
        for name, value in held.items():
            vars(getattr(model, name)).clear()
            vars(getattr(model, name)).update(vars(value))
        model.eval()
