"""Loading a model: what reaches memory is what the folder says, or a sentence says why not."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from titer.conformance import ARCHITECTURES, tiny_lm
from titer.core.errors import BadInput
from titer.core.lm import LM, place
from titer.core.modelfolder import tensor_shapes


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model folder to break."""
    tiny_lm().save(tmp_path / "model")
    return tmp_path / "model"


def change(path: Path, **settings: Any) -> None:
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, **settings}))


def weights(folder: Path, edit: Any) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    edit(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


def refused(folder: Path) -> str:
    with pytest.raises(BadInput) as caught:
        LM.load(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_what_is_saved_is_loaded(architecture, tmp_path):
    lm = tiny_lm(architecture)
    lm.save(tmp_path)
    again = LM.load(tmp_path)
    assert again.digest() == lm.digest()
    assert again.template_digest() == lm.template_digest()
    assert again.prompt_ids("how is alloy n3 made?") == lm.prompt_ids("how is alloy n3 made?")
    assert len(again.tokenizer) == len(lm.tokenizer)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(folder, value):
    weights(folder, lambda tensors: tensors["model.norm.weight"].fill_(value))
    assert "tensor 'model.norm.weight' holds NaN or infinite weights" in refused(folder)


def test_weights_that_are_missing_are_not_made_up(folder):
    weights(folder, lambda tensors: tensors.pop("model.layers.1.mlp.up_proj.weight"))
    assert "lack 1 tensors" in (said := refused(folder))
    assert "'model.layers.1.mlp.up_proj.weight'" in said


def test_a_tensor_of_another_shape(folder):
    weights(folder, lambda tensors: tensors.update({"model.norm.weight": torch.ones(7)}))
    assert "'model.norm.weight' is of shape (7,)" in (said := refused(folder))
    assert "needs (24,)" in said


def test_a_tokenizer_larger_than_the_embedding(folder):
    content = json.loads((folder / "tokenizer.json").read_text())
    size = len(content["model"]["vocab"])
    content["model"]["vocab"] |= {f"more{n}": size + n for n in range(3)}
    (folder / "tokenizer.json").write_text(json.dumps(content))
    assert "use the tokenizer the model was trained with" in refused(folder)


def test_a_tokenizer_without_an_end(folder):
    change(folder / "tokenizer_config.json", eos_token=None)
    assert "no end-of-sequence token" in refused(folder)


def test_an_unknown_architecture(folder):
    change(folder / "config.json", model_type="nonesuch")
    assert refused(folder).startswith("cannot load model")


def test_custom_code_is_not_run(folder):
    (folder / "code.py").write_text("raise SystemExit('ran')")
    change(folder / "config.json", auto_map={"AutoModelForCausalLM": "code.Model"})
    assert "custom code" in refused(folder)


@pytest.mark.parametrize(
    "template",
    ["{{ raise_exception('no users here') }}", "{% for", "{{ messages[0].nothing.here }}", "hello"],
)
def test_a_chat_template_that_cannot_put_a_prompt(folder, template):
    (folder / "chat_template.jinja").write_text(template)
    assert "chat template" in refused(folder)


def test_a_chat_template_cannot_reach_out_of_its_sandbox(folder):
    target = folder.parent / "escaped"
    template = (
        "{{ messages.__class__.__mro__[1].__subclasses__() }}{{ messages[0].content }}"
        f"{{{{ cycler.__init__.__globals__.os.mkdir('{target}') }}}}"
    )
    (folder / "chat_template.jinja").write_text(template)
    assert "chat template" in refused(folder)
    assert not target.exists()


def test_a_tokenizer_is_read_as_its_file_says(tmp_path):
    """For Qwen2 transformers takes a class of its own choice, which cuts digits singly."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe: Any = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=270,
        special_tokens=["<end>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(["1234 1234 1234"], trainer)
    lm = tiny_lm("qwen2")
    lm.model.resize_token_embeddings(bpe.get_vocab_size())
    lm.model.config.eos_token_id = lm.model.config.pad_token_id = None
    LM(lm.model, PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<end>")).save(tmp_path)
    again = LM.load(tmp_path)
    assert again.prompt_ids("1234") == bpe.encode("1234").ids
    assert len(again.tokenizer) == bpe.get_vocab_size()


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(bit=st.integers(0, 8 * 2048 - 1), cut=st.integers(0, 64))
def test_a_flipped_header_loads_or_is_refused(folder: Path, bit: int, cut: int):
    path = folder / "model.safetensors"
    before = path.read_bytes()
    content = bytearray(before)
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(bytes(content[: len(content) - (cut if cut % 4 == 0 else 0)]))
    try:
        with contextlib.suppress(BadInput):
            LM.load(folder)
    finally:
        path.write_bytes(before)


def test_weights_are_mapped_from_the_file_and_not_copied(tmp_path: Path) -> None:
    """Workers on one machine share the pages of a model that none of them changes."""
    maps = Path("/proc/self/maps")
    if not maps.exists():
        pytest.skip("the system does not tell what is mapped")
    folder = tmp_path / "m"
    tiny_lm("llama").save(folder)
    lm = LM.load(folder)
    spans = [
        tuple(int(end, 16) for end in line.split()[0].split("-"))
        for line in maps.read_text().splitlines()
        if line.endswith(str(folder / "model.safetensors"))
    ]
    own = {name: weight.data_ptr() for name, weight in lm.model.named_parameters()}
    elsewhere = [
        name for name, at in own.items() if not any(low <= at < high for low, high in spans)
    ]
    assert own
    assert not elsewhere


def test_weights_go_to_the_cpu_unless_another_device_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TITER_DEVICE", raising=False)
    assert place().type == "cpu"
    sent: list[torch.device] = []
    monkeypatch.setattr(torch.nn.Module, "to", lambda self, device: sent.append(device) or self)
    LM.load(folder)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda", 0))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)
    monkeypatch.setenv("TITER_DEVICE", "cuda:1")
    LM.load(folder)
    LM.load(folder, device="cpu")
    assert [str(device) for device in sent] == ["cpu", "cuda:1", "cpu"]
    for wrong in ("cuda:2", "mps", "nowhere"):
        with pytest.raises(BadInput, match=wrong):
            place(wrong)


# -- what the files hold and nobody reads -----------------------------------------------------


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("model.layers.0.self_attn.q_proj.bias", "attention_bias"),
        ("model.layers.0.mlp.gate_proj.bias", "mlp_bias"),
        ("model.layers.1.self_attn.extra.weight", "the config.json that the model was trained"),
        ("rider.weight", "delete them"),
    ],
)
def test_a_tensor_that_nobody_reads_is_refused(folder, name, said):
    weights(folder, lambda tensors: tensors.update({name: torch.ones(24)}))
    assert repr(name) in (text := refused(folder))
    assert "does not read" in text
    assert said in text


def test_a_tensor_that_the_architecture_drops_without_a_word(tmp_path):
    """GPT-2 ignores whatever is named attn.bias; a mask is one, and a second model is none."""
    tiny_lm("gpt2").save(tmp_path)
    mask = torch.ones(1, 1, 64, 64)
    weights(tmp_path, lambda t: t.update({"transformer.h.0.attn.bias": mask}))
    LM.load(tmp_path)
    weights(tmp_path, lambda t: t.update({"transformer.h.0.attn.bias": torch.ones(999, 9)}))
    assert "does not read" in refused(tmp_path)


def test_heads_that_predict_ahead_are_left_out(folder):
    before = LM.load(folder).digest()
    weights(folder, lambda tensors: tensors.update({"mtp.fc.weight": torch.ones(24)}))
    assert LM.load(folder).digest() == before


def test_an_error_of_several_lines_is_told_in_one(folder, monkeypatch):
    import transformers

    def fails(*_a: object, **_k: object) -> None:
        raise OSError("Couldn't instantiate from one of:\n(1) a \x1b[31mfile\n(2) a converter")

    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", fails)
    said = refused(folder)
    assert "(2) a converter" in said
    assert said.isprintable()


def test_codes_that_the_config_explains_are_turned_back_into_weights(folder):
    before, ids = LM.load(folder), torch.arange(5, 12)[None]

    def coded(tensors: Any) -> None:
        for name in [name for name in tensors if "proj" in name]:
            scale = tensors[name].abs().max() / 448
            tensors[name] = (tensors[name] / scale).to(torch.float8_e4m3fn)
            tensors[name.replace("weight", "weight_scale_inv")] = scale.reshape(1, 1)

    weights(folder, coded)
    assert "are codes of a quantised model" in refused(folder)
    told = {"quant_method": "fp8", "weight_block_size": [128, 128], "activation_scheme": "dynamic"}
    change(folder / "config.json", quantization_config=told)
    lm = LM.load(folder)
    far = (lm.model(ids).logits - before.model(ids).logits).abs().max()
    assert 0 < far < 0.1 * before.model(ids).logits.abs().max()
    lm.save(folder / "again")
    assert "quantization_config" not in (folder / "again" / "config.json").read_text()


def test_a_model_that_also_sees_is_asked_as_its_text_part_says(tmp_path):
    import transformers as hf

    tokenizer = tiny_lm().tokenizer
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": 24,
        "intermediate_size": 40,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 6,
        "max_position_embeddings": 128,
        "pad_token_id": 1,
        "eos_token_id": 2,
        "bos_token_id": None,
    }
    sight = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 5,
        "num_attention_heads": 2,
        "image_size": 28,
        "patch_size": 14,
    }
    places = {"image_token_id": 70, "boi_token_id": 71, "eoi_token_id": 72}
    config = hf.Gemma3Config(text_config=text, vision_config=sight, **places)
    model: Any = hf.Gemma3ForConditionalGeneration(config)
    LM(model, tokenizer).save(tmp_path)
    lm = LM.load(tmp_path)
    assert lm.context_length() == 128
    assert len(lm.generate(["how is alloy n3 made ?"], max_new_tokens=3)) == 1
    assert all("layers.4" not in name for name in tensor_shapes(tmp_path))
