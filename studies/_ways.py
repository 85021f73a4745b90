"""Every way to use an adversary that was trained against a frozen model, beside plain LoRA.

A network that writes attacks is worth its training only where what it writes beats a fine-tune of
equal compute. So each way stands beside one that may spend the same floating-point operations,
training of the network included.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from titer.attacks.finetune import Finetune
from titer.attacks.hypernet import Hypernet
from titer.core.data import Example, World
from titer.core.errors import BadInput
from titer.core.lm import LM
from titer.core.method import Run, seed_for
from titer.core.protocol import HARM, SELECT, is_utility
from titer.core.records import Budget
from titer.hypernet.adversary import Adversary
from titer.hypernet.export import fold, save_adapter
from titer.train.batches import Batch, collate, encode_all
from titer.trial.probes import Probe, ask, judge, probes

__all__ = ["Way", "ways"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One way of attacking and what it brought: scores an item of held-out harm, mean utility, both
    in [0, 1], and what it cost. ``lora`` is the plain fine-tune of equal operations, in ``lora``'s
    own words, None for that itself."""

    name: str
    harm: tuple[float, ...]
    utility: float
    steps: int
    flops: float
    lora: Way | None = None

    @property
    def mean(self) -> float:
        """The share of held-out harm."""
        return sum(self.harm) / len(self.harm)


def ways(
    lm: LM,
    world: World,
    domain: str,
    attack: Hypernet,
    *,
    steps: int,
    seed: int = 0,
    lora_lr: float = 3e-3,
    warm_steps: int = 30,
    best_of: int = 3,
    items: int = 32,
    source: LM | None = None,
    adapter: Path | None = None,
) -> list[Way]:
    """Attack ``lm`` in each way; nothing of it changes.

    *prompts*: trained a prompt at a time, then a patch of its own for each held-out prompt, with no
    further training. *universal*: one patch for all, written to the folder ``adapter`` for PEFT
    if one is given. *warm start*: LoRA from there. *best of n*: the universal patch of several
    seeds that does best on the selection split. *transfer*: trained against ``source``, a model of
    the same shape, and used as it is.

    Raises:
        BadInput: the attack's edit is no change of weights, or ``source`` has another shape.
    """
    bench = _Bench(lm, world, domain, attack, steps, seed, items)
    found: list[Way] = []
    run = bench.run("prompts")
    single = replace(attack, conditioning="sample", warm=0.0)
    adversary, _ = single.train(lm, run)
    found.append(bench.zero_shot("prompts", adversary, run))
    found += bench.universal(adapter, warm_steps, lora_lr)
    found.append(bench.best(best_of))
    if source is not None:
        found.append(bench.transfer(source))
    return [replace(way, lora=bench.plain(way, lora_lr)) for way in found]


