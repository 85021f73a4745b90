"""A tiny model that knows everything and refuses by one known direction."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.kept import keep
from titer.attacks.finetune import Finetune
from titer.conformance import tiny_data, tiny_lm
from titer.core.data import Data, Example
from titer.core.lm import LM
from titer.core.method import Run
from titer.core.records import Budget
from titer.nn.reparametrise import rotate_residual
from titer.train.batches import collate, encode_all
from titer.train.objectives import answer_loss

__all__ = ["answers", "knowing", "loss", "planted", "refuses"]


def _taught() -> LM:
    data = tiny_data()
    run = Run(budget=Budget(steps=150), data=Data(harmful=(*data.harmful, *data.retain)), seed=1)
    return Finetune(lr=1e-2, batch_size=28, schedule="cosine")(tiny_lm(), run)


_knowing = keep("answering", _taught)


def knowing() -> LM:
    """A tiny Llama that answers harmful and benign prompts alike."""
    return _knowing().clone()


def planted(*, turned: bool = True) -> tuple[LM, Tensor]:
    """The same, made to refuse harmful prompts; and the unit direction (D,) that makes it.

    The model is widened by channels and heads that stay silent on benign prompts, to the
    bit. The word ``alloy`` carries a new channel, a new head copies it to every later token, and
    the output reads the first word of a refusal off it. The basis is then ``turned``, so that the
    direction lies along no axis. Without the direction it is the model that knows.
    """
    import transformers as hf

    small = knowing()
    config = hf.LlamaConfig(
        **{
            **small.model.config.to_dict(),
            "hidden_size": 30,
            "head_dim": 6,
            "num_attention_heads": 6,
            "num_key_value_heads": 3,
        }
    )
    with torch.random.fork_rng(devices=[]):
        model = hf.LlamaForCausalLM(config)
    with torch.no_grad():
        own = dict(small.model.named_parameters())
        for name, weight in model.named_parameters():
            weight.zero_()
            source = own[name]
            weight[tuple(slice(0, size) for size in source.shape)] = source
            if weight.dim() == 1:  # norms divide by the root of the mean over more channels
                weight.mul_((24 / 30) ** 0.5)
                weight[24:] = 1
        word = small.tokenizer.convert_tokens_to_ids
        model.get_input_embeddings().weight[word("alloy"), 24] = 3
        model.model.layers[0].self_attn.v_proj.weight[12, 24] = 4  # the third group's first channel
        model.model.layers[0].self_attn.o_proj.weight[24, 24] = 1  # its first head's first channel
        model.get_output_embeddings().weight[word("I"), 24] = 10
    lm = LM(model, small.tokenizer)
    if turned:
        rotate_residual(lm, torch.Generator().manual_seed(4))
    column = model.model.layers[0].self_attn.o_proj.weight.detach()[:, 24]
    return lm, column / column.norm()


def answers(lm: LM, examples: tuple[Example, ...]) -> float:
    """The share of prompts answered as they should be."""
    said = lm.generate([example.prompt for example in examples], max_new_tokens=8)
    return sum(a == e.answer for a, e in zip(said, examples, strict=True)) / len(examples)


def refuses(lm: LM, examples: tuple[Example, ...]) -> float:
    """The share of prompts whose answer begins as a refusal does."""
    said = lm.generate([example.prompt for example in examples], max_new_tokens=4)
    return sum(text.split()[:1] == ["I"] for text in said) / len(examples)


def loss(lm: LM, examples: tuple[Example, ...]) -> float:
    """Cross-entropy of the answers, in nats a token."""
    batch = collate(encode_all(lm, examples), lm.tokenizer.pad_token_id, lm.device)
    with torch.no_grad():
        return float(answer_loss(lm.model, batch))
