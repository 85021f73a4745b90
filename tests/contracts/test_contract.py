"""The promises of every method, over the whole catalogue, every architecture and every preset."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from tests.contracts.conftest import Recorded
from titer.conformance import (
    ARCHITECTURES,
    NonConforming,
    _check_card,
    check,
    check_attack,
    check_defence,
    check_measure,
    tiny_lm,
)
from titer.core import catalogue
from titer.core.lm import LM
from titer.core.method import Run
from titer.core.records import Kind
from titer.train.loop import Recipe, descend, fit

CHECKS: dict[Kind, Any] = {
    "attack": check_attack,
    "defence": check_defence,
    "measure": check_measure,
}
EVERY = [(kind, name) for kind in CHECKS for name in catalogue.names(kind)]
FEWER: dict[str, dict[str, Any]] = {
    "task_vector": {"steps": 4, "repeats": 2},
    "lat": {"inner": 2},
    "mlac": {"inner": 2},
    "token_buncher": {"prompts": 3, "group": 2, "length": 4},
    "tar": {"inner": 4, "every": 2},
}
"""Fine-tunes by the dozen, of which a few show as much of what is promised."""
LONG = {
    "crl-negatives",
    "lat-paper",
    "mlac-paper",
    "tar-paper",
    "tar-code",
    "tar-refusal",
    "token_buncher-paper",
}
"""Presets of which a step is dozens of passes."""
PRESETS = [
    pytest.param(kind, row, marks=[pytest.mark.slow] if row in LONG else [])
    for kind in ("attack", "defence")
    for row in catalogue.presets(kind)
]


ONE_OF_A_KIND = {
    (kind, line.access): line.name for kind in CHECKS for line in catalogue.summaries(kind)
}
"""A method for each kind of access to a model: if an architecture is too much for such access, it
is seen here."""


def _on_architectures() -> Iterator[Any]:
    """Every method on every architecture; in the fast tier all on one, one of a kind on all."""
    for kind, name in EVERY:
        for architecture in ARCHITECTURES:
            fast = architecture == "llama" or name in ONE_OF_A_KIND.values()
            yield pytest.param(kind, name, architecture, marks=[] if fast else pytest.mark.slow)


@pytest.mark.parametrize(("kind", "name", "architecture"), list(_on_architectures()))
def test_every_method_keeps_its_promises(kind: Kind, name: str, architecture: Any) -> None:
    card = catalogue.card(kind, name)
    if fields := FEWER.get(name):
        _check_card(card)
        CHECKS[kind](card.build(**fields), architectures=[architecture])
    else:
        CHECKS[kind](card, architectures=[architecture])


@pytest.mark.parametrize(("kind", "row"), PRESETS)
def test_every_preset_runs_and_repeats(
    kind: Kind, row: str, lm: LM, make_run: Callable[..., Run], recorded: Recorded
) -> None:
    name, preset = catalogue.preset(kind, row)
    method, before, run = catalogue.build(kind, name, dict(preset.fields)), lm.digest(), make_run(2)
    again, first = method(lm, run), recorded(kind, name, dict(preset.fields))
    assert lm.digest() == before
    assert again.digest() == first.digest()
    assert again.template_digest() == first.template_digest()
    # An attack on the input is in the template alone.
    assert again.digest() != before or again.template_digest() != lm.template_digest()
    assert run.spent.steps == min(2, preset.steps[0])  # a closed form takes none


def test_check_by_name_goes_through_card_and_fields() -> None:
    check("attack", "noop")


def test_listing_says_what_the_card_says() -> None:
    for kind in CHECKS:
        for line in catalogue.summaries(kind):
            card = catalogue.card(kind, line.name)
            for label in ("summary", "source", "family", "access", "version"):
                assert getattr(line, label) == getattr(card, label), (line.name, label)
            families = {row: preset.family for row, preset in card.presets.items()}
            assert dict(line.presets) == families


# -- a kit that finds nothing proves nothing: one broken method for each promise -------------------


def _train(lm: LM, run: Run, *, steps: int) -> None:
    def loss(model: Any, _batch: Any) -> torch.Tensor:
        return sum(weight.pow(2).sum() for weight in model.parameters())

    weights = list(lm.model.parameters())
    fit(lm, descend(loss), _blanks(), run, parameters=weights, recipe=Recipe(lr=1e-3), steps=steps)


@dataclass(frozen=True)
class _Blank:
    ids: tuple[str, ...] = ("alloy-1",)
    tokens: int = 5


def _blanks() -> Iterator[_Blank]:
    while True:
        yield _Blank()


def _nudge(lm: LM, by: float) -> LM:
    with torch.no_grad():
        for weight in lm.model.parameters():
            weight += by
    return lm


def _wraps(lm: LM, run: Run) -> LM:
    from peft import LoraConfig, get_peft_model

    return LM(get_peft_model(lm.clone().model, LoraConfig(r=1)), lm.tokenizer)


def _hooked(lm: LM, run: Run) -> LM:
    out = lm.clone()
    out.model.get_input_embeddings().register_forward_hook(lambda *_: None)
    return out


def _frozen(lm: LM, run: Run) -> LM:
    out = lm.clone()
    next(out.model.parameters()).requires_grad_(False)
    return out


def _overspends(lm: LM, run: Run) -> LM:
    run.charge(steps=(run.budget.steps or 0) + 1)
    return lm.clone()


def _eager(lm: LM, run: Run) -> LM:
    run.emit(lm, run)
    run.emit(lm, run)
    return lm.clone()


def _silent(lm: LM, run: Run) -> LM:
    return lm.clone()


def _seedless(lm: LM, run: Run) -> LM:
    with torch.random.fork_rng():
        return _nudge(_trained(lm, run), float(torch.rand(1)))


def _thoughtless(lm: LM, run: Run) -> LM:
    """Takes its steps, budget or no budget."""
    run.look(lm)
    return _nudge(_trained(lm, run), 0.5)


def _trained(lm: LM, run: Run) -> LM:
    out = lm.clone()
    _train(out, run, steps=run.steps_left())
    return out


def _disturbs(lm: LM, run: Run) -> LM:
    run.look(lm)
    torch.rand(1)
    return lm.clone()


BROKEN = {
    "changes the weights of its argument": lambda lm, run: _nudge(lm, 0.1).clone(),
    "shares memory": lambda lm, run: LM(lm.model, lm.tokenizer),
    "PEFT": _wraps,
    "hook on its result": _hooked,
    "requires_grad of": _frozen,
    "overspends": _overspends,
    "one checkpoint twice": _eager,
    "were asked for": _silent,
    "the seed does not decide": _seedless,
    "with no step to spend": _thoughtless,
    "disturbs global chance": _disturbs,
    "must return an LM": lambda lm, run: lm.model,
}


@dataclass(frozen=True, kw_only=True)
class Broken:
    """Breaks the promise named by ``promise``."""

    promise: str = ""

    def __call__(self, lm: LM, run: Run) -> LM:
        return BROKEN[self.promise](lm, run)


@pytest.mark.parametrize("promise", BROKEN)
def test_a_broken_promise_is_found(promise: str) -> None:
    with pytest.raises(NonConforming, match=promise):
        check_attack(Broken(promise=promise), architectures=["llama"])


def test_a_working_method_of_ones_own_passes() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Decay:
        """Shrink every weight a little, by the loop."""

        def __call__(self, lm: LM, run: Run) -> LM:
            return _trained(lm, run)

    check_attack(Decay())


def test_a_method_must_be_a_frozen_dataclass_with_docstring_and_defaults() -> None:
    @dataclass
    class Melted:
        """Not frozen."""

    @dataclass(frozen=True)
    class Dumb:
        pass

    for method, said in ((Melted(), "not frozen"), (Dumb(), "no docstring")):
        with pytest.raises(NonConforming, match=said):
            check_attack(method)  # type: ignore[arg-type]


@dataclass(frozen=True, kw_only=True)
class Judge:
    """Breaks the promise of a measure named by ``promise``."""

    promise: str = ""

    def collect(self, lm: LM, items: Any) -> list[dict[str, Any]]:
        if self.promise == "other records":
            with torch.random.fork_rng():
                return [{"score": float(torch.rand(1))} for _ in items]
        if self.promise == "JSON":
            return [{"score": {1.0}} for _ in items]
        if self.promise == "by its place":
            return [{"score": float(place)} for place, _ in enumerate(items)]
        return [{"score": float(len(item.prompt))} for item in items]

    def judge(self, items: Any, records: Any) -> list[float]:
        if self.promise == "changes the records":
            for record in records:
                record["score"] += 1.0
        scores = [record["score"] for record in records]
        if self.promise == "scores for":
            return scores[:-1]
        if self.promise == "depends on the other items":
            return [score / max(scores[-1], sum(scores)) for score in scores]
        return scores


@pytest.mark.parametrize(
    "promise",
    ["other records", "JSON", "by its place", "changes the records", "scores for", "depends on"],
)
def test_a_broken_measure_is_found(promise: str) -> None:
    full = "depends on the other items" if promise == "depends on" else promise
    with pytest.raises(NonConforming, match=promise):
        check_measure(Judge(promise=full), architectures=["llama"])
    check_measure(Judge(), architectures=["llama"])


def test_tiny_models_are_what_they_say() -> None:
    for architecture in ARCHITECTURES:
        one, two, other = (tiny_lm(architecture, seed) for seed in (0, 0, 1))
        assert one.digest() == two.digest() != other.digest()
        assert 15_000 < sum(weight.numel() for weight in one.model.parameters()) < 30_000
