"""Both ways of attacking do what is timed: they change what they should, and nothing else."""

from __future__ import annotations

import torch

from benchmarks import hypernet
from titer.hypernet.objectives import preferring


def test_it_prints_every_size_and_both_ways() -> None:
    figures = hypernet.measure(sizes=["0.2M"], rounds=1, rows=2, tokens=8)
    said = [figure.what for figure in figures]
    assert len(said) == len(set(said)) == 15
    assert {f.unit for f in figures} == {"ms", "ratio", "% of the model's", "MB"}
    assert all(figure.median > 0 for figure in figures)
    goals = {f.what: f.against for f in figures if "goal" in f.against}
    assert goals == {
        "0.2M: step, K=8 by network, cpu": "network; goal 4",
        "0.2M: step, K=64 by network, cpu": "network; goal 30",
        "0.2M: step, K=8 by one pass, cpu": "one pass; goal 4",
        "0.2M: step, K=64 by one pass, cpu": "one pass; goal 30",
    }


def test_an_inner_loop_attacks_a_copy_and_a_step_moves_the_defender() -> None:
    bench = hypernet.Bench("0.2M", 2, 8)
    digest = bench.lm.digest()
    attacked = hypernet.inner(bench.lm.model, bench.bundle, 2)
    before, after = (
        float(preferring()(model, bench.bundle).detach()) for model in (bench.lm.model, attacked)
    )
    assert after < before
    bench.generate()
    assert bench.lm.digest() == digest
    for step in (bench.plain, bench.play, bench.share, lambda: bench.unroll(1)):
        step()
        assert bench.lm.digest() != digest
        digest = bench.lm.digest()
    assert all(bool(torch.isfinite(weight).all()) for weight in bench.weights)


def test_memory_is_that_which_is_held_at_once() -> None:
    with hypernet.allocating() as peak:
        for _ in range(3):
            held = torch.zeros(1000, 250)
            del held
        kept = [torch.zeros(1000, 250) for _ in range(2)]
    assert len(kept) == 2
    assert peak == [2_000_000]


def test_an_inner_loop_holds_a_copy_with_its_moments() -> None:
    figures = hypernet.measure(sizes=["0.2M"], rounds=1, rows=1, tokens=4)
    taken = {f.what.rpartition(", ")[2]: f.median for f in figures if f.unit == "MB"}
    weights = 4e-6 * hypernet.Bench("0.2M", 1, 4).count()[0]
    # On so little text weights are what counts: the copy, its gradients and two moments.
    assert taken["K=8"] > taken["plain"] + 3 * weights
    assert taken["network"] < taken["plain"] + weights
