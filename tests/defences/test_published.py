"""What holds for every published defence: settings are alive, bad ones are told in a sentence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from tests.defences.slopes import added
from titer.core import catalogue
from titer.core.errors import BadInput
from titer.core.lm import LM
from titer.core.method import Run
from titer.train.grads import flat
from titer.train.objectives import cross_entropy

MakeRun = Callable[..., Run]

_KEPT = {"retain_weight": 1.0}
ALIVE: dict[str, tuple[dict[str, Any], ...]] = {
    "booster": ({"weight": 1.0}, {"step": 1.0}, {"normalised": False}, {"refusal": 1.0}, _KEPT),
    "circuit_breakers": ({"push": 2.0}, {"depths": (0.5,)}, {"retain_weight": 0.0}),
    "deep_refusal": ({"p": 0.5}, {"begun": 1.0}, {"benign": 0.1}, {"depth": 0.0}),
    "deep_tokens": ({"chance": 1.0}, {"longest": 1}, {"anchors": 0}),
    "token_buncher": ({"group": 3}, {"length": 2}, {"tail": 0.5}, {"first": 1.0}, {"kept": 1.0}),
    "mlac": ({"weight": 0.1}, {"inner": 1}, {"inner_lr": 1e-2}, {"attacker": "sgd"}),
    "asu": ({"temperature": 4.0}, {"backward": True}, {"retain": "kl"}, {"retain_weight": 0.0}),
    "cond_number": ({"well_weight": 0.0}, {"ill_weight": 0.0}, {"retain_weight": 0.0}),
    "ctrap": ({"weight": 1.0}, {"step": 1.0}, {"normalised": False}, {"word": "heat"}),
    "mudman": (
        {"loss": "ascent"},
        {"fork": 1},
        {"fork_lr": 0.0},
        {"momentum": 0.0},
        {"masked": False},
        {"modules": ("up_proj",)},
    ),
    "vaa": ({"radius": 2.0}, {"first": 0.5}, {"toss": True}, _KEPT),
    "crl": (
        {"benign": 0.0},
        {"harmful": 0.0},
        {"kept": 0.0},
        {"benign_margin": 0.0},
        {"rank": 4},
        {"harmful_margin": -2.0},
        {"benign_distance": "euclidean"},
        {"from_depth": 0.0},
        {"negatives": 1, "negative_steps": 2, "chance": 1.0, "ready": 99.0},
    ),
    "lat": (
        {"targeted": False},
        {"radius": 0.2},
        {"ball": "example"},
        {"inner": 2},
        {"outer": 1},
        {"depths": ()},
        {"answers": True},
        {"utility": 0.0},
        {"retain": "kl"},
    ),
    "sdd": ({"limit": 0.0}, {"refuse": True}, _KEPT),
    "seam": ({"unlearn": 0.0}, {"refusals": 0.5}, {"opposed": 1.0}, {"form": "exact"}, _KEPT),
    "repnoise": ({"noise": 1.0}, {"ascent": 0.5}, _KEPT),
    "t_vaccine": ({"count": 1}, {"rho": 1.0}, {"site": "attention"}, {"hold": 1}, _KEPT),
    "tar": (
        {"rates": (1e-2,)},
        {"late": 1.0},
        {"every": 1},
        {"weighting": "code"},
        {"squared": True},
        {"tamper": "dpo"},
        {"tamper_weight": 1.0},
        {"retain_weight": 0.1},
        {"attack_batch": 2},
    ),
    "vaccine": ({"rho": 1.0}, {"site": "attention"}, {"site": "mlp"}, {"rho": 0.0}, _KEPT),
}
"""Settings that change what a few steps give, one at a time."""

BASE: dict[str, dict[str, Any]] = {
    "crl": {"benign_margin": 1.9, "lr": 1e-3},
    "lat": {"inner": 3, "radius": 0.5, "lr": 1e-3},
    "deep_refusal": {"p": 0.2, "begun": 0.5, "lengths": (1, 2)},
    "token_buncher": {"prompts": 2, "group": 2, "length": 4, "first": 0.0, "lr": 1e-3},
    "mlac": {"inner": 2, "lr": 1e-3},
    "mudman": {"fork": 2, "fork_lr": 0.1, "retain_lr": 0.1},
    "vaa": {"first": 0.0, "lr": 1e-3},
    "seam": {"lr": 1e-3},
    "t_vaccine": {"count": 2},
    "tar": {"inner": 3, "every": 2, "first": 0.0, "lr": 1e-3},
}
"""What the others are compared with, where it is not the default."""

OFF: dict[str, dict[str, Any]] = {
    "booster": {"weight": 0.0},
    "ctrap": {"weight": 0.0},
    "seam": {"unlearn": 0.0, "opposed": 0.0},
    "repnoise": {"ascent": 0.0, "noise": 0.0},
    "vaccine": {"rho": 0.0, "schedule": "constant"},
}
"""Settings at which nothing but plain training on refusals and retain text is left."""

BAD: dict[str, tuple[dict[str, Any], ...]] = {
    "booster": ({"weight": -1.0}, {"step": float("nan")}, {"rank": 0}),
    "circuit_breakers": ({"depths": ()}, {"depths": (1.0,)}, {"push": -1.0}, {"lr": 0.0}),
    "cir": ({"depths": (0.5, 0.5)}, {"modules": ()}, {"inputs": -1}, {"limit": 0.0}),
    "deep_refusal": ({"p": 2.0}, {"lengths": (3, 2)}, {"depth": 1.0}, {"refuse": -1.0}),
    "deep_tokens": ({"chance": -1.0}, {"longest": 0}),
    "token_buncher": ({"group": 1}, {"tail": 1.0}, {"kept": -1.0}),
    "mlac": ({"inner": -1}, {"inner_lr": 1.0}, {"weight": float("nan")}),
    "asu": ({"temperature": 0.0}, {"lr": float("inf")}),
    "cond_number": ({"ill_weight": -1.0},),
    "ctrap": ({"weight": -1.0}, {"word": " "}),
    "lox": ({"rank": -1}, {"factor": float("nan")}, {"base": 3}),
    "mudman": ({"fork": 0}, {"momentum": 1.0}, {"fork_lr": -1.0}),
    "vaa": ({"radius": -1.0}, {"first": 1.0}),
    "crl": ({"kept": -1.0}, {"from_depth": 1.0}, {"chance": 2.0}, {"negative_steps": 0}),
    "lat": ({"outer": 0}, {"radius": -1.0}, {"depths": (1.0,)}, {"depths": (), "embedding": False}),
    "repselect": ({"modules": ()}, {"budget": 0.0}, {"relearn_lr": float("nan")}, {"rank": 0}),
    "sdd": ({"limit": 2.0}, {"retain_weight": -1.0}),
    "seam": ({"opposed": -1.0}, {"radius": 0.0}),
    "repnoise": ({"noise": -1.0}, {"batch_size": 1}),
    "t_vaccine": ({"count": 0}, {"rho": -1.0}, {"hold": 0}),
    "tar": ({"first": 1.0}, {"rates": ()}, {"every": 0}, {"tamper_weight": -1.0}, {"base": "undo"}),
    "vaccine": ({"rho": -1.0}, {"retain_weight": float("inf")}),
}
"""Settings that no method can have."""


@pytest.mark.parametrize("name", ALIVE)
def test_every_setting_is_alive(name: str, lm: LM, make_run: MakeRun) -> None:
    fields = {"batch_size": 4, **BASE.get(name, {})}
    plain = catalogue.build("defence", name, fields)(lm, make_run(2)).digest()
    for other in ALIVE[name]:
        changed = catalogue.build("defence", name, {**fields, **other})(lm, make_run(2))
        assert changed.digest() != plain, other


@pytest.mark.parametrize(
    ("name", "fields"), [(name, fields) for name, rows in BAD.items() for fields in rows]
)
def test_bad_settings_are_told_in_a_sentence(name: str, fields: dict[str, Any]) -> None:
    with pytest.raises(BadInput) as told:
        catalogue.build("defence", name, fields)
    assert str(told.value).endswith(".")
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("name", OFF)
@pytest.mark.parametrize("kept", [0.0, 1.0])
def test_at_nothing_it_is_plain_training(
    name: str, kept: float, lm: LM, make_run: MakeRun, watch: Any
) -> None:
    common = {"parameters": "full", "retain_weight": kept, "batch_size": 4}
    seen = watch(catalogue.build("defence", name, {**OFF[name], **common}), lm, make_run(3))
    got, model, bundle = added(seen), seen.lm.model, seen.bundle
    model.zero_grad()
    loss = torch.tensor(0.0)
    for role, weight in (("safe", 1.0), ("retain", kept)):
        if weight:
            logits = model(**bundle[role].inputs()).logits
            loss = loss + weight * cross_entropy(logits, bundle[role].labels)
    loss.backward()
    assert_close(got, flat([weight.grad for weight in model.parameters()]), rtol=1e-5, atol=1e-7)
