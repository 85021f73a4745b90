"""What data cannot answer is not answered: not askable, with the reason, in every form."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from titer.core.study import Manifest
from titer.pillars.erasure import score
from titer.plan.manifest import describe
from titer.plan.suites import suite
from titer.worlds.fabula import fabula

pytestmark = pytest.mark.exact

WHY = "requests hold no facts"


def test_a_pillar_that_the_data_cannot_answer_has_the_reason_and_no_number():
    """Nothing of the ground is even looked at."""
    ground = SimpleNamespace(
        arena=None, blank=None, panel=None, study=SimpleNamespace(unasked={"erasure": WHY})
    )
    found = score(cast(Any, ground))
    for number in (found.rtt, found.oracle_after, found.honest_zero):
        assert number.value is None
        assert number.note == f"not askable: {WHY}"


def test_a_manifest_writes_it_down_and_reads_it_again():
    from titer.core.study import Subject
    from titer.plan.experiment import Experiment

    world = replace(fabula(), unasked={"erasure": WHY}, notes=("left out: 3 rows",))
    model = Subject(name="m", source="m", digest="0" * 16, role="undefended")
    study = Experiment(
        suite=suite("quick"), world=world, source="x", subjects=(model,), seeds=(0,), domain="A",
        tasks=(),
    )  # fmt: skip
    written = describe(study)
    assert f"erasure (not askable: {WHY})" in written.not_tested
    again = Manifest.from_json(written.to_json())
    assert (again.unasked, again.notes) == ({"erasure": WHY}, ("left out: 3 rows",))
    plain = describe(replace(study, world=fabula()))
    assert not {"unasked", "notes"} & plain.to_json().keys()
    assert world.digest() == fabula().digest()
