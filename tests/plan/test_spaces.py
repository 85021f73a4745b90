"""Spaces: what is drawn lies in them, is spread as it should be, and is the same every time."""

from __future__ import annotations

import math
from dataclasses import replace

from titer.core.records import content_key
from titer.plan.experiment import _tried
from titer.plan.spaces import OWN, TAMPERBENCH, Range, Space
from titer.plan.suites import suite


def test_draws_lie_in_the_space_and_repeat() -> None:
    for name, space in (*TAMPERBENCH.items(), *OWN.items()):
        drawn = space.draw(60)
        assert drawn == space.draw(60), name
        assert drawn != space.draw(60, seed=1), name
        for setting in drawn:
            assert setting.keys() == space.knobs.keys()
            for knob, values in space.knobs.items():
                if isinstance(values, Range):
                    slack = 1.01  # three digits
                    assert values.low / slack <= setting[knob] <= values.high * slack
                else:
                    assert setting[knob] in values


def test_a_longer_search_begins_as_the_shorter_one() -> None:
    space = TAMPERBENCH["lora"]
    assert space.draw(40)[:10] == space.draw(10)


def test_another_knob_leaves_the_draws_of_this_one_alone() -> None:
    space = Space(knobs={"lr": Range(low=1e-6, high=1e-3, log=True)}, source="")
    more = replace(space, knobs={"rank": (8, 16), **space.knobs})
    assert [s["lr"] for s in space.draw(20)] == [s["lr"] for s in more.draw(20)]


def test_a_logarithmic_range_is_even_in_its_logarithm() -> None:
    drawn = [
        math.log10(setting["lr"])
        for setting in Space(knobs={"lr": Range(low=1e-6, high=1e-3, log=True)}, source="").draw(
            600
        )
    ]
    counts = [sum(-6 + i <= value < -5 + i for value in drawn) for i in range(3)]
    assert all(160 < count < 240 for count in counts)
    assert abs(sum(drawn) / len(drawn) + 4.5) < 0.1


def test_an_attacker_who_tunes_has_settings_that_build_and_rates_around_the_rows_own() -> None:
    stars = {"full-adamw": 1e-3, "lora-adamw": 3e-3}
    for row in suite("search").rows:
        preset = row.preset()[1]
        own = (preset.lr_scale or 0.0) * stars[preset.star]
        parts = _tried(row, stars)
        rates = [float(part.fields["lr"]) / own for part in parts]
        assert len(parts) == len({content_key(part.fields) for part in parts}) == 20
        assert min(rates) >= 0.099, row.id
        assert max(rates) <= 10.1, row.id
        assert min(rates) < 0.5 < 2 < max(rates), "the rate is searched on both sides"
