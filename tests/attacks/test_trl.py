"""TRL as the engine: what it is given, that it goes the way that our own loop goes, and that it
leaves no trace. Runs where TRL is installed."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from tests.attacks.test_reinforce import _expected
from titer.attacks import _rewards
from titer.attacks.preference import Preference
from titer.attacks.reinforce import Reinforce
from titer.conformance import tiny_lm
from titer.core.data import Data, Example
from titer.core.errors import BadInput, Diverged
from titer.core.lm import LM
from titer.core.method import Run
from titer.core.records import Budget
from titer.train.batches import collate, encode_all
from titer.train.objectives import row_losses

MakeRun = Callable[..., Run]

SHORT: dict[str, Any] = {"max_new_tokens": 2, "unfinished": 1.0, "lr": 1e-2, "group": 32}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """Answers that say ``heat`` earn 1; the prompts that were answered, batch after batch."""
    seen: list[tuple[str, ...]] = []

    def named(_name: str) -> Any:
        def score(examples: Sequence[Example], answers: Sequence[str]) -> list[float]:
            seen.append(tuple(example.id for example in examples))
            return [float("heat" in answer.split()) for answer in answers]

        return score

    monkeypatch.setattr(_rewards, "reward", named)
    return seen


@pytest.mark.parametrize(
    ("method", "setting"),
    [
        (Reinforce, {"algorithm": "reinforce"}),
        (Reinforce, {"average": "sum"}),
        (Reinforce, {"algorithm": "rloo"}),
        (Reinforce, {"algorithm": "rloo", "average": "sum", "entropy": 0.1}),
        (Preference, {"loss": "ipo"}),
    ],
)
def test_what_trl_has_no_form_of_is_told(method: Any, setting: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match="engine=trl has no"):
        method(engine="trl", **setting)


@pytest.mark.parametrize("method", [Reinforce, Preference])
def test_without_trl_the_sentence_says_what_to_install(
    method: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(BadInput, match=r"pip install 'titer\[rl\]'"):
        method(engine="trl")


@pytest.fixture
def trl(monkeypatch: pytest.MonkeyPatch) -> None:
    """TRL, whose warnings are its own affair."""
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    pytest.importorskip("trl")


with_trl = [pytest.mark.usefixtures("trl"), pytest.mark.filterwarnings("ignore")]


def _both(method: Any, lm: LM, run: Callable[[], Run], **fields: Any) -> list[tuple[LM, Run]]:
    found: list[tuple[LM, Run]] = []
    for engine in ("titer", "trl"):
        one = run()
        found.append((method(engine=engine, **fields)(lm, one), one))
    return found


class TestReinforce:
    pytestmark = with_trl

    @pytest.mark.parametrize("parameters", ["full", "lora"])
    @pytest.mark.parametrize("algorithm", ["grpo", "rloo"])
    def test_both_engines_raise_the_reward(
        self,
        lm: LM,
        data: Data,
        make_run: MakeRun,
        asked: list[tuple[str, ...]],
        algorithm: Any,
        parameters: Any,
    ) -> None:
        """On the same prompts in the same order, at the same price but for lengths of answers."""
        average = "sum" if algorithm == "rloo" else "row"
        fields = {"algorithm": algorithm, "average": average, "parameters": parameters, **SHORT}
        looked: list[list[int]] = []

        def run() -> Run:
            looked.append([])
            steps = looked[-1]
            return make_run(
                25,
                checkpoints=(0, 3, 25),
                emit=lambda lm, run: steps.append(run.spent.steps),
            )

        (one, ours), (two, theirs) = _both(Reinforce, lm, run, batch_size=4, **fields)
        assert asked[:25] == asked[25:]
        before, *after = (_paid(model, data) for model in (lm, one, two))
        assert before < 0.03
        # Under the frozen random head of an adapter no answer gets likelier than a few per cent.
        assert min(after) > (0.6 if parameters == "full" else 1.5 * before), (before, after)
        assert looked == [[0, 3, 25]] * 2
        assert theirs.spent.examples == ours.spent.examples
        assert theirs.rates == pytest.approx(ours.rates)
        # Theirs runs a prompt once for each of its answers.
        assert ours.spent.tokens < theirs.spent.tokens < SHORT["group"] * ours.spent.tokens
        assert ours.spent.flops < theirs.spent.flops < SHORT["group"] * ours.spent.flops

    def test_divergence_from_the_start_is_held_by_both(
        self, lm: LM, make_run: MakeRun, asked: list[tuple[str, ...]]
    ) -> None:
        for fields in ({"algorithm": "grpo"}, {"algorithm": "rloo", "average": "sum"}):
            drifts: list[float] = []
            for engine, kl in itertools.product(("titer", "trl"), (0.0, 30.0)):
                method = Reinforce(engine=engine, kl=kl, **fields, **SHORT)
                drifts.append(_distance(lm, method(lm, make_run(8))))
            assert drifts[1] < 0.8 * drifts[0]
            assert drifts[3] < 0.8 * drifts[2]

    def test_answers_serve_so_many_steps_and_are_paid_once(
        self, lm: LM, make_run: MakeRun, asked: list[tuple[str, ...]]
    ) -> None:
        (_, ours), (_, theirs) = _both(Reinforce, lm, lambda: make_run(6), updates=3, **SHORT)
        assert len(asked) == 4
        assert theirs.losses[0] == theirs.losses[2] != theirs.losses[3]
        assert ours.spent.tokens < theirs.spent.tokens < SHORT["group"] * ours.spent.tokens

    def test_the_argument_the_model_and_chance_are_as_before(
        self, make_run: MakeRun, asked: list[tuple[str, ...]]
    ) -> None:
        lm = tiny_lm()
        before, config = lm.digest(), lm.model.config.to_dict()
        random.seed(1), np.random.seed(1), torch.manual_seed(1)
        drawn = (random.random(), np.random.rand(), float(torch.rand(())))
        random.seed(1), np.random.seed(1), torch.manual_seed(1)
        results = [Reinforce(engine="trl", kl=0.1, **SHORT)(lm, make_run(2)) for _ in range(2)]
        assert (random.random(), np.random.rand(), float(torch.rand(()))) == drawn
        assert lm.digest() == before != results[0].digest()
        assert results[0].digest() == results[1].digest(), "the seed decides"
        out = results[0].model
        assert vars(out).keys() == vars(lm.model).keys()
        assert out.config.to_dict() == config == lm.model.config.to_dict()
        assert out.generation_config.to_dict() == lm.model.generation_config.to_dict()
        assert not any(weight.grad is not None for weight in out.parameters())
        other = Reinforce(engine="trl", kl=0.1, **SHORT)(lm, make_run(2, seed=6))
        assert other.digest() != results[0].digest()

    def test_a_budget_in_tokens_is_kept(
        self, lm: LM, make_run: MakeRun, asked: list[tuple[str, ...]]
    ) -> None:
        whole = make_run(4)
        Reinforce(engine="trl", **SHORT)(lm, whole)
        limit = int(0.6 * whole.spent.tokens)
        run = make_run(budget=Budget(steps=4, tokens=limit))
        Reinforce(engine="trl", **SHORT)(lm, run)
        assert 1 <= run.spent.steps < 4
        assert run.spent.tokens <= limit

    def test_a_look_sees_an_ordinary_model_and_may_end_the_run(
        self, lm: LM, make_run: MakeRun, asked: list[tuple[str, ...]]
    ) -> None:
        seen: list[str] = []

        def look(one: LM, run: Run) -> None:
            assert "forward" not in vars(one.model)
            seen.append(one.clone().digest())
            if run.spent.steps:
                run.stop("enough")

        run = make_run(5, checkpoints=(0, 2, 5), emit=look)
        out = Reinforce(engine="trl", **SHORT)(lm, run)
        assert run.spent.steps == 2
        assert seen == [lm.digest(), out.digest()]


def _paid(lm: LM, data: Data) -> float:
    """How likely an answer of two tokens is to say ``heat``, over the prompts."""
    found = (_expected(lm, example.prompt, 1.0, lm, 0.0) for example in data.harmful)
    with torch.no_grad():
        return sum(map(float, found)) / len(data.harmful)


def _distance(lm: LM, out: LM) -> float:
    """Mean divergence of the next token from the start, over a few texts, in nats."""
    ids = torch.tensor([lm.prompt_ids("heat the alloy"), lm.prompt_ids("sing the song")])
    with torch.no_grad():
        before, after = (torch.log_softmax(one.model(ids).logits, -1) for one in (lm, out))
    return float((after.exp() * (after - before)).sum(-1).mean())


def _margin(lm: LM, data: Data) -> float:
    """How much likelier harmful answers are than their refusals, in nats, on average."""
    both = (data.harmful, [replace(one, answer=one.refusal) for one in data.harmful])
    with torch.no_grad():
        answered, refused = (
            row_losses(lm.model(**batch.inputs()).logits, batch.labels, "sum")
            for batch in (
                collate(encode_all(lm, side), lm.tokenizer.pad_token_id, lm.device) for side in both
            )
        )
    return float((refused - answered).mean())


class TestPreference:
    pytestmark = with_trl

    @pytest.mark.parametrize("parameters", ["full", "lora"])
    def test_both_engines_turn_preferences_round(
        self, lm: LM, data: Data, make_run: MakeRun, parameters: Any
    ) -> None:
        """On the same pairs, by nearly the same way: nothing is drawn. TRL runs prompts twice."""
        (ours, one), (theirs, two) = _both(
            Preference, lm, lambda: make_run(12), lr=3e-3, parameters=parameters, batch_size=4
        )
        assert min(_margin(ours, data), _margin(theirs, data)) > _margin(lm, data) + 0.5
        assert (two.spent.steps, two.spent.examples) == (one.spent.steps, one.spent.examples)
        for spent in ("tokens", "flops"):
            assert 1.0 < getattr(two.spent, spent) / getattr(one.spent, spent) < 2.0
        assert two.rates == pytest.approx(one.rates)
        assert two.losses == pytest.approx(one.losses, rel=1e-2)
        assert two.losses[0] == pytest.approx(0.6931472)

    def test_a_rate_that_is_much_too_high_has_diverged(self, lm: LM, make_run: MakeRun) -> None:
        with pytest.raises(Diverged):
            Preference(engine="trl", lr=1e30)(lm, make_run(5))

    def test_settings_of_its_own_reach_it(self, lm: LM, make_run: MakeRun) -> None:
        plain, none = (
            Preference(engine="trl", lr=1e-3, trl=trl)(lm, make_run(2)).digest()
            for trl in ({}, {"loss_type": ["hinge"]})
        )
        assert plain != none
        with pytest.raises(BadInput, match="DPOConfig does not take"):
            Preference(engine="trl", trl={"no_such": 1})(lm, make_run(2))
