"""The frontier on planted studies: prices, places, the corner that is sought, the picture."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree

import pytest
from studies._lab import ORACLE, UNDEFENDED
from studies._picture import Dot, picture
from studies._seen import RELEARN, Seen

from studies import frontier
from tests.studies import planted
from titer.conformance import tiny_lm
from titer.core import catalogue
from titer.core.records import Estimate
from titer.worlds.organisms import SIZES

RATE = f"{RELEARN}, 1e-3"


def _seen(levels: dict[str, float], prices: dict[str, float]) -> Seen:
    every = {UNDEFENDED: 0.9, ORACLE: 0.2, **levels}
    study = planted.seen(
        {(arm, kind): [level] for arm, level in every.items() for kind in (RATE,)},
        seeds=2,
        jitter=0.0,
    )
    return replace(study, flops={(arm, s): prices.get(arm, 0.0) for arm in every for s in (0, 1)})


def test_arms_are_placed_by_price_and_resistance() -> None:
    seen = _seen({"half": 0.55, "cheap": 0.9}, {"half": 50.0, "cheap": 10.0})
    cheap, half = frontier.placed(seen, 100.0, 0.125)
    assert (cheap.name, cheap.price, half.price) == ("cheap", 0.1, 0.5)
    assert half.resistance.end.value == pytest.approx(0.5)
    assert cheap.resistance.end.value == pytest.approx(0.0)


@pytest.mark.parametrize(
    ("level", "price", "expected"), [(0.26, 0.25, True), (0.26, 0.26, False), (0.28, 0.2, False)]
)
def test_what_is_sought_is_both_strong_and_cheap(
    level: float, price: float, expected: bool
) -> None:
    seen = _seen({"arm": level}, {"arm": price})
    [one] = frontier.placed(seen, 1.0, 0.125)
    assert one.enough is expected
    assert replace(one, utility=Estimate(value=0.9)).enough is False
    last = frontier.report(seen, 1.0, 0.125, 2).strip().splitlines()[-1]
    assert last.endswith("arm." if expected else "none.")


def test_an_arm_stands_on_the_seeds_that_it_shares_with_the_references() -> None:
    seen = _seen({"arm": 0.5}, {"arm": 1.0})
    traces = {key: one for key, one in seen.traces.items() if key != (ORACLE, RATE, 1)}
    [one] = frontier.placed(replace(seen, traces=traces), 10.0, 0.125)
    assert one.seeds == 1


def test_every_arm_can_be_built_and_is_named_once() -> None:
    arms = frontier.arms()
    assert len({arm.name for arm in arms}) == len(arms)
    for arm in arms:
        catalogue.build("defence", arm.defence, dict(arm.fields))
    noises = {arm.fields["share"] for arm in arms if arm.defence == "undo" and arm.rank == 1}
    assert noises == {0.0, 0.3, 0.6, 0.8, 1.0}


def test_the_price_of_growing_an_organism() -> None:
    lm, recipe = tiny_lm(), SIZES["nano"].pretraining
    full = frontier.pretraining(lm)
    assert full == 6 * lm.parameters_in_matmuls() * recipe.steps * recipe.tokens


def test_the_picture_shows_every_arm_and_escapes_names() -> None:
    dots = [
        Dot(name="a < b", price=0.1, resistance=Estimate(value=0.5, low=0.4, high=0.6)),
        Dot(name="c", price=0.2, resistance=Estimate(value=0.3)),
        Dot(name="gone", price=0.2, resistance=Estimate(value=None)),
        Dot(name="lost", price=0.05, resistance=Estimate(value=1.0), kept=False),
    ]
    drawn = ElementTree.fromstring(picture(dots, enough=0.9, price=0.25))
    space = "{http://www.w3.org/2000/svg}"
    texts = [one.text for one in drawn.iter(f"{space}text")]
    assert "a < b" in texts
    assert "c" in texts
    assert "gone" not in texts
    circles = list(drawn.iter(f"{space}circle"))
    assert [one.get("class") for one in circles] == [None, None, "lost"]
    # The stairs pass by what has lost its utility, cheap and strong as it is.
    [front] = [one.get("d") for one in drawn.iter(f"{space}path") if one.get("class") == "front"]
    assert str(circles[0].get("cx")) in str(front)
    assert str(circles[2].get("cx")) not in str(front)
    whiskers = [one for one in drawn.iter(f"{space}line") if one.get("class") == "whisker"]
    assert len(whiskers) == 1
