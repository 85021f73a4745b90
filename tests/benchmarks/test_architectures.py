"""The table of architectures: it covers the catalogue, holds no fault, and is what is measured."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
from benchmarks._architectures import ARCHITECTURES
from benchmarks.architectures import GROUPS, METHODS, kept, measured

from titer.core import catalogue
from titer.core.errors import BadInput
from titer.core.lm import LM

ROOT = Path(__file__).parents[2]
NEITHER = {"noop", "none"}


def _page() -> str:
    found = importlib.util.spec_from_file_location("models_page", ROOT / "docs" / "models.py")
    assert found is not None
    assert found.loader is not None
    module: Any = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module.page()


def test_the_page_is_what_was_measured() -> None:
    assert (ROOT / "docs" / "models.md").read_text(encoding="utf-8") == _page()


def test_every_method_is_tried_on_every_architecture() -> None:
    names = {*catalogue.names("attack"), *catalogue.names("defence")} - NEITHER
    assert {method.name for method in METHODS} == names
    grouped = [name for labels in GROUPS.values() for name in labels]
    assert sorted(grouped) == sorted(names)
    found = kept()
    assert list(found) == sorted(one.name for one in ARCHITECTURES)
    labels = sorted(method.label for method in METHODS)
    assert all(sorted(row) == labels for row in found.values())


def test_the_architectures_are_of_every_kind() -> None:
    assert len(ARCHITECTURES) >= 25
    traits = " ".join(one.traits for one in ARCHITECTURES)
    for kind in ("dense", "experts", "hybrid", "recurrent", "ALiBi", "norms after", "soft caps",
                 "nested", "tied"):  # fmt: skip
        assert kind in traits


def test_there_is_no_fault_and_a_refusal_is_one_sentence() -> None:
    for name, row in kept().items():
        for label, cell in row.items():
            assert cell.outcome != "fault", f"{name}, {label}: {cell.said}"
            if cell.outcome == "refused":
                assert cell.said.endswith("."), f"{name}, {label}"
                assert "\n" not in cell.said, f"{name}, {label}"


def test_a_quantised_model_is_refused(tmp_path: Path) -> None:
    ARCHITECTURES[0].build().save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    config["quantization_config"] = {"quant_method": "gptq", "bits": 4}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(BadInput):
        LM.load(tmp_path)


FAST = ("finetune: LoRA", "ablate", "steer", "prune", "quantise: GPTQ", "reinforce", "keyed_basis")


@pytest.mark.parametrize("name", ["gemma2", "gpt_oss", "mamba", "qwen3_next"])
def test_a_part_is_measured_anew(name: str) -> None:
    chosen = [one for one in ARCHITECTURES if one.name == name]
    methods = [method for method in METHODS if method.label in FAST]
    for _, label, cell in measured(chosen, methods):
        assert cell == kept()[name][label], label


@pytest.mark.slow
@pytest.mark.parametrize("one", ARCHITECTURES, ids=lambda one: one.name)
def test_all_of_it_is_measured_anew(one: Any) -> None:
    for name, label, cell in measured([one]):
        assert cell == kept()[name][label], label
