"""A step of the game between an adversary that writes patches and the model that resists them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from titer.core.lm import LM
from titer.core.method import Run, seed_for
from titer.hypernet.adversary import Adversary, effective_rank, patch_norm
from titer.hypernet.apply import Counted, Patch, applied
from titer.hypernet.edits import LowRank
from titer.hypernet.objectives import (
    Preference,
    Safe,
    drift,
    logits,
    margins,
    preference,
    preferring,
    rivals,
)
from titer.hypernet.sparring import Sparring
from titer.train.batches import Batch, Bundle, bundles, cycle
from titer.train.objectives import cross_entropy, kl_to

__all__ = ["Game", "Rules", "Side", "stream"]

LOOK = 10
"""Patches are measured every so many steps: their singular values cost time and change slowly."""

_LEAST = 1e-20

Side = Literal["attacker", "defender"]


class Rules(Protocol):
    """What a game is played by; :class:`titer.defences.antidote.Antidote` says what each means."""

    @property
    def batch_size(self) -> int: ...
    @property
    def resist_weight(self) -> float: ...
    @property
    def capability_weight(self) -> float: ...
    @property
    def drift_weight(self) -> float: ...
    @property
    def preference(self) -> Preference: ...
    @property
    def beta(self) -> float: ...
    @property
    def safe(self) -> Safe: ...
    @property
    def adversary_lr(self) -> float: ...
    @property
    def adversary_steps(self) -> int: ...
    @property
    def period(self) -> int: ...
    @property
    def head_start(self) -> int: ...
    @property
    def coherent(self) -> float: ...
    @property
    def coupled(self) -> bool: ...
    @property
    def together(self) -> bool: ...
    @property
    def fresh_every(self) -> int: ...
    @property
    def fresh_steps(self) -> int: ...


def stream(rules: Rules, lm: LM, run: Run) -> Iterator[Bundle]:
    """A retain batch, and pairs: number 0 the defender's, the rest the adversary's turns, those
    named ``fresh`` a new adversary's."""
    size, harmful = rules.batch_size, run.data.harmful
    sides = {"wanted": harmful, "unwanted": rivals(harmful, rules.safe)}

    def paired(name: str) -> Iterator[Bundle]:
        # The same chance twice, so that the two sides of a pair stay together.
        return bundles(
            **{
                side: cycle(lm, rows, batch_size=size, rng=run.rng(name), role="harmful")
                for side, rows in sides.items()
            }
        )

    # Those of new adversaries have an order of their own: who looks on changes nothing.
    pairs, others = paired("order pairs"), paired("order fresh pairs")
    rng = run.rng("order retain")
    benign = cycle(lm, run.data.retain, batch_size=size, rng=rng, role="retain")
    for step in count():
        moves = step % rules.period == 0
        turns = (rules.adversary_steps - rules.together) if moves else 0
        turns += rules.head_start if step == 0 else 0
        names = [str(number) for number in range(1 + turns)]
        if audited(rules, step):
            names += [f"fresh {number}" for number in range(rules.fresh_steps)]
        parts = {"benign": next(benign)}
        for name in names:
            pair = next(others if name.startswith("fresh") else pairs)
            parts |= {f"{side} {name}": pair[side] for side in pair.parts}
        yield Bundle(parts)


def audited(rules: Rules, step: int) -> bool:
    """Whether a new adversary tries its hand before this step."""
    return rules.fresh_every > 0 and step > 0 and step % rules.fresh_every == 0


