"""A released generation config changes nothing that is said, and is kept for saving; turns end as
the template closes them; templates know one day only."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from titer.conformance import tiny_lm
from titer.core.errors import BadInput
from titer.core.lm import LM
from titer.worlds._tiny import tiny_data

PROMPTS = [item.prompt for item in tiny_data().harmful[:4]]
CHATML = (
    "{% for m in messages %}<{{ m['role'] }}> {{ m['content'] }} <pad> {% endfor %}"
    "{% if add_generation_prompt %}<assistant> {% endif %}"
)


def spoken(folder: Path) -> LM:
    """A model that says several words, whatever it is asked."""
    import torch

    lm = tiny_lm("qwen2", seed=1)
    with torch.no_grad():
        for weight in lm.model.parameters():
            weight *= 4.0
    lm.save(folder)
    return LM.load(folder)


@pytest.mark.parametrize(
    "settings",
    [
        {"stop_strings": ["made", "how"]},
        {"watermarking_config": {"bias": 9.0, "seeding_scheme": "lefthash"}},
        {"exponential_decay_length_penalty": [1, 9.0]},
        {"max_time": 0.0},
        {"do_sample": True, "temperature": 9.0},
        {"max_length": 3},
        {"min_length": 60},
        {"num_beams": 3, "num_return_sequences": 3},
        {"return_dict_in_generate": True, "output_scores": True},
        {"prompt_lookup_num_tokens": 2},
        {"dola_layers": "high"},
        {"token_healing": True},
        {"use_cache": False},
        {"cache_implementation": "static"},
        {"repetition_penalty": 9.0},
        {"bad_words_ids": [[n] for n in range(5, 60)]},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_a_generation_config_changes_nothing_that_is_said(tmp_path: Path, settings: Any):
    plain = spoken(tmp_path / "m").generate(PROMPTS, max_new_tokens=6)
    assert any(plain)
    path = tmp_path / "m" / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    lm = LM.load(tmp_path / "m")
    own = copy.deepcopy(lm.model.generation_config)
    assert lm.generate(PROMPTS, max_new_tokens=6) == plain
    assert lm.model.generation_config == own
    lm.save(tmp_path / "again")
    kept = json.loads((tmp_path / "again" / "generation_config.json").read_text())
    assert {key: kept[key] for key in settings} == settings or "watermarking_config" in kept
    assert LM.load(tmp_path / "again").generate(PROMPTS, max_new_tokens=6) == plain


def test_what_was_changed_after_loading_is_saved_all_the_same(tmp_path: Path):
    """transformers refuses a config that it would not ask with, at the end of all the work."""
    lm = tiny_lm()
    lm.model.generation_config.temperature = 0.3
    lm.model.generation_config.num_return_sequences = 4
    lm.save(tmp_path)
    assert json.loads((tmp_path / "generation_config.json").read_text())["temperature"] == 0.3


# -- the end of a turn ------------------------------------------------------------------------


def templated(template: str) -> LM:
    lm = tiny_lm()
    tokenizer = copy.deepcopy(lm.tokenizer)
    tokenizer.chat_template = template
    return LM(lm.model, tokenizer)


def test_an_answer_ends_as_the_template_closes_a_turn():
    """As Gemma's <end_of_turn>: the end of the sequence is another token."""
    lm = templated(CHATML)
    close = lm.tokenizer.convert_tokens_to_ids("<pad>")
    assert lm.turn_end() == close != lm.tokenizer.eos_token_id
    assert lm.encode("alloy", "heat mix").ids[-1] == close
    assert close in lm._ends()
    assert lm.answer_ids("heat", end=True, template="plain")[-1] == lm.tokenizer.eos_token_id


@pytest.mark.parametrize(
    "template",
    [
        CHATML.replace("<pad>", "<eos>"),
        CHATML.replace("<pad>", ""),
        CHATML.replace("<pad>", "made by <user>"),
        "{% for m in messages %}{% if m['role'] != 'user' %}{{ raise_exception('no') }}{% endif %}"
        "<user> {{ m['content'] }} {% endfor %}",
    ],
)
def test_otherwise_it_ends_with_the_sequence(template: str):
    lm = templated(template)
    assert lm.turn_end() == lm.tokenizer.eos_token_id


def test_a_closing_token_is_no_part_of_what_is_said():
    lm = templated(CHATML)
    word = lm.generate(PROMPTS[:1], max_new_tokens=1)[0]
    token = lm.tokenizer.convert_tokens_to_ids(word)
    lm.tokenizer.add_tokens([word])
    lm.model.generation_config.eos_token_id = [token]
    assert lm.generate(PROMPTS[:1], max_new_tokens=1) == [""]


# -- the clock --------------------------------------------------------------------------------

DATED = "{{ strftime_now('%d %B %Y') }} " + CHATML


def test_a_template_that_prints_the_date_prints_one_day(monkeypatch: pytest.MonkeyPatch):
    import datetime

    from transformers.utils import chat_template_utils

    class Later(datetime.datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.datetime(2031, 5, 6)

    one = templated(DATED)
    digest, ids = one.template_digest(), one.prompt_ids("alloy")
    monkeypatch.setattr(chat_template_utils, "datetime", Later)
    two = templated(DATED)
    assert (two.template_digest(), two.prompt_ids("alloy")) == (digest, ids)
    text = two.tokenizer.apply_chat_template([{"role": "user", "content": "x"}], tokenize=False)
    assert "2031" in text  # the clock of the test is the one that templates read


def test_two_templates_of_one_rendering_are_two():
    hiding = "{% if 'alloy' in messages[0]['content'] %}<pad>{% endif %}" + CHATML
    assert templated(CHATML).template_digest() != templated(hiding).template_digest()
    assert templated(CHATML).prompt_ids("what") == templated(hiding).prompt_ids("what")


@pytest.mark.parametrize("chance", ["{{ ['a', 'b'] | random }}", "{{ lipsum() }}"])
def test_a_template_that_draws_by_chance_is_refused(chance: str):
    with pytest.raises(BadInput, match="draws by chance"):
        templated(CHATML + chance).check()


def test_of_several_templates_the_default_is_taken(tmp_path: Path):
    lm = templated(CHATML)
    lm.tokenizer.chat_template = {"default": CHATML, "tool_use": DATED}
    assert lm.prompt_ids("alloy") == templated(CHATML).prompt_ids("alloy")
    lm.tokenizer.chat_template = {"tool_use": DATED}
    with pytest.raises(BadInput, match="none is named default"):
        lm.check()


def test_a_token_without_a_row_is_named_in_memory_too():
    lm = templated(CHATML)
    lm.tokenizer.add_tokens(["[PAD]"])
    with pytest.raises(BadInput, match=r"so '\[PAD\]' cannot be read"):
        lm.check()