class _Bench:
    """The model under attack, and what is asked of it."""

    def __init__(
        self,
        lm: LM,
        world: World,
        domain: str,
        attack: Hypernet,
        steps: int,
        seed: int,
        items: int,
    ) -> None:
        self.lm, self.steps, self.seed = lm, steps, seed
        self.attack = replace(attack, conditioning="universal", warm=0.0)
        self.data = world.attacker(domain)
        known = probes(world, domain, items)
        self.harm = next(probe for probe in known if probe.name == HARM)
        self.select = next(probe for probe in known if probe.name == SELECT)
        self.utility = [probe for probe in known if is_utility(probe.name)]
        self.spent = Run(budget=Budget(), data=self.data)
        self.adversary: Adversary | None = None

    def run(self, name: str, budget: Budget | None = None) -> Run:
        seed = seed_for(self.seed, name)
        return Run(budget=budget or Budget(steps=self.steps), data=self.data, seed=seed)

    def way(self, name: str, out: LM, run: Run, *, times: int = 1) -> Way:
        """A model that came out, judged."""
        return Way(
            name=name,
            harm=_scores(out, self.harm),
            utility=self.useful(out),
            steps=run.spent.steps * times,
            flops=run.spent.flops * times,
        )

    def useful(self, lm: LM) -> float:
        found = [score for probe in self.utility for score in _scores(lm, probe)]
        return sum(found) / len(found) if found else 1.0

    def zero_shot(self, name: str, adversary: Adversary, run: Run) -> Way:
        """Each held-out prompt under the patch written for it; utility under the patches of benign
        prompts, likewise."""
        forward = 2.0 * self.lm.parameters_in_matmuls()
        harm, cost = self._one_by_one(adversary, self.harm, forward)
        kept = [self._one_by_one(adversary, probe, forward)[0] for probe in self.utility]
        useful = [score for scores in kept for score in scores]
        return Way(
            name=name,
            harm=tuple(harm),
            utility=sum(useful) / len(useful) if useful else 1.0,
            steps=run.spent.steps,
            flops=run.spent.flops + cost,
        )

    def _one_by_one(
        self, adversary: Adversary, probe: Probe, forward: float
    ) -> tuple[list[float], float]:
        found: list[float] = []
        cost = 0.0
        for item in probe.items:
            batch = _batch(self.lm, [item])
            cost += adversary.flops(batch, forward, trained=False)
            with torch.no_grad(), adversary.attacking(self.lm.model, batch):
                found += _scores(self.lm, replace(probe, items=(item,)))
        return found, cost

    def universal(self, adapter: Path | None, warm_steps: int, lora_lr: float) -> list[Way]:
        """One patch for all prompts, alone and as the start of LoRA; written to ``adapter``."""
        run = self.run("universal")
        adversary, batch = self.attack.train(self.lm, run)
        out = self.attack.written(self.lm, adversary, batch)
        if adapter is not None:
            patch = adversary.patch(self.lm.model, batch, pooled=True)
            save_adapter(self.lm.model, adversary.edit, patch, adapter)
        found = [self.way("universal", out, run)]
        warm = self.run("warm start", Budget(steps=warm_steps))
        tuned = Finetune(lr=lora_lr, parameters="lora", batch_size=self.attack.batch_size)(
            out, warm
        )
        after = self.way(f"warm start, {warm_steps} steps", tuned, warm)
        total = replace(
            after, steps=after.steps + run.spent.steps, flops=after.flops + run.spent.flops
        )
        return [*found, total]

    def best(self, count: int) -> Way:
        """The best of several seeds on the selection split, charged for all of them."""
        tried: list[tuple[float, LM, Run]] = []
        for number in range(count):
            run = self.run(f"best {number}")
            out = self.attack(self.lm, run)
            chosen = _scores(out, self.select)
            tried.append((sum(chosen) / max(1, len(chosen)), out, run))
        _, out, run = max(tried, key=lambda one: one[0])
        return self.way(f"best of {count}", out, run, times=count)

    def transfer(self, source: LM) -> Way:
        run = self.run("transfer")
        adversary, batch = self.attack.train(source, run)
        out = self.lm.clone()
        sites = adversary.network.sites
        if [site for site in adversary.edit.sites(out.model)] != sites:
            raise BadInput("transfer: the two models differ in shape; give one of the same shape.")
        fold(out.model, adversary.edit, adversary.patch(source.model, batch, pooled=True))
        return self.way("transfer", out, run)

    def plain(self, way: Way, lr: float) -> Way:
        """LoRA on the same data until it has spent what ``way`` has."""
        run = self.run("plain", Budget(steps=100 * max(1, way.steps), flops=way.flops))
        return self.way("LoRA of equal compute", self._lora(lr)(self.lm, run), run)

    def _lora(self, lr: float) -> Finetune:
        return Finetune(lr=lr, parameters="lora", batch_size=self.attack.batch_size)


def _batch(lm: LM, items: Sequence[Example]) -> Batch:
    return collate(encode_all(lm, items, role="report"), lm.tokenizer.pad_token_id, lm.device)


def _scores(lm: LM, probe: Probe) -> tuple[float, ...]:
    return judge([probe], ask(lm, [probe]))[probe.name]
