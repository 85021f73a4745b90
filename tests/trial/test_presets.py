"""From the name of an attack to what is run."""

from __future__ import annotations

import pytest

from tests.toy import data_folder
from titer.core import catalogue
from titer.core.errors import BadInput, UnknownName
from titer.trial.immunise import parse_defence, steps_of
from titer.trial.presets import adversary, checkpoints, middle_rate, usual
from titer.worlds.source import load_world

SMALL, LARGE = 1_000_000, 8_000_000_000


def test_checkpoints_start_at_nothing_and_end_with_the_budget() -> None:
    assert checkpoints(0) == (0,)
    assert checkpoints(7) == (0, 1, 3, 7)
    assert checkpoints(500)[-3:] == (100, 300, 500)


def test_a_row_takes_its_multiple_of_the_middle_rate_on_a_small_model() -> None:
    for name in catalogue.presets("attack"):
        method, preset = catalogue.preset("attack", name)
        small, large = (adversary(name, {}, size) for size in (SMALL, LARGE))
        assert (small.steps, large.steps) == preset.steps
        assert small.attack.name == large.attack.name == method
        if preset.lr_scale:
            rate = preset.lr_scale * middle_rate(preset.star, SMALL)
            assert small.attack.fields["lr"] == pytest.approx(rate)
        if "lr" in preset.fields:
            # Nothing is calibrated for a large model here: the paper's own rate applies.
            assert large.attack.fields["lr"] == preset.fields["lr"]


def test_a_rate_that_is_given_is_taken_as_it_is() -> None:
    found = adversary("S03", {"lr": "2e-3", "batch_size": 4}, SMALL)
    assert found.attack.fields["lr"] == 2e-3
    assert found.attack.fields["batch_size"] == 4


def test_a_bare_method_has_its_own_defaults() -> None:
    found = adversary("finetune", {}, SMALL)
    assert found.steps == 300
    assert adversary("finetune", {}, LARGE).steps == 1000
    own = catalogue.build("attack", "finetune")
    assert found.attack.fields["lr"] == own.lr


def test_faults_are_said() -> None:
    with pytest.raises(UnknownName, match="no attack named 'S030'"):
        adversary("S030", {}, SMALL)
    with pytest.raises(UnknownName, match="has no setting 'rate'"):
        adversary("S03", {"rate": 1}, SMALL)
    with pytest.raises(BadInput, match="does not fit"):
        adversary("S03", {"lr": "fast"}, SMALL)


def test_a_trial_knows_the_base_only_where_the_attack_starts_from_it(tmp_path: object) -> None:
    scope = load_world(str(data_folder(tmp_path / "d")))["alloy"]  # type: ignore[operator]
    more = {"model": "m", "subject": "s", "suite": "q", "items": 3, "base": "b"}
    plain = adversary("S03", {}, SMALL).trial(scope, steps=7, seed=2, **more)
    assert (plain.base, plain.budget.steps, plain.seed) == ("", 7, 2)
    assert (plain.world, plain.domain, plain.label) == (scope.world.digest(), "alloy", "S03")
    assert plain.checkpoints == (0, 1, 3, 7)
    assert adversary("transfer", {}, SMALL).trial(scope, **more).base == "b"


def test_a_defence_starts_from_what_was_found_on_a_model_of_its_size() -> None:
    found = catalogue.card("defence", "npo").presets["npo-135m"].found
    names = {
        size: (usual("npo", size) or ("",))[0]
        for size in (1, SMALL, found // 2, found, 3 * found, 5 * found, LARGE)
    }
    assert list(names.values()) == ["npo-testbed"] * 2 + ["npo-135m"] * 3 + [""] * 2
    assert usual("none", found) is None
    on = {size: parse_defence("npo", parameters=size) for size in (found, LARGE)}
    assert on[found][0].fields["batch_size"] == 4
    assert on[LARGE] == parse_defence("npo"), "nothing was found there: the paper's defaults"
    assert steps_of(on[found], parameters=found) < steps_of(on[LARGE], parameters=LARGE)


def test_what_is_set_goes_before_what_was_found() -> None:
    found = catalogue.card("defence", "npo").presets["npo-135m"].found
    [stage] = parse_defence("npo", {"lr": "2e-5"}, parameters=found)
    assert (stage.fields["lr"], stage.fields["batch_size"]) == (2e-5, 4)
