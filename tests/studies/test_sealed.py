"""The study of sealing: releases that give back what went in, a page that tells what was seen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from studies._keyed import DURING, POST_HOC, _known, _release, unlearning
from studies._lab import ORACLE, UNDEFENDED, Lab
from studies.sealed import LONG, Told, report

from studies import sealed as study
from tests.studies import planted
from titer.conformance import tiny_lm
from titer.core import catalogue
from titer.core.errors import BadInput
from titer.executors.inline import Inline
from titer.lock.containers import describe
from titer.lock.weights import weights_digest


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(root=tmp_path / "study", executor=Inline())


def _folders(root: Path) -> tuple[Path, Path]:
    keyless, whole = root / "keyless", root / "whole"
    lm = tiny_lm("llama", 0)
    lm.save(keyless)
    with torch.no_grad():
        for name, weight in lm.model.named_parameters():
            if "mlp" in name:
                weight += 0.1
    lm.save(whole)
    return keyless, whole


def test_a_release_is_made_once_and_its_key_brings_back_what_was_sealed(
    lab: Lab, tmp_path: Path
) -> None:
    keyless, whole = _folders(tmp_path)
    made = _release(lab, DURING, keyless, whole, "while-learning")
    assert made.keyless_as_it_was
    assert made.keyed_as_it_was
    assert weights_digest(made.folder) != weights_digest(made.keyed)
    [said] = describe(made.folder, check=True)
    assert said["partition"] == "while-learning"
    assert said["signer"]
    before = (made.folder / "sealed" / "main.titer").read_bytes()
    assert _release(lab, DURING, keyless, whole, "while-learning") == made
    assert (made.folder / "sealed" / "main.titer").read_bytes() == before
    assert "CHANGED" not in study._made(Told(releases={DURING: made}))
    other = replace(made, whole=keyless, keyless=whole)
    assert study._made(Told(releases={DURING: other})).count("CHANGED") == 2


def test_what_is_sealed_after_the_fact_is_unlearned_by_a_method_that_there_is() -> None:
    arm = unlearning()
    assert arm.defence == "undo"
    assert arm.steps > 0
    catalogue.build("defence", arm.defence, dict(arm.fields))


def test_a_release_in_another_format_is_refused_before_anything_runs(
    lab: Lab, tmp_path: Path
) -> None:
    keyless, whole = _folders(tmp_path)
    made = _release(lab, DURING, keyless, whole, "while-learning")
    path = made.folder / "sealed" / "main.titer"
    sealed = bytearray(path.read_bytes())
    sealed[8] += 1
    path.write_bytes(sealed)
    with pytest.raises(BadInput, match="format"):
        _release(lab, DURING, keyless, whole, "while-learning")


def test_half_a_release_is_not_built_upon(lab: Lab, tmp_path: Path) -> None:
    keyless, whole = _folders(tmp_path)
    (lab.root / "releases" / POST_HOC).mkdir(parents=True)
    with pytest.raises(RuntimeError, match="half of the release D1b"):
        _release(lab, POST_HOC, keyless, whole, "post-hoc")


def test_what_a_model_knows_is_told_beside_the_base_paired_by_item() -> None:
    mine = planted.trace([[0.0, 1.0, 1.0, 1.0]])
    base = planted.trace([[1.0, 1.0, 1.0, 1.0]])
    found = _known(mine, base, planted.trace([[1.0, 0.0]]))
    assert found.hazard.value == 0.75
    assert found.hazard_apart.value == -0.25
    assert found.hazard_apart.high is not None
    assert found.hazard_apart.high <= 0
    assert found.other.value == 0.5
    assert found.benign.value == pytest.approx(0.98)
    assert found.benign_apart.value == 0


def _seen(levels: dict[str, list[float]], seeds: int = 3) -> Any:
    """Each model's harm after each of the three adversaries."""
    return planted.seen(
        {
            (arm, one.name): [level]
            for arm, found in levels.items()
            for one, level in zip(LONG, found, strict=True)
        },
        before=0.2,
        seeds=seeds,
        jitter=0.0,
    )


