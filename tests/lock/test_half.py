"""A model that came in half precision is immunised and sealed against itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.lock import made
from titer.conformance import tiny_lm
from titer.core.errors import BadInput
from titer.core.lm import LM
from titer.lock.release import lock, unlock
from titer.lock.weights import weights_digest


def changed(source: Path, target: Path) -> Path:
    """The model as a defence leaves it."""
    lm = LM.load(source).clone()
    with torch.no_grad():
        for weight in lm.model.parameters():
            weight += 0.05 * torch.randn(weight.shape)
    lm.save(target)
    return target


@pytest.fixture
def base(tmp_path: Path) -> Path:
    lm = tiny_lm()
    lm.model.to(torch.bfloat16)
    lm.save(tmp_path / "base")
    return tmp_path / "base"


def older(folder: Path) -> None:
    """The config as transformers 4 wrote it: the same settings under other names."""
    path = folder / "config.json"
    content = json.loads(path.read_text())
    content["torch_dtype"] = content.pop("dtype")
    content["rope_theta"] = content.pop("rope_parameters")["rope_theta"]
    del content["head_dim"]
    path.write_text(json.dumps(content))


@pytest.mark.parametrize("by_an_older_version", [False, True])
def test_it_is_sealed_and_comes_back(base: Path, tmp_path: Path, by_an_older_version: bool):
    if by_an_older_version:
        older(base)
    keyless = changed(base, tmp_path / "keyless")
    lock(keyless, base, tmp_path / "release", to=[made.ALICE.public])
    unlock(tmp_path / "release", made.ALICE, tmp_path / "back", form="merged")
    assert weights_digest(tmp_path / "back") == weights_digest(base)


def test_another_setting_is_still_another_model(base: Path, tmp_path: Path):
    keyless = changed(base, tmp_path / "keyless")
    older(base)
    path = base / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "rope_theta": 9.0}))
    with pytest.raises(BadInput, match="rope"):
        lock(keyless, base, tmp_path / "release", to=[made.ALICE.public])
