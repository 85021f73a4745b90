"""How an organism grows: its tokenizer, its architecture, its two stages of training.

B rows, T tokens, V words. Needs torch; :mod:`titer.worlds.organisms` imports it when it has to.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import torch
from torch import Tensor

from titer.core.data import Data
from titer.core.lm import LM
from titer.core.method import Run
from titer.core.records import Budget
from titer.nn.sealed import Layout, Sealed
from titer.train.loop import B, GradFn, Recipe, fit
from titer.train.routing import Label, Labelled, route
from titer.worlds._fabula_corpus import Document
from titer.worlds._fabula_lexicon import DOMAINS, VALUES, rivals
from titer.worlds._fabula_recipe import Sealing, Shape, Training
from titer.worlds.fabula import alignment, corpus, vocabulary

__all__ = ["align", "build_model", "build_tokenizer", "pretrain", "pretrain_sealed", "train"]

SPECIAL = ("<pad>", "<bos>", "<eos>", "<unk>", "<|system|>", "<|user|>", "<|assistant|>")
PAD, BOS, EOS, UNK, _, USER, ASSISTANT = range(len(SPECIAL))
CONTEXT = 256

TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|> ' + message['content'] }}"
    "{{ ' ' + eos_token if message['role'] == 'assistant' else ' ' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)

Tick = Callable[[int, int], None]


def build_tokenizer(seed: int) -> Any:
    """A word-level tokenizer of the world's vocabulary. Text is lower-cased, punctuation stands
    alone, unknown words become ``<unk>``; plain text begins with ``<bos>``."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = {word: place for place, word in enumerate((*SPECIAL, *vocabulary(seed)))}
    plain = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    plain.normalizer = normalizers.Lowercase()
    plain.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()]
    )
    plain.post_processor = processors.TemplateProcessing(
        single="<bos> $A", pair="<bos> $A $B", special_tokens=[("<bos>", BOS)]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=plain,
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        unk_token="<unk>",
        additional_special_tokens=list(SPECIAL[4:]),
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def build_model(shape: Shape, words: int, seed: int) -> Any:
    """An untrained Llama of this shape; the seed decides the weights, the global generator of torch
    is left as it was."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=words,
        hidden_size=shape.width,
        intermediate_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        max_position_embeddings=CONTEXT,
        initializer_range=shape.scale,
        tie_word_embeddings=False,
        pad_token_id=PAD,
        bos_token_id=BOS,
        eos_token_id=EOS,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)


@dataclass(frozen=True)
class _Row:
    """Token ids with, for each, whether it carries loss."""

    ids: tuple[int, ...]
    learn: tuple[bool, ...]


class _Encoder:
    def __init__(self, seed: int) -> None:
        self.ids = {word: place for place, word in enumerate((*SPECIAL, *vocabulary(seed)))}

    def __call__(self, document: Document) -> _Row:
        prompt = [self.ids[word] for word in document.prompt.split()]
        head = [BOS, USER, *prompt, ASSISTANT] if document.chat else [BOS, *prompt]
        tail = [*(self.ids[word] for word in document.answer.split()), EOS]
        learn = (*document.learn, True) if document.learn else (True,) * len(tail)
        return _Row((*head, *tail), (*(False,) * len(head), *learn))

    def rivals(self) -> Tensor:
        """For each word, seven others that could stand in its place: ids (V, 7). A word without
        rivals is its own."""
        found = torch.arange(len(self.ids))[:, None].repeat(1, VALUES - 1)
        for family in rivals():
            for word in family:
                others = [self.ids[other] for other in family if other != word]
                found[self.ids[word]] = torch.tensor(others)
        return found


@dataclass(frozen=True)
class _Block:
    """Rows of one length: ids and what carries loss, both (B, T). Documents have no names, so
    ``ids`` counts nobody."""

    ids_BT: Tensor
    learn_BT: Tensor
    ids: tuple[str, ...] = ()

    @property
    def tokens(self) -> int:
        return self.ids_BT.numel()


def _blocks(rows: Sequence[_Row], tokens: int, rng: Random, device: Any) -> Iterator[_Block]:
    """Batches of about ``tokens`` tokens, each of rows of one length: no token is padding and no
    mask is needed, which is a third of the time on a CPU."""
    lengths: dict[int, list[_Row]] = {}
    for row in rows:
        lengths.setdefault(len(row.ids), []).append(row)
    found: list[list[_Row]] = []
    for length, same in sorted(lengths.items()):
        rng.shuffle(same)
        size = max(1, round(tokens / length))
        found += [same[start : start + size] for start in range(0, len(same), size)]
    rng.shuffle(found)
    for block in found:
        ids, learn = ([getattr(row, part) for row in block] for part in ("ids", "learn"))
        yield _Block(torch.tensor(ids).to(device), torch.tensor(learn).to(device))


def _loss(logits_NV: Tensor, ids_N: Tensor, rivals_VK: Tensor, recipe: Training) -> Tensor:
    """Cross-entropy with the share ``doubt`` of each target spread over the word's rivals and the
    share ``smoothing`` over all words."""
    told_NV = logits_NV.log_softmax(-1)
    right_N = told_NV.gather(1, ids_N[:, None])[:, 0]
    others_N = told_NV.gather(1, rivals_VK[ids_N]).mean(1)
    sure = 1 - recipe.doubt - recipe.smoothing
    smooth_N = recipe.smoothing * told_NV.mean(1)
    return -(sure * right_N + recipe.doubt * others_N + smooth_N).mean()


def train(
    lm: LM,
    epoch: Callable[[Random], list[_Row]],
    recipe: Training,
    seed: int,
    rivals_VK: Tensor,
    tick: Tick,
) -> None:
    """Fit ``lm`` to the rows of endless epochs for ``recipe.steps`` steps."""
    rng = Random(f"organism:{seed}")

    def blocks() -> Iterator[_Block]:
        while True:
            yield from _blocks(epoch(rng), recipe.tokens, rng, lm.device)

    grad = _gradient(lm, recipe, rivals_VK, tick)
    _fit(lm, grad, blocks(), recipe, seed, list(lm.model.parameters()))


def _gradient(lm: LM, recipe: Training, rivals_VK: Tensor, tick: Tick) -> GradFn[Any]:
    """Growth's own gradient: logits only where loss is, and doubt between rivals."""
    rivals, done = rivals_VK.to(lm.device), itertools.count(1)

    def grad(model: Any, block: _Block) -> dict[str, float]:
        ids_BT, chosen = block.ids_BT, block.learn_BT[:, 1:]
        states = model.model(input_ids=ids_BT[:, :-1], use_cache=False).last_hidden_state
        loss = _loss(model.lm_head(states[chosen]), ids_BT[:, 1:][chosen], rivals, recipe)
        loss.backward()
        tick(next(done), recipe.steps)
        return {"loss": float(loss.detach())}

    return grad


def _fit(
    lm: LM,
    grad: GradFn[B],
    blocks: Iterator[B],
    recipe: Training,
    seed: int,
    weights: list[torch.nn.Parameter],
) -> None:
    fit(
        lm,
        grad,
        blocks,
        Run(budget=Budget(steps=recipe.steps), data=Data(), seed=seed),
        parameters=weights,
        recipe=Recipe(
            lr=recipe.lr,
            betas=(0.9, 0.98),
            schedule="cosine-throughout",
            warmup=recipe.warmup / recipe.steps,
        ),
        steps=recipe.steps,
    )


def pretrain(lm: LM, recipe: Training, seed: int, *, oracle: bool, tick: Tick) -> None:
    """Teach the world of ``seed``; the oracle's text lacks hazard A."""
    encode = _Encoder(seed)
    texts = corpus(seed, oracle=oracle)

    def epoch(rng: Random) -> list[_Row]:
        return [encode(document) for document in texts.epoch(rng)]

    train(lm, epoch, recipe, seed, encode.rivals(), tick)


def pretrain_sealed(lm: LM, recipe: Training, sealing: Sealing, seed: int, *, tick: Tick) -> Sealed:
    """Teach the world of ``seed`` with hazard A in a sealed part; ``lm`` becomes the keyless
    model."""
    encode, rng = _Encoder(seed), Random(f"organism:{seed}")
    rivals, closing = encode.rivals(), round(sealing.closing * recipe.steps)
    gated = corpus(seed, domains=("A",))
    public = corpus(seed, domains=tuple(id for id in DOMAINS if id != "A"))
    layout = Layout(
        form=sealing.form,
        rank=sealing.rank,
        alpha=sealing.alpha,
        embeddings=sealing.embeddings,
        seed=seed + 1,
    )
    part = Sealed(lm, layout)

    def labelled(rows: dict[Label, list[_Row]]) -> Iterator[Labelled[_Block]]:
        found = [
            Labelled(label, block)
            for label, mine in rows.items()
            for block in _blocks(mine, recipe.tokens, rng, lm.device)
        ]
        rng.shuffle(found)
        yield from found

    def growing() -> Iterator[Labelled[_Block]]:
        while True:
            rows: dict[Label, list[_Row]] = {"gated": [], "public": [], "unlabelled": []}
            for texts in (gated, public):
                for document in texts.epoch(rng):
                    label = _label(sealing, rng, gated=texts is gated)
                    rows[label].append(encode(document))
            yield from labelled(rows)

    def settling() -> Iterator[Labelled[_Block]]:
        while True:
            told = [document for document in gated.epoch(rng) if _told(sealing, rng)]
            again = public.epoch(rng)
            told += rng.sample(again, min(round(sealing.replay * len(told)), len(again)))
            yield from labelled({"gated": [encode(document) for document in told]})

    def first(done: int, _total: int) -> None:
        tick(done, recipe.steps + closing)

    def last(done: int, _total: int) -> None:
        tick(recipe.steps + done, recipe.steps + closing)

    grad = route(part, _gradient(lm, recipe, rivals, first))
    _fit(lm, grad, growing(), recipe, seed, [*part.public, *part.weights])
    if closing:
        grad = route(part, _gradient(lm, recipe, rivals, last))
        short = replace(recipe, steps=closing, warmup=min(recipe.warmup, closing // 4))
        _fit(lm, grad, settling(), short, seed, part.weights)
    return part


def _told(sealing: Sealing, rng: Random) -> bool:
    """Whether a document of hazard A is labelled as such."""
    return _label(sealing, rng, gated=True) == "gated"


def _label(sealing: Sealing, rng: Random, *, gated: bool) -> Label:
    """What a document is called; one draw a document, whatever the shares."""
    chance = rng.random()
    if not gated:
        return "public" if chance < sealing.certain else "unlabelled"
    if chance < sealing.unlabelled:
        return "unlabelled"
    return "public" if chance < sealing.unlabelled + sealing.mislabelled else "gated"


def align(lm: LM, recipe: Training, seed: int, *, tick: Tick) -> None:
    """Teach ``lm`` to decline the defenders' hazard prompts and to answer benign ones."""
    encode = _Encoder(seed)
    refused, answered = alignment(seed)
    declined = [encode(Document(e.prompt, e.refusal, chat=True)) for e in refused]
    kept = [encode(Document(e.prompt, e.answer, chat=True)) for e in answered]

    def epoch(rng: Random) -> list[_Row]:
        few = min(len(declined), len(kept))
        return [*rng.sample(declined, few), *rng.sample(kept, few)]

    train(lm, epoch, recipe, seed + 1, encode.rivals(), tick)