@dataclass
class Game:
    """A step of the game as the training loop takes it: the adversary's turns, then the defender's
    gradient.

    ``course`` gets a row every ten steps and wherever a new adversary was tried: ``step``, the
    defender's ``loss`` and its parts ``resist``, ``capability`` and ``drift``, the ``adversary``'s
    loss, its ``success`` (share of prompts for which its patch makes the harmful answer likelier),
    the ``norm`` and effective ``rank`` of the patch and its ``variety`` over prompts; ``fresh`` is
    the success of the new adversary, on the same prompts. ``renew`` makes the adversary of a place
    anew from a seed. Several ``adversaries`` play by turns, a ``period`` each. ``watch`` is told of
    the model before the adversary's turns (the defender has moved) and after them (the attacker
    has).
    """

    rules: Rules
    start: Any
    adversaries: Sequence[Adversary]
    weights: list[nn.Parameter]
    renew: Callable[[int, int], Adversary] | None = None
    seed: int = 0
    watch: Callable[[Game, Side], None] | None = None
    course: list[dict[str, float]] = field(default_factory=list[dict[str, float]])

    def __post_init__(self) -> None:
        self.partners = [self._partner(adversary) for adversary in self.adversaries]
        self.fresh: Adversary | None = None
        self.steps = 0
        self.last: dict[str, float] = {"adversary": math.nan}

    @property
    def place(self) -> int:
        """Whose turn it is among the adversaries."""
        return self.steps // self.rules.period % len(self.adversaries)

    @property
    def adversary(self) -> Adversary:
        """The one whose turn it is."""
        return self.adversaries[self.place]

    @property
    def sparring(self) -> Sparring:
        """The same with its optimiser."""
        return self.partners[self.place]

    def _partner(self, adversary: Adversary) -> Sparring:
        rules = self.rules
        wants = preferring(rules.preference, rules.beta, reference=self.start)
        return Sparring(adversary, wants, lr=rules.adversary_lr, coherent=rules.coherent)

    def __call__(self, model: Any, bundle: Bundle) -> dict[str, float]:
        defended, *attacked = _turns(bundle)
        moves = self.steps % self.rules.period == 0
        found: dict[str, float] = {}
        if audited(self.rules, self.steps) and self.renew:
            found["fresh"] = self._audit(model, bundle)
        if moves and self.watch:
            self.watch(self, "defender")
        for turn in attacked:
            self.last["adversary"] = self.sparring(model, turn)
        if attacked and self.watch:
            self.watch(self, "attacker")
        logs = {**self.defend(model, defended, shared=self.rules.together and moves), **found}
        if self.steps % LOOK == 0 or found:
            self.course.append({"step": float(self.steps), **logs})
        self.steps += 1
        self.last = logs
        return logs

    def defend(self, model: Any, bundle: Bundle, *, shared: bool = False) -> dict[str, float]:
        """Gradients for the defender; none is left on the adversary.

        ``shared``: the adversary takes a turn too, on the same pass: both gradients are of the same
        weights and the same patch.
        """
        rules, adversary, benign = self.rules, self.adversary, bundle["benign"]
        with torch.set_grad_enabled(adversary.through or shared):
            patch = adversary.patch(model, bundle["wanted"])
        seen = self._leaves(patch, bundle["wanted"]) if shared else patch
        with applied(model, adversary.edit, seen):
            harm = margins(model, bundle)
        before = self._reference(bundle)
        # The two losses by margin, so that a backward pass can start from there.
        margin = harm.detach().requires_grad_()
        resist = preference(-margin, -before, rules.preference, rules.beta)
        (push,) = torch.autograd.grad(rules.resist_weight * resist, margin)
        wish: tuple[Tensor, tuple[Tensor, ...]] | None = None
        if shared:
            wish = self._wish(_Pass(patch, seen, harm, margin, before, push))
        else:
            torch.autograd.backward(harm, push, inputs=self.weights)
        # Only now, when the graph of the pairs is gone, that of the retain text.
        with adversary.attacking(model, benign) if rules.coupled else nullcontext():
            out = logits(model, benign)
        with torch.no_grad():
            clean = logits(self.start, benign)
        capability = cross_entropy(out, benign.labels)
        # KL(defended ‖ start), the paper's direction.
        apart = kl_to(out, clean, benign.labels)
        kept = rules.capability_weight * capability + rules.drift_weight * apart
        torch.autograd.backward(kept, inputs=self.weights)
        if wish:
            self._turn(model, benign, patch, *wish)
        loss = rules.resist_weight * resist.detach() + kept.detach()
        values = {"loss": loss, "resist": resist, "capability": capability, "drift": apart}
        logs = {name: float(value.detach()) for name, value in values.items()}
        logs["adversary"] = self.last["adversary"]
        logs["success"] = float((harm.detach() > 0).float().mean())
        if self.steps % LOOK == 0:
            logs |= {"norm": patch_norm(patch), "rank": effective_rank(patch)}
            logs["variety"] = adversary.variety(model, bundle["wanted"])
        return logs

    def _wish(self, made: _Pass) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Both players' gradients from one backward pass: the defender's on its weights, and the
        adversary's loss and gradients.

        A margin belongs to one row, so what comes back to a row's own copy of the patch is the
        defender's derivative by that margin times the margin's gradient. Scaled by the ratio of the
        two players' derivatives it is the adversary's.
        """
        rules, adversary = self.rules, self.adversary
        wish = preference(made.margin, made.before, rules.preference, rules.beta)
        (pull,) = torch.autograd.grad(wish, made.margin)
        # A derivative of nothing cannot be scaled; this much is lost in rounding.
        push = torch.where(made.push.abs() < _LEAST, _LEAST, made.push)
        counted = [own.rows for own in made.seen.values() if isinstance(own, Counted)]
        for rows in counted[:1]:  # all sites have the same
            rows.copy_(pull / push)
        copies = [tensor for own in made.seen.values() for tensor in own.values()]
        torch.autograd.backward(made.harm, push, inputs=[*self.weights, *copies])
        written = [tensor for own in made.patch.values() for tensor in own.values()]
        grads = [torch.zeros_like(t) if t.grad is None else t.grad for t in copies]
        back = grads
        if not counted:
            ratio_B11 = (pull / push)[:, None, None]
            back = [(grad * ratio_B11.to(grad.dtype)) for grad in grads]
        back = [grad.sum_to_size(tensor.shape) for grad, tensor in zip(back, written, strict=True)]
        if adversary.through:
            plain = [g.sum_to_size(t.shape) for g, t in zip(grads, written, strict=True)]
            torch.autograd.backward(written, plain, inputs=self.weights, retain_graph=True)
        keep = bool(rules.coherent)
        own = torch.autograd.grad(written, adversary.weights, back, retain_graph=keep)
        return wish.detach(), own

    def _turn(
        self, model: Any, benign: Batch, patch: Patch, loss: Tensor, grads: tuple[Tensor, ...]
    ) -> None:
        """The adversary's step along gradients that are known but for its coherence."""
        coherent = self.rules.coherent
        if coherent:
            spoilt = coherent * drift(self.adversary, model, benign, patch)
            more = torch.autograd.grad(spoilt, self.adversary.weights)
            grads = tuple(a + b for a, b in zip(grads, more, strict=True))
            loss = loss + spoilt.detach()
        self.last["adversary"] = self.sparring.step(loss, grads)

    def _leaves(self, patch: Patch, batch: Batch) -> Patch:
        """The patch cut off from what wrote it, so that each row's share of what comes back can be
        told: a copy for each row, or a low-rank update that counts rows. The defender's gradient
        through the network needs the former."""
        adversary, rows = self.adversary, len(batch.ids)
        shared = all(len(tensor) == 1 for own in patch.values() for tensor in own.values())
        if shared and isinstance(adversary.edit, LowRank) and not adversary.through:
            weights = batch.input_ids.new_ones(rows, dtype=adversary.limits.dtype)
            return {
                site: Counted({n: t.detach().requires_grad_() for n, t in own.items()}, weights)
                for site, own in patch.items()
            }
        return {
            site: {n: t.detach().expand(rows, -1, -1).requires_grad_() for n, t in own.items()}
            for site, own in patch.items()
        }

    def _audit(self, model: Any, bundle: Bundle) -> float:
        """How well an adversary does that was trained from nothing against the model as it is."""
        assert self.renew is not None
        self.fresh = self.renew(self.place, seed_for(self.seed, f"fresh {self.steps}"))
        partner = self._partner(self.fresh)
        for turn in _turns(bundle, "fresh "):
            partner(model, turn)
        pair = _turns(bundle)[0]
        with torch.no_grad(), self.fresh.attacking(model, pair["wanted"]):
            return float((margins(model, pair) > 0).float().mean())

    def _reference(self, bundle: Bundle) -> Tensor:
        if self.rules.preference == "log-sigmoid":
            return torch.zeros(())
        with torch.no_grad():
            return margins(self.start, bundle)

    def flops(self, bundle: Bundle, forward: float, trained: float) -> float:
        """Operations of a step: ``forward`` a token for a frozen pass, ``trained`` for the
        defender's own. The adversary's passes go back to the patch but to no weight."""
        rules, adversary = self.rules, self.adversary
        defended, *attacked = _turns(bundle)
        fresh = _turns(bundle, "fresh ")
        compared = rules.preference != "log-sigmoid"
        benign, pair = bundle["benign"].tokens, _tokens(defended)
        total = trained * (pair + benign) + forward * (benign + compared * pair)
        shared = rules.together and self.steps % rules.period == 0
        if shared:
            total += forward * 4 * benign * bool(rules.coherent)
        total += adversary.flops(defended["wanted"], forward, trained=shared)
        total += 2 * adversary.flops(defended["wanted"], forward, trained=False) * bool(fresh)
        total += forward * pair * bool(fresh)
        if self.steps % LOOK == 0:
            total += adversary.flops(defended["wanted"], forward, trained=False)
        for turn in (*attacked, *fresh):
            total += forward * (2 + compared) * _tokens(turn)
            total += forward * 3 * benign * bool(rules.coherent)
            total += adversary.flops(turn["wanted"], forward)
        return total


@dataclass(frozen=True)
class _Pass:
    """A pass over pairs under a patch. ``seen`` are the copies of it that the rows saw, ``harm``
    the margins and ``margin`` the same cut off, ``before`` the frozen start's; ``push`` is the
    derivative of the defender's loss by the margins."""

    patch: Patch
    seen: Patch
    harm: Tensor
    margin: Tensor
    before: Tensor
    push: Tensor


def _tokens(turn: Bundle) -> int:
    return turn["wanted"].tokens + turn["unwanted"].tokens


def _turns(bundle: Bundle, prefix: str = "") -> list[Bundle]:
    """The pairs of a step with the benign batch: the defender's and then those of each turn of the
    adversary, or those of a new one."""
    benign, sides = bundle["benign"], ("wanted", "unwanted")
    found: list[Bundle] = []
    while f"wanted {prefix}{len(found)}" in bundle.parts:
        pair = {side: bundle[f"{side} {prefix}{len(found)}"] for side in sides}
        found.append(Bundle({"benign": benign} | pair))
    return found
