"""A study recorded before verdicts were typed values still says what it said, to the byte.

``tests/data/recorded`` is a whole run folder without what models said: a model and data that are
not the testbed's, with adversaries that are void, one that failed and a benign task that timed out.
``recorded.json`` is the verdict that was written then, ``recorded_keys.json`` the keys of trials
that a study of the testbed had.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from titer.report.load import read_verdict
from titer.verdict.parts import Verdict

DATA = Path(__file__).parents[1] / "data"
ADDED = ("standing", "reason", "doubts")
"""What an attack's record holds beyond what it held then: its validity, as values."""

LATER = ("S19", "S20", "S21", "S22", "S23")
"""Checks that were made since; a study of then has not the trials for them."""


def _then(verdict: dict[str, Any]) -> dict[str, Any]:
    """A verdict as it was written then: without what was added, and without what is put
    otherwise, the families of rows (with their number in a claim) and what checks say of
    themselves."""
    for row in verdict["suite"]["rows"]:
        del row["family"]
    for model in verdict["models"]:
        model["claim"] = re.sub(r"from \d+ famil(y|ies)", "", model["claim"])
        for attack in model["attacks"]:
            for name in ADDED:
                attack.pop(name, None)
        model["pillars"]["erasure"].pop("regained", None)
        model["checks"] = [one for one in model["checks"] if one["id"] not in LATER]
        for check in model["checks"]:
            for name in ("question", "measures", "threshold"):
                del check[name]
    return verdict


def test_a_recorded_verdict_comes_out_the_same() -> None:
    found = read_verdict(DATA / "recorded")
    was = json.loads((DATA / "recorded.json").read_text(encoding="utf-8"))
    now = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert json.dumps(_then(now), sort_keys=True) == json.dumps(_then(was), sort_keys=True)


def test_what_was_recorded_has_what_can_go_wrong() -> None:
    [model] = read_verdict(DATA / "recorded")
    standings = {one.standing for one in model.attacks.values()}
    assert {"valid", "void", "failed"} <= standings
    assert model.withheld == "not calibrated: undefended S03 seed 0 failed"


def test_a_recorded_verdict_reads_back() -> None:
    found = read_verdict(DATA / "recorded")
    assert Verdict.from_json(json.loads(json.dumps(found.to_json()))) == found
