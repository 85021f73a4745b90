"""The hash of how a machine computes: equal where it computes alike, another where it does not."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from titer.nn.arithmetic import _fill, _step, arithmetic


def _asked(**settings: str) -> str:
    code = "from titer.nn.arithmetic import arithmetic; print(arithmetic())"
    ended = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=True,
    )
    return ended.stdout.strip()


def test_it_is_the_same_in_every_process_and_at_every_thread_count() -> None:
    here = arithmetic()
    assert len(here) == 12
    assert _asked(OMP_NUM_THREADS="2") == here


def test_it_depends_on_the_kernels() -> None:
    """Settings that make most processors compute as another does; on the rest nothing is shown."""
    other = _asked(ATEN_CPU_CAPABILITY="default", MKL_CBWR="COMPATIBLE")
    if torch.backends.cpu.get_cpu_capability() == "DEFAULT" and other == arithmetic():
        pytest.skip("this processor has one way of computing")
    assert other != arithmetic()


def test_inputs_are_exact_and_one_bit_of_a_result_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    values = _fill(31, 7, salt=3)
    assert torch.equal(values * 65536, (values * 65536).round())
    assert values.min() >= -0.5
    assert values.max() < 0.5
    assert values.unique().numel() > 200

    def nudged(rows: int, width: int) -> list[torch.Tensor]:
        found = _step(rows, width)
        flat = found[0].detach().clone()
        flat.view(-1)[0] = torch.nextafter(flat.view(-1)[0], torch.tensor(9.0))
        return [flat, *found[1:]]

    before = arithmetic()
    monkeypatch.setattr("titer.nn.arithmetic._step", nudged)
    arithmetic.cache_clear()
    assert arithmetic() != before
    arithmetic.cache_clear()
