"""Judges of the real architectures, so small that they load at once, whose verdicts are planted.

A planted judge says one thing where a word stands anywhere in what it reads, and another where it
does not: one block attends to all tokens alike, so that the word shows in the last state.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from titer.core.lm import quiet

__all__ = ["KEYWORD", "classifier", "planted", "tokenizer"]

KEYWORD = "pancakes"
_WIDTH = 16
_BASE, _WORD, _OVER = 0, 1, 2
"""Directions of the state: every token, the keyword, and the end of a reply."""


def tokenizer(*words: str, bos: bool = True) -> Any:
    """Byte-level tokens, so that every text can be read, and some words that are one token each."""
    from tokenizers import Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import BPE
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    special = ["<unk>", "<s>", "</s>"]
    inner: Any = Tokenizer(BPE({mark: at for at, mark in enumerate([*special, *letters])}, []))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    if bos:
        inner.post_processor = TemplateProcessing(
            single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 1)]
        )
    found = PreTrainedTokenizerFast(
        tokenizer_object=inner, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )
    found.pad_token = "</s>"
    found.add_tokens([KEYWORD, *words])
    return found


def _config(kind: str, words: Any, context: int) -> Any:
    import transformers as hf

    made = {"llama": hf.LlamaConfig, "mistral": hf.MistralConfig, "gemma": hf.GemmaConfig}[kind]
    extra = {"head_dim": _WIDTH} if kind != "llama" else {}
    return made(
        vocab_size=len(words),
        hidden_size=_WIDTH,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
        max_position_embeddings=context,
        tie_word_embeddings=False,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
        **extra,
    )


@torch.no_grad()
def planted(
    at: Path,
    kind: str = "llama",
    *,
    yes: str,
    no: str,
    template: str | None = None,
    dtype: torch.dtype = torch.float32,
    context: int = 4096,
) -> Path:
    """A judge that replies ``yes`` where the keyword stands in what it reads, else ``no``."""
    import transformers as hf

    both = [word for word in (yes, no) if len(word) > 1]
    words = tokenizer(*both)
    with torch.random.fork_rng(devices=[]), quiet():
        torch.manual_seed(0)
        model: Any = hf.AutoModelForCausalLM.from_config(_config(kind, words, context))
    for weight in model.parameters():
        weight.zero_()
    for name, weight in model.named_parameters():
        if "norm" in name:
            weight.fill_(0.0 if kind == "gemma" else 1.0)
    block = model.model.layers[0].self_attn
    block.v_proj.weight.copy_(torch.eye(_WIDTH))
    block.o_proj.weight.copy_(torch.eye(_WIDTH))
    table, head = model.model.embed_tokens.weight, model.lm_head.weight
    table[:, _BASE] = 1.0
    table[words.convert_tokens_to_ids(KEYWORD), _WORD] = 1.0
    replies = [words.convert_tokens_to_ids(word) for word in (yes, no)]
    table[replies, _OVER] = 3.0
    head[replies[0], _WORD] = 2e5
    head[replies[1], _BASE] = 10.0
    head[words.eos_token_id, _OVER] = 1e5
    # A reply that stood in the prompt shows in the state as well, a little.
    head[words.eos_token_id, _BASE] = -2e4
    if template is not None:
        words.chat_template = template
    with quiet():
        model.to(dtype).save_pretrained(at)
        words.save_pretrained(at)
    return at


def classifier(at: Path, kind: str, labels: tuple[str, ...], problem: str | None = None) -> Path:
    """A random classifier of sequences."""
    import transformers as hf

    words = tokenizer(bos=kind == "llama")
    named = {"id2label": dict(enumerate(labels)), "label2id": {n: i for i, n in enumerate(labels)}}
    shared = {"vocab_size": len(words), "pad_token_id": words.pad_token_id, **named}
    if problem:
        shared["problem_type"] = problem
    if kind == "llama":
        config: Any = hf.LlamaConfig(
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            **shared,
        )
    else:
        config = hf.BertConfig(
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            **shared,
        )
    with torch.random.fork_rng(devices=[]), quiet():
        torch.manual_seed(0)
        model: Any = hf.AutoModelForSequenceClassification.from_config(config)
        model.save_pretrained(at)
        words.save_pretrained(at)
    return at
