"""A model folder from outside: every fault in a sentence, whatever the bytes."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from titer.conformance import tiny_lm
from titer.core.errors import BadInput
from titer.core.modelfolder import faults, folder_digest, require, tensor_shapes


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder with nothing wrong."""
    at = tmp_path_factory.mktemp("whole")
    tiny_lm().save(at)
    return at


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    shutil.copytree(whole, tmp_path / "model")
    return tmp_path / "model"


def change(path: Path, **settings: Any) -> None:
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, **settings}))


def safetensors(header: bytes, data: bytes = b"") -> bytes:
    return struct.pack("<Q", len(header)) + header + data


def one(folder: Path) -> str:
    found = faults(folder)
    assert len(found) == 1, found
    assert found[0].endswith(".")
    assert "\n" not in found[0]
    with pytest.raises(BadInput):
        require(folder)
    return found[0]


def test_a_whole_folder_has_no_fault(folder):
    assert faults(folder) == []
    shapes = tensor_shapes(folder)
    assert shapes["model.embed_tokens.weight"] == (len(tiny_lm().tokenizer), 24)


def test_no_folder(tmp_path):
    assert "is no folder" in one(tmp_path / "nowhere")


def test_no_config(folder):
    (folder / "config.json").unlink()
    assert "there is no config.json" in one(folder)


@pytest.mark.parametrize("content", ["{", "[]", "", "9" * 5000, "[" * 100_000, "\0"])
def test_a_config_that_is_no_object(folder, content):
    (folder / "config.json").write_text(content)
    assert "config.json is" in one(folder)


def test_a_config_without_a_type(folder):
    (folder / "config.json").write_text("{}")
    assert "names no model_type" in one(folder)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("config.json", {"auto_map": {"AutoModelForCausalLM": "code.Model"}}),
        ("config.json", {"text_config": {"auto_map": {"AutoConfig": "code.Config"}}}),
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["code.Tokenizer", None]}}),
        ("config.json", {"attn_implementation": "somebody/kernel"}),
        ("config.json", {"_attn_implementation": "somebody/kernel:run"}),
        ("config.json", {"_experts_implementation": {"": "somebody/kernel"}}),
        ("config.json", {"transformers_weights": "pytorch_model.bin"}),
    ],
)
def test_code_from_outside_is_never_run(folder, name, settings):
    change(folder / name, **settings)
    assert "which titer never runs" in one(folder)


def test_an_adapter_is_told_from_a_model(folder):
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "somebody/else"}')
    assert "merge it into its base model" in one(folder)


def test_pickle_weights_only(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert "only pickle weights (pytorch_model.bin)" in one(folder)


def test_no_weights(folder):
    (folder / "model.safetensors").unlink()
    assert "holds no weights" in one(folder)


def test_no_tokenizer(folder):
    for path in folder.glob("token*"):
        path.unlink()
    assert "has no tokenizer.json" in one(folder)


@pytest.mark.parametrize("kept", [0, 7, 8, 9, 500, -1])
def test_truncated_weights(folder, kept):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    assert "is truncated" in one(folder)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (struct.pack("<Q", 2**63) + b"{}", "header of 9,223,372,036,854,775,808 bytes"),
        (struct.pack("<Q", 2**64 - 1) + b"{}", "truncated or not safetensors"),
        (safetensors(b"{"), "its header is not JSON"),
        (safetensors(b"\xff\xff"), "its header is not JSON"),
        (safetensors(b"[" * 100_000), "its header is not JSON"),
        (safetensors(b"9" * 5000), "its header is not JSON"),
        (safetensors(b"[]"), "its header is no object"),
        (safetensors(b'{"w": 3}'), "a malformed entry"),
        (safetensors(b'{"w": {"dtype": "F32", "shape": [1]}}'), "a malformed entry"),
        (safetensors(b'{"w": {"dtype": [], "shape": [1], "data_offsets": [0, 4]}}', b"1234"),
         "a malformed entry"),
        (safetensors(b'{"w": {"dtype": "F32", "shape": [1], "data_offsets": ["0", "4"]}}'),
         "a malformed entry"),
        (safetensors(b'{"w": {"dtype": "F32", "shape": [Infinity], "data_offsets": [0, 4]}}'),
         "a malformed entry"),
        (safetensors(b'{"w": {"dtype": "F32", "shape": [-1, -1], "data_offsets": [0, 4]}}'),
         "a malformed entry"),
        (safetensors(b'{"w": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}}'),
         "offsets that run backwards"),
        (safetensors(b'{"w": {"dtype": "F32", "shape": [9], "data_offsets": [0, 4]}}', b"1234"),
         "a size that does not fit"),
        (safetensors(b'{"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}'),
         "is truncated"),
    ],
)  # fmt: skip
def test_weights_that_lie_about_themselves(folder, content, said):
    (folder / "model.safetensors").write_bytes(content)
    assert said in one(folder)


