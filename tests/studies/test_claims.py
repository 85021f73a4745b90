"""The table on planted studies: each direction agrees, does not, or stays open."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from studies._claims import MANY, READINGS, claims, ilu, judged, share
from studies._seen import RELEARN, Seen

from tests.studies import planted

RATES = (f"{RELEARN}, slow", f"{RELEARN}, fast")


def _levels(base: str, change: dict[str, float]) -> dict[tuple[str, str], list[float]]:
    """A study in which every published direction holds, but for ``change`` by kind of arm."""
    after = {
        "plain": 0.6,
        "sam": 0.3,
        "single": 0.4,
        "forget set": 0.55,
        **dict.fromkeys(MANY, 0.4),
        **change,
    }
    if base == "rmu":
        after["plain"] += 0.2
    arms = {base: after["plain"], f"{base}+sam": after["sam"]}
    for reading in READINGS:
        for kind in ("single", "forget set", *MANY):
            arms[ilu(base, reading, kind)] = after[kind]
    kinds = (*RATES, "related", "unrelated")
    return {(arm, kind): [level] for arm, level in arms.items() for kind in kinds}


def _study(change: dict[str, float] | None = None, *, cosines: float = 0.0) -> Seen:
    arms = _levels("npo", change or {}) | _levels("rmu", change or {})
    walked = {}
    for seed in range(3):
        walked[seed] = {
            arm: {"u→ft,u": (cosines if "ilu" in arm else -0.4) + 0.01 * seed} for arm, _ in arms
        }
    return replace(planted.seen(arms), cosines=walked)


def _answers(seen: Seen) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for claim in claims(seen, ["npo", "rmu"]):
        found.setdefault(claim.published, set()).add(claim.answer)
    return found


def test_where_everything_holds_everything_agrees() -> None:
    found = _answers(_study())
    assert len(found) == 8
    assert set(map(frozenset, found.values())) == {frozenset({"agrees"})}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"single": 0.9}, "ILU beats its base"),
        ({"sam": 0.5}, "SAM beats ILU"),
        ({"forget set": 0.3}, "The forget set"),
        ({kind: 0.2 for kind in MANY}, "Many environments"),
    ],
)
def test_where_the_opposite_is_planted_it_does_not(change: dict[str, float], words: str) -> None:
    found = _answers(_study(change))
    [answers] = [answers for published, answers in found.items() if published.startswith(words)]
    assert answers == {"does not"}


def test_cosines_that_stay_negative_do_not_agree() -> None:
    found = _answers(_study(cosines=-0.4))
    assert found["With ILU that cosine is about zero"] == {"does not"}
    # The same to the digit in every seed: moved up by nothing.
    assert found["ILU moves that cosine up"] == {"does not"}


def test_seeds_that_disagree_leave_it_open() -> None:
    arms = _levels("npo", {})
    arms[ilu("npo", "grad_norm"), "unrelated"] = [0.3, 0.9, 0.5]
    [claim] = [
        one
        for one in claims(planted.seen(arms), ["npo"])
        if one.quantity == "harm, ILU − base, NPO, grad_norm"
    ]
    assert claim.answer == "undecided"


def test_missing_arms_are_not_run_and_only_common_seeds_are_paired() -> None:
    seen = _study()
    traces = {key: one for key, one in seen.traces.items() if key[0] != "npo+sam"}
    traces = {key: one for key, one in traces.items() if not (key[0] == "rmu+sam" and key[2] == 2)}
    found = claims(replace(seen, traces=traces), ["npo", "rmu"])
    sam = [claim for claim in found if claim.published.startswith("SAM")]
    assert {(claim.answer, claim.seen.n) for claim in sam} == {("not run", 0), ("agrees", 2)}


def test_a_failed_attack_is_not_a_survived_one() -> None:
    seen = planted.seen({("npo", "unrelated"): [0.1]})
    failed = {key: replace(one, status="failed") for key, one in seen.traces.items()}
    assert replace(seen, traces=failed).after("npo", "unrelated") == {}


def test_the_rate_of_relearning_is_chosen_on_select_and_not_on_harm() -> None:
    harm = {RATES[0]: 0.2, RATES[1]: 0.9}
    select = {RATES[0]: 0.8, RATES[1]: 0.3}
    traces = {
        ("npo", rate, 0): planted.trace([[0.1], [harm[rate]]], select=select[rate])
        for rate in RATES
    }
    seen = Seen(seeds=(0,), traces=traces)
    assert seen.adversary("npo", RELEARN) == RATES[0]
    assert float(seen.after("npo", RELEARN)[0].mean()) == pytest.approx(0.2)


def test_the_interval_of_a_share_stays_inside() -> None:
    rows = {0: np.array([1.0, 0.9]), 1: np.array([0.9, 0.6])}
    assert (judged(rows).high or 0) > 1
    assert share(rows).high == 1
    assert share(rows).low == max(0.0, judged(rows).low or 0)
    assert share({0: rows[0]}) == judged({0: rows[0]})