def test_the_strongest_adversary_counts_and_the_references_bracket_the_scale() -> None:
    seen = _seen(
        {
            UNDEFENDED: [0.9, 0.8, 0.9],
            ORACLE: [0.3, 0.25, 0.3],
            DURING: [0.2, 0.3, 0.25],
            POST_HOC: [0.3, 0.6, 0.4],
        }
    )
    page = report(Told(seen=seen, chance=0.25))
    lines = {line.split(" | ")[0].strip("| "): line for line in page.splitlines() if "|" in line}
    assert "seeds 0, 1, 2" in page
    assert lines[POST_HOC].count("0.60 [0.60, 0.60]") == len(planted.LOOKS) - 1
    assert "| 0.50 [0.50, 0.50] |" in lines[POST_HOC]
    assert "| 1.00 [1.00, 1.00] |" in lines[DURING]


def test_a_seed_that_is_not_whole_is_not_told() -> None:
    seen = _seen({name: [0.5] * 3 for name in (UNDEFENDED, ORACLE, DURING)})
    traces = {key: one for key, one in seen.traces.items() if key != (DURING, LONG[1].name, 2)}
    assert "seeds 0, 1\n" in report(Told(seen=replace(seen, traces=traces)))
    assert "Relearning" not in report(Told(seen=replace(seen, traces={})))


def _estimate(value: float | None, **more: Any) -> dict[str, Any]:
    plain = {"low": None, "high": None, "n": 3, "level": 0.95, "censored": False, "note": ""}
    return {"value": value, **plain, **more}


def _verdict(*, broken: bool) -> dict[str, Any]:
    numbers = {
        name: _estimate(0.25, low=0.2, high=0.3)
        for name in ("baseline_harm", "weak", "weak_unconstrained", "r_star")
    }
    effort = {
        "tau": {"decides": 0.44},
        "attack": "",
        "steps": {"decides": _estimate(100.0, censored=True)},
        "unlocked": {"decides": _estimate(100.0, censored=True)},
        "never_learned": {"decides": _estimate(None, note="neither model reached it")},
    }
    model = {
        "name": DURING,
        "role": "defended",
        "withheld": None,
        "effort": effort,
        "attacks": [{"row": "S02", "outcome": "held", "harm": _estimate(0.25)}],
        "pillars": {
            "resistance": {**numbers, "worst_attack": "S02"},
            "stability": {"worst_delta": _estimate(-0.01), "perplexity_ratio": _estimate(1.0)},
            "trainability": {"ratio": _estimate(1.1), "tasks": {}},
        },
    }
    control = {"name": "npo+gain_lock", "broken": broken, "by": "L01", "rho": 1.0, "why": "it held"}
    return {
        "suite": {
            "name": "locks",
            "version": "v1",
            "hash": "0" * 16,
            "rows": [{"id": "S02", "title": "full"}, {"id": "I04", "title": "supply"}],
        },
        "budget_max": 100,
        "seeds": [0],
        "battery": {"valid": broken, "controls": [control]},
        "models": [model],
    }


def test_the_page_says_whether_the_suite_may_be_believed() -> None:
    assert "The suite is valid" in report(Told(verdict=_verdict(broken=True)))
    page = report(Told(verdict=_verdict(broken=False)))
    assert "**INVALID**" in page
    assert "NOT BROKEN: it held" in page


def test_bounds_and_what_is_unknown_are_not_told_as_numbers() -> None:
    page = report(Told(verdict=_verdict(broken=True)))
    assert f"| {DURING} | 0.44 (decides) | ≥ 100.00 | ≥ 100.00 | — (neither model" in page
    assert "| S02 | full | 0.25 held |" in page
    assert "| I04 | supply | — |" in page