def test_weights_that_are_no_file(folder):
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").mkdir()
    assert "is no file" in one(folder)
    (folder / "model.safetensors").rmdir()
    os.mkfifo(folder / "model.safetensors")
    assert "is no file" in one(folder)


@pytest.mark.parametrize(
    ("index", "said"),
    [
        ({"weight_map": {"w": "../other/model.safetensors"}}, "points elsewhere"),
        ({"weight_map": {"w": "/etc/passwd"}}, "points elsewhere"),
        ({"weight_map": {"w": "model-2.safetensors"}}, "shard model-2.safetensors is missing"),
        ({"weight_map": {"w": 3}}, "is missing"),
        ({"weight_map": []}, "has no weight_map"),
        ([], "is no object"),
    ],
)
def test_an_index_that_points_elsewhere(folder, index, said):
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert said in one(folder)


def test_a_tokenizer_of_another_model(folder):
    change(folder / "tokenizer.json", added_tokens=[{"id": 5000, "content": "<x>"}])
    assert "ids up to 5,000 but the embedding only" in one(folder)


@pytest.mark.parametrize(
    "settings",
    [{"model": 3}, {"model": {"vocab": [["a", 0.0]]}}, {"added_tokens": [3, {"id": "x"}, {}]},
     {"added_tokens": 3}, {"model": {"vocab": {"a": None}}}],
)  # fmt: skip
def test_an_odd_tokenizer_does_not_break_the_check(folder, settings):
    change(folder / "tokenizer.json", **settings)
    assert all(isinstance(fault, str) for fault in faults(folder))


def test_several_faults_come_together(folder):
    (folder / "model.safetensors").write_bytes(b"")
    (folder / "more.safetensors").write_bytes(b"")
    for path in folder.glob("token*"):
        path.unlink()
    assert len(faults(folder)) == 3


def test_the_digest_is_of_the_content_and_not_of_the_place(folder, whole):
    assert folder_digest(folder) == folder_digest(whole)
    (folder / "notes.md").write_text("not part of the model")
    assert folder_digest(folder) == folder_digest(whole)
    change(folder / "config.json", note=1)
    assert folder_digest(folder) != folder_digest(whole)


def test_what_is_sealed_beside_the_weights_counts(folder, whole):
    """There are attacks on it, so a release and its bare weights are two models."""
    (folder / "sealed").mkdir()
    (folder / "sealed" / "README.md").write_text("what this is")
    assert folder_digest(folder) == folder_digest(whole)
    (folder / "sealed" / "main.titer").write_bytes(b"one")
    one = folder_digest(folder)
    (folder / "sealed" / "main.titer").write_bytes(b"two")
    assert len({one, folder_digest(folder), folder_digest(whole)}) == 3


SMALL = safetensors(
    b'{"__metadata__": {"format": "pt"}, '
    b'"w": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}, '
    b'"b": {"dtype": "F32", "shape": [2], "data_offsets": [16, 24]}}',
    bytes(24),
)


def judge(folder: Path, content: bytes) -> None:
    """Refused in a sentence, or passed; never another exception."""
    (folder / "model.safetensors").write_bytes(content)
    with contextlib.suppress(BadInput):
        require(folder)
    tensor_shapes(folder)


quick = settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@quick
@given(kept=st.integers(0, len(SMALL)), flips=st.lists(st.integers(0, 8 * len(SMALL) - 1)))
def test_cut_and_flipped_weights(folder: Path, kept: int, flips: list[int]):
    content = bytearray(SMALL)
    for bit in flips:
        content[bit // 8] ^= 1 << bit % 8
    judge(folder, bytes(content[:kept]))


@quick
@given(
    entry=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["dtype", "shape", "data_offsets"]), inner)
        ),
        max_leaves=8,
    )
)
def test_any_header(folder: Path, entry: Any):
    judge(folder, safetensors(json.dumps({"w": entry}).encode(), bytes(8)))
