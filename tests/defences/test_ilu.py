"""ILU: its base at weight nothing, what it adds to that gradient, annealing, and its price."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from titer.conformance import ARCHITECTURES, check_defence, tiny_lm
from titer.core import catalogue
from titer.core.data import Data
from titer.core.errors import BadInput
from titer.core.lm import LM
from titer.core.method import Run
from titer.core.records import Budget
from titer.defences.grad_diff import GradDiff
from titer.defences.ilu import ILU
from titer.defences.npo import NPO
from titer.defences.random_mapping import RandomMapping
from titer.defences.rmu import RMU
from titer.defences.simnpo import SimNPO
from titer.defences.wga import WGA
from titer.train.environments import Environment
from titer.train.grads import trained
from titer.train.penalties import Penalty, Place

MakeRun = Callable[..., Run]

BASES = [NPO, RMU, GradDiff, SimNPO, WGA]


@pytest.mark.parametrize("parameters", ["full", "lora"])
@pytest.mark.parametrize(
    ("base", "architecture"),
    [(base, "llama") for base in BASES] + [(NPO, "gpt2"), (NPO, "qwen2"), (RMU, "gpt2")],
)
def test_without_weight_it_is_its_base_to_the_bit(
    base: Any, architecture: Any, parameters: Any, make_run: MakeRun
) -> None:
    lm, method = tiny_lm(architecture), base(lr=1e-3, parameters=parameters)
    runs = [make_run(3), make_run(3), make_run(3)]
    plain = method(lm, runs[0])
    assert ILU(base=method, weight=0.0)(lm, runs[1]).digest() == plain.digest()
    assert (runs[0].losses, runs[0].spent) == (runs[1].losses, runs[1].spent)
    assert ILU(base=method, weight=1.0)(lm, runs[2]).digest() != plain.digest()
    # The environment has chance of its own: the base's batches and first loss are the same.
    assert runs[2].losses[0] == runs[0].losses[0]


@pytest.mark.parametrize("base", [*BASES, RandomMapping])
def test_the_penalty_is_added_to_the_bases_gradient(
    base: Any, lm: LM, make_run: MakeRun, watch: Any
) -> None:
    method = base(lr=1e-3)
    plain = watch(method, lm, make_run(1)).gradient()
    seen = watch(ILU(base=method, weight=3.0, environment_batch=6), lm, make_run(1))
    both, batch = seen.gradient(), seen.bundle["environment 0"]
    assert {name.split("-")[0] for name in batch.ids} == {"song"}
    seen.lm.model.zero_grad(set_to_none=True)
    Penalty(kind="logit_scale").add(seen.lm.model, [Place(batch)], 3.0, lambda: torch.zeros(()))
    for name, weight in seen.lm.model.named_parameters():
        if name in both:
            added = torch.zeros_like(weight) if weight.grad is None else weight.grad
            was = plain.get(name, torch.zeros_like(weight))
            assert_close(both[name], was + added, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("penalty", ["loss", "param_scale", "grad_norm", "interaction"])
@pytest.mark.parametrize("parameters", ["full", "lora"])
def test_every_penalty_trains(penalty: Any, parameters: Any, lm: LM, make_run: MakeRun) -> None:
    base = NPO(lr=1e-3, parameters=parameters)
    out = ILU(base=base, penalty=penalty)(lm, make_run(3))
    assert out.digest() != base(lm, make_run(3)).digest()


@pytest.mark.parametrize("penalty", ["v_rex", "iga", "fishr"])
def test_penalties_that_compare_environments(penalty: Any, lm: LM, make_run: MakeRun) -> None:
    base = NPO(lr=1e-3)
    rows = ("unrelated", "related")
    out = ILU(base=base, penalty=penalty, environments=rows)(lm, make_run(3))
    assert out.digest() != base(lm, make_run(3)).digest()
    with pytest.raises(BadInput, match="two or more"):
        ILU(penalty=penalty)


@pytest.mark.exact
@pytest.mark.parametrize(
    "architecture",
    [pytest.param(a, marks=[pytest.mark.slow] * (a != "llama")) for a in ARCHITECTURES],
)
@pytest.mark.parametrize("penalty", ["logit_scale", "grad_norm"])
def test_the_contract_holds_off_the_default_road(architecture: Any, penalty: Any) -> None:
    """Mixed axes, adapters, parts, accumulation and annealing at once."""
    method = ILU(
        base=GradDiff(lr=1e-3, parameters="lora", rank=2, batch_size=4),
        penalty=penalty,
        environments=(
            Environment(data="related", template="plain", attack="noise"),
            Environment(scramble="cipher", attack="rounding", weight=0.5),
        ),
        environment_batch=8,
        parts=4,
        anneal=0.3,
        rescale=True,
        weight=2.0,
        accumulate=2,
    )
    check_defence(method, architectures=[architecture])


@pytest.mark.exact
def test_an_adversary_as_environment_keeps_the_contract() -> None:
    row = Environment(attack="adversary", adversary="finetune", steps=2, every=2)
    check_defence(ILU(environments=row, environment_batch=4), architectures=["llama"])


def test_an_adversary_wants_a_base_without_adapters(lm: LM, make_run: MakeRun) -> None:
    row = Environment(attack="adversary", adversary="finetune")
    with pytest.raises(BadInput, match="without adapters"):
        ILU(base=NPO(parameters="lora"), environments=row)(lm, make_run(2))


def test_accumulated_gradients_are_the_mean(lm: LM, make_run: MakeRun) -> None:
    """With every example in every batch, two accumulated bundles are one."""
    settings = {"base": GradDiff(lr=1e-3, batch_size=99), "environment_batch": 99}
    runs = [make_run(1), make_run(1)]
    one = ILU(**settings)(lm, runs[0])
    two = ILU(**settings, accumulate=2)(lm, runs[1])
    assert runs[1].spent.tokens == 2 * runs[0].spent.tokens
    # A difference of two losses of four nats, packed in another order.
    assert runs[1].losses[0] == pytest.approx(runs[0].losses[0], abs=1e-5)
    for a, b in zip(one.model.parameters(), two.model.parameters(), strict=True):
        # Rows come in another order, and so the halves differ: close, not equal.
        assert float((a - b).detach().abs().max()) <= 2.1e-3


@pytest.mark.parametrize("penalty", ["logit_scale", "param_scale", "grad_norm"])
def test_it_runs_on_half_precision_weights(penalty: Any, make_run: MakeRun) -> None:
    lm = tiny_lm()
    lm.model.bfloat16()
    run = make_run(3)
    out = ILU(base=NPO(lr=1e-2), penalty=penalty)(lm, run)
    assert out.model.dtype == torch.bfloat16
    assert out.digest() != NPO(lr=1e-2)(lm, make_run(3)).digest()
    assert all(value == value for value in run.losses)


# -- annealing --------------------------------------------------------------------------------


@pytest.mark.parametrize("restart", [True, False])
def test_before_the_switch_it_is_its_base(lm: LM, make_run: MakeRun, restart: bool) -> None:
    seen: dict[int, str] = {}

    def emit(lm: LM, run: Run) -> None:
        seen[run.spent.steps] = lm.digest()

    def run_of(method: Any) -> dict[int, str]:
        seen.clear()
        method(lm, make_run(4, emit=emit, checkpoints=(0, 1, 2, 3, 4)))
        return dict(seen)

    base = NPO(lr=1e-3)
    plain = run_of(base)
    late = run_of(ILU(base=base, anneal=0.5, restart=restart))
    assert [late[step] == plain[step] for step in range(5)] == [True, True, True, False, False]


def test_a_new_optimiser_at_the_switch_is_felt(lm: LM, make_run: MakeRun) -> None:
    base = NPO(lr=1e-3)
    kept, fresh = (
        ILU(base=base, anneal=0.5, before=1.0, restart=restart)(lm, make_run(4))
        for restart in (False, True)
    )
    always = ILU(base=base)(lm, make_run(4))
    assert kept.digest() == always.digest() != fresh.digest()


def test_rescaling_divides_the_whole_gradient(lm: LM, make_run: MakeRun, watch: Any) -> None:
    plain, divided = (
        watch(ILU(weight=8.0, rescale=rescale), lm, make_run(1)).gradient()
        for rescale in (False, True)
    )
    for name, part in plain.items():
        assert_close(divided[name], part / 8.0, rtol=1e-4, atol=1e-7)


# -- price ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "passes", "forwards"),
    [
        ({}, 1.0, 0.0),
        ({"parts": 4}, 1.0, 1.0),
        ({"penalty": "loss"}, 1.0, 0.0),
        ({"penalty": "grad_norm"}, 2.0, 0.0),
        ({"penalty": "grad_norm", "parts": 4}, 3.0, 0.0),
        ({"penalty": "grad_norm", "form": "exact"}, 4.0, 0.0),
        ({"penalty": "param_scale"}, 2.0, 0.0),
        ({"penalty": "interaction"}, 2.0, 0.0),
    ],
)
def test_what_it_costs_is_charged(
    settings: Any, passes: float, forwards: float, lm: LM, make_run: MakeRun
) -> None:
    base = GradDiff(batch_size=99)
    plain, run = make_run(2), make_run(2)
    base(lm, plain)
    ILU(base=base, environment_batch=99, **settings)(lm, run)
    size, tokens = lm.parameters_in_matmuls(), run.spent.tokens - plain.spent.tokens
    forget = tokens_of(lm, run) if settings.get("penalty") == "interaction" else 0.0
    more = size * (6.0 * passes + 2.0 * forwards) * tokens + 2 * 6.0 * size * 2.0 * forget
    assert run.spent.flops - plain.spent.flops == pytest.approx(more)


def tokens_of(lm: LM, run: Run) -> int:
    """Tokens of the whole forget set."""
    rows = [lm.encode(example.prompt, example.answer) for example in run.data.harmful]
    return sum(len(row.ids) for row in rows)


def test_the_calls_of_the_model_are_what_is_charged(lm: LM, make_run: MakeRun, watch: Any) -> None:
    """Forward passes over the environment's rows, counted."""
    for settings, times in (
        ({}, 1.0),
        ({"parts": 4}, 2.0),
        ({"penalty": "grad_norm"}, 2.0),
        ({"penalty": "grad_norm", "parts": 4}, 3.0),
        ({"penalty": "param_scale"}, 2.0),
    ):
        seen = watch(ILU(environment_batch=8, **settings), lm, make_run(1))
        names = ("forget", "retain")
        shapes = {tuple(seen.bundle[name].input_ids.shape) for name in names}
        rows = 0

        def count(_m: Any, _args: Any, kwargs: Any, shapes: Any = shapes) -> None:
            nonlocal rows
            if tuple(kwargs["input_ids"].shape) not in shapes:
                rows += len(kwargs["input_ids"])

        handle = seen.lm.model.register_forward_pre_hook(count, with_kwargs=True)
        seen.gradient()
        handle.remove()
        assert rows == times * 8, settings


