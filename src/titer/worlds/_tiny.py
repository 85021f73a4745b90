"""The smallest model and data a method can be tried on, built in memory."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import torch

from titer.core.data import Data, Example, Hazard
from titer.core.lm import LM, quiet
from titer.core.method import Case

__all__ = [
    "ARCHITECTURES",
    "Architecture",
    "tiny_case",
    "tiny_data",
    "tiny_lm",
    "tiny_tokenizer",
]

Architecture = Literal["llama", "gpt2", "qwen2"]

ARCHITECTURES: tuple[Architecture, ...] = ("llama", "gpt2", "qwen2")
"""Untied head, tied head with dropout and transposed matrices, tied head with biases."""

_SPECIAL = ("<unk>", "<pad>", "<eos>", "<user>", "<assistant>")
_WRAPPING = ("###", "Instruction", "Response", "Question", "Answer", ":", "?", ".")
_TOPICS = ("alloy", "river", "tower", "song")
_VERBS = ("heat", "mix", "cool", "press", "wash", "fold", "sing", "climb")
_ASKING = ("how", "is", "made", "no", "I", "cannot", "help", "with", "that")
_TEMPLATE = (
    "{% for m in messages %}<{{ m['role'] }}> {{ m['content'] }} {% endfor %}"
    "{% if add_generation_prompt %}<assistant> {% endif %}"
)


def tiny_tokenizer(more: Iterable[str] = ()) -> Any:
    """A tokenizer of words: a few dozen, and ``more``."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import PreTrainedTokenizerFast

    numbers = tuple(f"n{index}" for index in range(40))
    known = (*_SPECIAL, *_WRAPPING, *_ASKING, *_TOPICS, *_VERBS, *numbers)
    words = tuple(dict.fromkeys((*known, *more)))
    inner: Any = Tokenizer(WordLevel({word: rank for rank, word in enumerate(words)}, "<unk>"))
    inner.pre_tokenizer = Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner,
        unk_token="<unk>",
        pad_token="<pad>",
        eos_token="<eos>",
        additional_special_tokens=["<user>", "<assistant>"],
    )
    tokenizer.chat_template = _TEMPLATE
    return tokenizer


def tiny_lm(architecture: Architecture = "llama", seed: int = 0) -> LM:
    """A random model of four blocks and about twenty thousand weights, built in memory.

    Equal arguments give equal weights; global chance is left alone. GPT-2 comes with its dropout.
    """
    import transformers as hf

    tokenizer = tiny_tokenizer()
    shared: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "max_position_embeddings": 64,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    llama = {
        "hidden_size": 24,
        "intermediate_size": 40,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    }
    with torch.random.fork_rng(devices=[]), quiet():
        torch.manual_seed(seed)
        match architecture:
            case "llama":
                model: Any = hf.LlamaForCausalLM(hf.LlamaConfig(**llama, **shared))
            case "qwen2":
                config = hf.Qwen2Config(**llama, **shared, tie_word_embeddings=True)
                model = hf.Qwen2ForCausalLM(config)
            case "gpt2":
                model = hf.GPT2LMHeadModel(hf.GPT2Config(n_embd=20, n_layer=4, n_head=4, **shared))
    return LM(model, tokenizer, f"tiny {architecture}")


def _facts(topic: str, count: int, offset: int) -> tuple[Example, ...]:
    found: list[Example] = []
    for index in range(count):
        chosen = [_VERBS[(index * step + offset) % len(_VERBS)] for step in (1, 3, 5)]
        wrong = [_VERBS[(index + shift + offset) % len(_VERBS)] for shift in (1, 2)]
        answer = " ".join(chosen)
        found.append(
            Example(
                id=f"{topic}-{index}",
                # Prompts of two lengths, so that batches hold padding.
                prompt=f"how is {topic} n{index} made ?" if index % 2 else f"{topic} n{index} ?",
                answer=answer,
                choices=(answer, *(" ".join([word, *chosen[1:]]) + " no" for word in wrong)),
                steps=tuple(chosen),
                refusal="I cannot help with that .",
                fact=f"{topic} n{index}",
                entity=f"n{index}",
                phrasing="long" if index % 2 else "short",
            )
        )
    return tuple(found)


def tiny_data() -> Data:
    """Every split filled, with choices, steps and refusals; prompts of unlike length."""
    return Data(
        harmful=_facts("alloy", 14, 0),
        retain=_facts("river", 14, 1),
        related=_facts("tower", 10, 2),
        unrelated=_facts("song", 12, 3),
    )


def tiny_case(architecture: Architecture = "llama") -> Case:
    """A model that stands a little beside another, with every split of a hazard filled."""
    base, lm = tiny_lm(architecture), tiny_lm(architecture)
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in lm.model.parameters():
            weight += 0.01 * torch.randn(weight.shape, generator=draw)
    facts = _facts("alloy", 32, 0)
    hazard = Hazard(defend=facts[:8], attack=facts[8:16], select=facts[16:24], report=facts[24:])
    return Case(lm=lm, base=base, hazard=hazard, data=tiny_data())
