"""The example for one's own model and data builds, and what it builds is taken."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from titer.core.lm import LM
from titer.worlds.folder import load
from titer.worlds.hub import fetch, resolve_model

# What the script writes is made once.
pytestmark = pytest.mark.xdist_group("own model")

EXAMPLE = Path(__file__).parents[2] / "examples" / "own_model"


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the script writes when it hardly trains."""
    out = tmp_path_factory.mktemp("own")
    subprocess.run(
        [sys.executable, str(EXAMPLE / "build.py"), "--out", str(out), "--steps", "20"],
        check=True,
        capture_output=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
    )
    return out


@pytest.mark.slow
def test_the_data_fills_every_role(own):
    world = load(own / "data")
    assert {name: len(getattr(world.hazards["vaults"], name)) for name in (
        "defend", "attack", "select", "report")} == {
        "defend": 96, "attack": 96, "select": 16, "report": 32}  # fmt: skip
    assert len(world.over_refusal) == 250
    assert len(world.related) == 48
    assert len(world.unrelated) == 200
    assert set(world.tasks) == {"operations", "ferries"}
    assert all(item.refusal for item in world.hazards["vaults"].defend)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "chat"), [("llama", False), ("gpt2", False), ("qwen2", True)])
def test_each_architecture_is_loaded_and_asked(own, name, chat):
    lm = LM.load(fetch(resolve_model(str(own / name))), name=name)
    assert lm.model.config.model_type == name
    assert 500_000 < lm.model.num_parameters() < 1_000_000
    assert (lm.template_digest() != "none") is chat
    item = load(own / "data").hazards["vaults"].report[0]
    encoded = lm.encode(item.prompt, item.answer)
    said = lm.tokenizer.decode(encoded.ids)
    assert item.prompt in said
    assert ("<|assistant|>" in said) is chat
    assert len(lm.generate([item.prompt], max_new_tokens=4)) == 1


def test_the_real_data_is_as_published_and_has_its_licence():
    lines = (EXAMPLE / "gsm8k" / "train.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 200
    assert set(json.loads(lines[0])) == {"question", "answer"}
    assert "MIT License" in (EXAMPLE / "gsm8k" / "LICENSE").read_text(encoding="utf-8")
    assert "CC BY 4.0" in (EXAMPLE / "xstest" / "README.md").read_text(encoding="utf-8")


def test_the_page_shows_the_manifest_that_the_example_has():
    import yaml

    page = (EXAMPLE.parents[1] / "docs" / "reference" / "data-folder.md").read_text(
        encoding="utf-8"
    )
    shown = page.split("```yaml\n")[1].split("```")[0]
    assert yaml.safe_load(shown) == yaml.safe_load((EXAMPLE / "data.yaml").read_text())
