"""Both ways of attacking do what is timed: they change what they should, and nothing else."""

from __future__ import annotations

import torch

from benchmarks import hypernet
from titer.hypernet.objectives import preferring


def test_it_prints_every_size_and_both_ways() -> None:
    figures = hypernet.measure(sizes=["0.2M"], rounds=1, rows=2, tokens=8)
    said = [figure.what for figure in figures]
    assert len(said) == len(set(said)) == 10
    assert {f.unit for f in figures} == {"ms", "ratio", "% of the model's"}
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
    for step in (bench.play, bench.share, lambda: bench.unroll(1)):
        step()
        assert bench.lm.digest() != digest
        digest = bench.lm.digest()
    assert all(bool(torch.isfinite(weight).all()) for weight in bench.weights)
