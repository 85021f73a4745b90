"""Every method where the model is on another device than the CPU: nothing is mixed up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from tests.contracts.conftest import Recorded
from tests.pretend import AWAY, pretended, send
from titer.conformance import tiny_data, tiny_lm
from titer.core import catalogue
from titer.core.lm import LM
from titer.core.method import Run
from titer.core.records import Kind

ROWS = [
    (kind, min(catalogue.card(kind, name).presets, default=""), name)
    for kind in ("attack", "defence")
    for name in catalogue.names(kind)
]
MEASURES = [
    name
    for name in catalogue.names("measure")
    if not hasattr(catalogue.build("measure", name), "look")
    and not getattr(catalogue.build("measure", name), "needs", ())  # a judge needs a model
]


def test_the_pretended_device_tells_what_a_real_one_would() -> None:
    lm = tiny_lm()
    with pretended():
        send(lm.model)
        ids = torch.tensor([[1, 2, 3]])
        logits = lm.model(input_ids=ids.to(AWAY)).logits
        assert logits.device.type == AWAY.type
        with pytest.raises(RuntimeError, match="same device"):
            logits + torch.ones(logits.shape)
        with pytest.raises(RuntimeError, match="same device"):
            lm.model(input_ids=ids)
        logits.sum().backward()
        assert next(lm.model.parameters()).grad is not None


@pytest.mark.parametrize(("kind", "row", "name"), ROWS)
def test_a_method_stays_on_its_models_device(
    kind: Kind, row: str, name: str, make_run: Callable[..., Run], recorded: Recorded
) -> None:
    fields: dict[str, Any] = dict(catalogue.card(kind, name).presets[row].fields) if row else {}
    if name == "soft_prompt":
        pytest.skip("transformers makes room by assigning `.data`, which is out of sight here")
    method, there = catalogue.build(kind, name, fields), tiny_lm()
    plain = recorded(kind, name, fields)
    with pretended():
        send(there.model)
        moved: LM = method(there, make_run(2))
        assert {weight.device.type for weight in moved.model.parameters()} == {AWAY.type}
        weights = {key: value.cpu() for key, value in moved.model.state_dict().items()}
    assert weights.keys() == plain.model.state_dict().keys()
    for key, value in plain.model.state_dict().items():
        # Adam's step is as long as the rate where a slope is nothing but rounding.
        torch.testing.assert_close(weights[key], value, rtol=1e-3, atol=3e-4)


@pytest.mark.parametrize("name", MEASURES)
def test_a_measure_takes_a_model_elsewhere(name: str) -> None:
    measure, items = catalogue.build("measure", name), tiny_data().harmful[:6]
    lm = tiny_lm()
    here = measure.judge(items, measure.collect(lm, items))
    with pretended():
        send(lm.model)
        there = measure.judge(items, measure.collect(lm, items))
    assert there == pytest.approx(here, rel=1e-3, abs=1e-4)