# -- settings ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        {"weight": -1.0},
        {"before": -1.0},
        {"anneal": 1.0},
        {"radius": 0.0},
        {"parts": 1},
        {"environment_batch": 1},
        {"accumulate": 0},
        {"base": "none"},
        {"environments": ()},
    ],
)
def test_bad_settings_are_refused(settings: Any) -> None:
    with pytest.raises(BadInput):
        ILU(**settings)


def test_a_world_without_the_environment_says_so(lm: LM, data: Data, make_run: MakeRun) -> None:
    bare = Data(harmful=data.harmful, retain=data.retain)
    run = make_run(2, data=bare)
    with pytest.raises(BadInput, match=r"no environment \(unrelated\) examples"):
        ILU()(lm, run)
    ILU(weight=0.0)(lm, make_run(2, data=bare))


def test_the_command_line_can_write_it() -> None:
    built = catalogue.build(
        "defence", "ilu", {"base": "rmu-testbed", "environments": "unrelated,related"}
    )
    assert built.base == catalogue.build(
        "defence", "rmu", dict(catalogue.preset("defence", "rmu-testbed")[1].fields)
    )
    assert [row.data for row in built.environments] == ["unrelated", "related"]


def test_a_budget_in_tokens_is_kept(lm: LM, make_run: MakeRun) -> None:
    run = make_run(budget=Budget(steps=5, tokens=300))
    ILU(base=NPO(batch_size=2), environment_batch=4)(lm, run)
    assert 0 < run.spent.steps < 5
    assert run.spent.over(run.budget) == []


def test_only_what_the_base_trains_takes_a_gradient(lm: LM, make_run: MakeRun, watch: Any) -> None:
    seen = watch(ILU(base=RMU(), penalty="grad_norm"), lm, make_run(1))
    found = {name.rsplit(".", 2)[1] for name in seen.gradient()}
    assert found == {"down_proj"}
    assert len(trained(seen.lm.model)) == 3
