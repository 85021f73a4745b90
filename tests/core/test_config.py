"""One accessor for what a config says of its text part, whatever the architecture calls it."""

from __future__ import annotations

from typing import Any

import pytest

from titer.core import config
from titer.core.errors import BadInput

SIZES = {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4, "vocab_size": 70}


def read(of: Any) -> tuple[int, ...]:
    return (
        config.hidden_size(of),
        config.layers(of),
        config.attention_heads(of),
        config.vocab_size(of),
        config.context_length(of),
    )


def nested() -> Any:
    import transformers as hf

    text = {**SIZES, "head_dim": 6, "num_key_value_heads": 2, "max_position_embeddings": 128}
    return hf.Gemma3Config(text_config=text, vision_config={"num_hidden_layers": 7})


def test_a_config_inside_a_config_is_found():
    assert read(nested()) == (24, 3, 4, 70, 128)
    assert read(nested().to_dict()) == (24, 3, 4, 70, 128)


def test_what_is_set_on_the_text_part_is_set_in_the_whole():
    whole = nested()
    config.text_config(whole).num_hidden_layers = 5
    assert whole.to_dict()["text_config"]["num_hidden_layers"] == 5


@pytest.mark.parametrize("as_file", [False, True])
def test_names_of_other_architectures(as_file: bool):
    import transformers as hf

    gpt2: Any = hf.GPT2Config(n_embd=24, n_layer=3, n_head=4, vocab_size=70, n_positions=96)
    mpt: Any = hf.MptConfig(d_model=24, n_layers=3, n_heads=4, vocab_size=70, max_seq_len=48)
    assert read(gpt2.to_dict() if as_file else gpt2) == (24, 3, 4, 70, 96)
    assert read(mpt.to_dict() if as_file else mpt) == (24, 3, 4, 70, 48)


def test_a_model_without_a_bound_takes_what_is_said():
    import transformers as hf

    assert config.context_length(hf.BloomConfig()) == config.UNBOUNDED
    assert config.context_length(hf.MambaConfig()) == config.UNBOUNDED


def test_what_is_not_there_is_said():
    import transformers as hf

    with pytest.raises(BadInput, match="no number of attention heads"):
        config.attention_heads(hf.MambaConfig())
