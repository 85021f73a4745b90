"""Condition numbers: closed forms, and which way descent on each term drives the spectrum."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from tests.defences.slopes import agrees, double
from titer.core.method import Run
from titer.defences.cond_number import CondNumber, gram, ill, well
from titer.train.batches import IGNORED
from titer.train.objectives import cross_entropy

MakeRun = Callable[..., Run]


def _condition(matrix: torch.Tensor) -> float:
    values = torch.linalg.eigvalsh(matrix)
    return float((values[-1] / values[0]).detach())


def test_closed_forms() -> None:
    one = torch.eye(5, dtype=torch.float64)
    assert float(well(one)) == pytest.approx(0.0, abs=1e-12)
    spread = torch.diag(torch.tensor([4.0, 2.0, 1.0], dtype=torch.float64))
    assert float(well(spread)) == pytest.approx(8.0 - 21.0 / 6)
    assert float(ill(spread)) == pytest.approx(1 / (21.0 / 6 - 0.5))
    flat = torch.diag(torch.tensor([4.0, 2.0, 1e-9], dtype=torch.float64))
    assert float(ill(flat)) == pytest.approx(1 / (20.0 / 6 - 2.0))  # 2 is the least above 1e-6
    draw = torch.Generator().manual_seed(0)
    for _ in range(20):
        x = torch.randn(30, 6, generator=draw)
        assert float(well(gram(x))) >= 0.0
        assert float(torch.trace(gram(x))) == pytest.approx(6.0, rel=1e-4)
        torch.testing.assert_close(gram(5 * x), gram(x))


def test_descent_on_each_drives_the_condition_its_way() -> None:
    draw = torch.Generator().manual_seed(1)
    first = torch.randn(40, 6, generator=draw, dtype=torch.float64)
    for term, sign in ((ill, 1.0), (well, -1.0)):
        x = first.clone().requires_grad_(True)
        stepper = torch.optim.Adam([x], lr=0.02)
        before = _condition(gram(x))
        for _ in range(60):
            stepper.zero_grad()
            term(gram(x)).backward()
            stepper.step()
        assert sign * (_condition(gram(x)) - before) > 0.1 * before


def test_its_gradient_is_that_of_its_loss(make_run: MakeRun, watch: Any) -> None:
    seen = watch(CondNumber(batch_size=6, well_weight=0.3, ill_weight=2.0), double(), make_run(2))

    def side(role: str) -> tuple[torch.Tensor, torch.Tensor]:
        batch = seen.bundle[role]
        out = seen.lm.model(**batch.inputs(), output_hidden_states=True)
        states = out.hidden_states[-1][:, :-1][batch.labels[:, 1:] != IGNORED]
        size = states.detach().pow(2).sum()  # held still
        return (
            states.T @ states * states.shape[1] / size + 1e-6 * torch.eye(states.shape[1]),
            cross_entropy(out.logits, batch.labels),
        )

    fixed = {role: float(_size(seen, role)) for role in ("forget", "retain")}

    def loss() -> torch.Tensor:
        found = {}
        for role in ("forget", "retain"):
            matrix, kept = side(role)
            now = float(_size(seen, role))
            eye = 1e-6 * torch.eye(len(matrix))
            found[role] = ((matrix - eye) * now / fixed[role] + eye, kept)
        kept = found["retain"][1]
        return kept + 0.3 * well(found["retain"][0]) + 2.0 * ill(found["forget"][0])

    agrees(seen, loss, 1e-5)


def _size(seen: Any, role: str) -> torch.Tensor:
    batch = seen.bundle[role]
    with torch.no_grad():
        out = seen.lm.model(**batch.inputs(), output_hidden_states=True)
    return out.hidden_states[-1][:, :-1][batch.labels[:, 1:] != IGNORED].pow(2).sum()
