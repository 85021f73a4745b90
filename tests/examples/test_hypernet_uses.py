"""The hypernetwork in other methods' hands: an environment for ILU, an inner attacker for a
bi-level defence."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from examples.inner_adversary import Bilevel, main

from examples import ilu_hypernet
from titer.conformance import tiny_data, tiny_lm
from titer.core.method import Run
from titer.core.records import Budget
from titer.defences.ilu import ILU
from titer.train import environments


def _run(steps: int, **limits: Any) -> Run:
    return Run(budget=Budget(steps=steps, **limits), data=tiny_data(), seed=3)


def test_ilu_looks_from_where_the_network_s_attack_leaves_the_weights(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    moved: list[torch.Tensor] = []
    whole = environments._Adversary._attacked

    def noted(self: Any, model: Any, weights: Any, reserve: int) -> Any:
        found = whole(self, model, weights, reserve)
        names = [name for name, _ in model.named_parameters()]
        sizes = [weight.numel() for weight in weights]
        parts = dict(zip(names, found.split(sizes), strict=True))
        key = next(name for name in names if name.endswith("q_proj.weight"))
        shape = dict(model.named_parameters())[key].shape
        moved.append(parts[key].view(shape))
        assert not parts["model.embed_tokens.weight"].any()
        return found

    monkeypatch.setattr(environments._Adversary, "_attacked", noted)
    lm, run = tiny_lm(), _run(5)
    out = ilu_hypernet.defence(every=2)(lm, run)
    assert len(moved) == 3
    assert all(0 < int(torch.linalg.matrix_rank(patch, rtol=1e-3)) <= 4 for patch in moved)
    plain = _run(5)
    without = ILU(base="npo-testbed")(lm, plain)
    assert out.digest() != without.digest()
    assert run.spent.flops > plain.spent.flops


@pytest.mark.parametrize("inner", ["steps", "network"])
def test_a_bilevel_defence_takes_either_inner_attacker(inner: Any) -> None:
    lm = tiny_lm()
    digest, run = lm.digest(), _run(12)
    out = Bilevel(inner=inner, batch_size=4, lr=3e-3)(lm, run)
    assert lm.digest() == digest != out.digest()
    assert run.losses[-1] < run.losses[0]
    again = Bilevel(inner=inner, batch_size=4, lr=3e-3)(lm, _run(12))
    assert again.digest() == out.digest()


def test_several_inner_attackers_are_the_mean_of_single_ones() -> None:
    """After one plain step: the defender has moved by the mean of what it would have moved."""
    rates = (1e-3, 1e-2)
    runs = {rates: _run(1), rates[:1]: _run(1), rates[1:]: _run(1)}
    for inner_lr, run in runs.items():
        Bilevel(inner="steps", inner_lr=inner_lr, steps=3, batch_size=4)(tiny_lm(), run)
    both, *single = (run.losses[0] for run in runs.values())
    assert single[0] != pytest.approx(single[1], rel=1e-3)
    assert both == pytest.approx(sum(single) / 2, rel=1e-4)
    assert runs[rates].spent.flops > 1.5 * runs[rates[:1]].spent.flops


def test_the_network_s_step_is_the_cheaper_and_budgets_in_operations_hold() -> None:
    spent = {}
    for inner in ("steps", "network"):
        run = _run(3)
        Bilevel(inner=inner, batch_size=4)(tiny_lm(), run)  # type: ignore[arg-type]
        spent[inner] = run.spent.flops
    assert spent["network"] < 0.6 * spent["steps"]
    run = _run(100, flops=spent["steps"])
    Bilevel(inner="network", batch_size=4)(tiny_lm(), run)
    assert run.spent.steps > 3
    assert run.spent.flops <= spent["steps"]


def test_the_examples_run(capsys: pytest.CaptureFixture[str]) -> None:
    ilu_hypernet.main()
    main("network")
    assert "6 steps" in capsys.readouterr().out
