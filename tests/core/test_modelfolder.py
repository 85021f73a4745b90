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
from titer.core.modelfolder import faults, folder_digest, notes, require, tensor_shapes


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
    (folder / "model.safetensors").rename(folder / "model-1.safetensors")
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
    for path in folder.glob("token*"):
        path.unlink()
    assert len(faults(folder)) == 2


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


# -- read as it is, or not at all -------------------------------------------------------------


def tensors(folder: Path, edit: Any) -> None:
    from safetensors.torch import load_file, save_file

    path = folder / "model.safetensors"
    content = load_file(path)
    changed = edit(content) or content
    save_file({name: tensor.contiguous() for name, tensor in changed.items()}, path)


def sharded(folder: Path, shards: dict[str, Any]) -> None:
    """Cut the weights into files; a tensor is in the shard whose predicate takes its name."""
    from safetensors.torch import load_file, save_file

    content = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    named: dict[str, str] = {}
    for file, takes in shards.items():
        part = {name: tensor for name, tensor in content.items() if takes(name)}
        named |= dict.fromkeys(part, file)
        save_file(part, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": named}))


def in_two(folder: Path) -> None:
    sharded(
        folder,
        {
            "model-00001-of-00002.safetensors": lambda name: "layers" in name,
            "model-00002-of-00002.safetensors": lambda name: "layers" not in name,
        },
    )


def test_fewer_blocks_than_the_file_has(folder):
    change(folder / "config.json", num_hidden_layers=2)
    assert "the weights are of 4 blocks and config.json says 2" in one(folder)


def test_the_blocks_that_predict_ahead_are_told_and_not_counted(folder, whole):
    """They lie beyond the last block, as DeepSeek's do, or under a name of their own."""

    def more(content: Any) -> None:
        norm = content["model.norm.weight"]
        content |= {
            "model.layers.4.mlp.up_proj.weight": norm.repeat(9, 1),
            "mtp.fc.weight": norm.clone(),
        }

    tensors(folder, more)
    change(folder / "config.json", num_nextn_predict_layers=1)
    assert faults(folder) == []
    assert tensor_shapes(folder) == tensor_shapes(whole)
    assert any("2 tensors are no part of the language model" in note for note in notes(folder))
    assert notes(whole) == []


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module."])
def test_weights_saved_in_a_wrapper(folder, prefix):
    tensors(folder, lambda content: {prefix + name: t for name, t in content.items()})
    assert f"begin with '{prefix}'" in one(folder)
    assert "save the model that is inside" in one(folder)


@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "int8", "uint8", "int32"])
def test_codes_of_a_quantised_model_are_no_weights(folder, dtype):
    import torch

    name = "model.layers.0.mlp.up_proj.weight"
    tensors(folder, lambda c: c.update({name: c[name].to(getattr(torch, dtype))}))
    assert "are codes of a quantised model" in (said := one(folder))
    assert "no quantization_config" in said


def test_a_kind_of_quantisation_that_cannot_be_undone(folder):
    change(folder / "config.json", quantization_config={"quant_method": "gptq", "bits": 4})
    assert "quantised (quant_method 'gptq')" in one(folder)
    change(folder / "config.json", quantization_config={"quant_method": "fp8"})
    assert faults(folder) == []


@pytest.mark.parametrize(
    "name", ["chat_template.jinja", "config.json", "model.safetensors", "tokenizer.json"]
)
def test_links_and_pointers_that_hold_nothing(folder, name):
    path = folder / name
    path.unlink(missing_ok=True)
    path.symlink_to(folder / "nowhere" / name)
    assert "is a link to a file that is not there" in one(folder)
    path.unlink()
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n")
    assert "is a git-lfs pointer" in one(folder)


def test_a_template_of_many_is_looked_at_too(folder):
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "tools.jinja").symlink_to("nowhere")
    assert "is a link to a file that is not there" in one(folder)


def test_what_is_no_part_of_the_model_neither_counts_nor_condemns(folder, whole):
    """One answer to which files are the model, for all who ask."""
    nan = safetensors(
        b'{"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}', b"\0\0\xc0\x7f"
    )
    (folder / "consolidated.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    (folder / "stray.safetensors").write_bytes(nan)
    (folder / "model-00001-of-00002.safetensors").write_bytes(b"of another save")
    assert faults(folder) == []
    assert tensor_shapes(folder) == tensor_shapes(whole)
    assert folder_digest(folder) == folder_digest(whole)
    assert len(notes(folder)) == 3
    assert "consolidated.safetensors is no part of the model" in notes(folder)[0]


def test_shards_count_as_the_whole_does(folder, whole):
    in_two(folder)
    assert faults(folder) == []
    assert tensor_shapes(folder) == tensor_shapes(whole)
    old = folder / "model-00003-of-00003.safetensors"
    old.write_bytes((folder / "model-00002-of-00002.safetensors").read_bytes())
    assert faults(folder) == []
    assert tensor_shapes(folder) == tensor_shapes(whole)


def test_a_whole_file_beside_an_index_of_another_save(folder, whole):
    in_two(folder)
    shutil.copy(whole / "model.safetensors", folder)
    assert "holds two models" in one(folder)
    index = {"weight_map": dict.fromkeys(tensor_shapes(whole), "model.safetensors")}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert faults(folder) == []


def test_shards_of_two_saves(folder):
    in_two(folder)
    path = folder / "model.safetensors.index.json"
    named = json.loads(path.read_text())["weight_map"]
    first, second = sorted(set(named.values()))
    moved = {**named, "model.norm.weight": first}
    path.write_text(json.dumps({"weight_map": moved}))
    assert f"says that {first} holds 'model.norm.weight', and it does not" in one(folder)
    path.write_text(json.dumps({"weight_map": named}))
    shutil.copy(folder / first, folder / second)
    assert any("both hold" in fault for fault in faults(folder))


def test_an_added_token_without_a_row_is_named(folder):
    rows = len(tiny_lm().tokenizer)
    change(folder / "tokenizer.json", added_tokens=[{"id": rows, "content": "[PAD]"}])
    assert f"'[PAD]' ({rows})" in (said := one(folder))
    assert "resize_token_embeddings" in said


@pytest.mark.parametrize("file", ["config.json", "generation_config.json"])
@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"pad_token_id": 32000}, "has pad_token_id 32,000, and the embedding only"),
        ({"eos_token_id": [2, 99999]}, "has eos_token_id 99,999"),
        ({"eos_token_id": "</s>"}, "has eos_token_id '</s>'; it must be a token's number"),
    ],
)
def test_special_tokens_that_are_no_rows(folder, file, settings, said):
    change(folder / file, **settings)
    assert said in one(folder)


def test_a_tokenizer_of_sentencepiece_alone(folder, monkeypatch):
    for path in folder.glob("token*"):
        path.unlink()
    (folder / "tokenizer.model").write_bytes(b"\n\x0e\n\x05<unk>")
    monkeypatch.setattr("titer.core.tokenfaults._installed", lambda module: False)
    assert "pip install sentencepiece protobuf" in one(folder)


def test_an_adapter_is_named_before_its_missing_config(folder):
    (folder / "config.json").unlink()
    (folder / "adapter_config.json").write_text("{}")
    assert "holds an adapter" in one(folder)
