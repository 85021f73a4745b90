"""What a piece of work asks of a model, found out by doing it in small.

A *stand-in* has a model's depth and next to no width, so that whatever a method does to the model
it does to the stand-in in milliseconds: candidates for every block, answers spoken, steps taken.
Its passes are counted. No method has to say what it costs, and a new one is priced as it is.
"""

from __future__ import annotations

import re
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch

from titer.core.data import Example
from titer.core.lm import LM, quiet
from titer.nn.hooks import blocks
from titer.worlds._tiny import tiny_tokenizer

__all__ = ["KINDS", "Kind", "Passes", "Toll", "counted", "stand_in"]

Kind = Literal["full", "light", "read", "spoken"]
"""A pass in which most weights learn, in which few do (an adapter, norms), without a gradient, or
that speaks one token a row."""

KINDS: tuple[Kind, ...] = ("full", "light", "read", "spoken")

_WORD = re.compile(r"\w+|[^\w\s]+")
_WORDS = 2000

_MOST = 0.5
"""The share of the weights from which on a pass is ``full``."""


@dataclass(frozen=True, slots=True)
class Passes:
    """So many ``calls`` of a model over so many ``tokens`` in all, padding included, of which the
    head sees ``heads``: some work takes logits only where a token is asked for."""

    calls: float = 0.0
    tokens: float = 0.0
    heads: float = 0.0

    def __add__(self, other: Passes) -> Passes:
        return Passes(
            self.calls + other.calls, self.tokens + other.tokens, self.heads + other.heads
        )

    def times(self, factor: float) -> Passes:
        """So many times the same."""
        return Passes(self.calls * factor, self.tokens * factor, self.heads * factor)

    def most(self, other: Passes) -> Passes:
        """The larger number of each."""
        return Passes(
            max(self.calls, other.calls),
            max(self.tokens, other.tokens),
            max(self.heads, other.heads),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Toll:
    """The passes of a piece of work by kind, and the most that was held at once: in a ``graph``
    that waits for its backward pass, in one pass that ``read`` without, and in ``models`` beside
    the one that was given."""

    passes: Mapping[Kind, Passes] = field(default_factory=dict[Kind, Passes])
    graph: Passes = Passes()
    read: Passes = Passes()
    models: int = 0
    host: float = 0.0

    def __add__(self, other: Toll) -> Toll:
        passes: dict[Kind, Passes] = {kind: self.of(kind) + other.of(kind) for kind in KINDS}
        return replace(self._beside(other, passes), host=self.host + other.host)

    def _beside(self, other: Toll, passes: Mapping[Kind, Passes]) -> Toll:
        return Toll(
            passes=passes,
            graph=self.graph.most(other.graph),
            read=self.read.most(other.read),
            models=max(self.models, other.models),
        )

    def of(self, kind: Kind) -> Passes:
        """The passes of a kind."""
        return self.passes.get(kind, Passes())

    def times(self, factor: float) -> Toll:
        """So many times the same, one after another."""
        passes = {kind: self.of(kind).times(factor) for kind in KINDS}
        return replace(self, passes=passes, host=self.host * factor)

    def called(self, share: float) -> Toll:
        """The same where only this share of the calls is made for it: others make the rest."""
        passes = {k: replace(self.of(k), calls=self.of(k).calls * share) for k in KINDS}
        return replace(self, passes=passes)

    def longer(self, ratio: float) -> Toll:
        """The same on rows that are ``ratio`` times as long; what is spoken is as long as it is."""

        def grown(one: Passes) -> Passes:
            return Passes(one.calls, one.tokens * ratio, one.heads * ratio)

        passes = {k: self.of(k) if k == "spoken" else grown(self.of(k)) for k in KINDS}
        return replace(self, passes=passes, graph=grown(self.graph), read=grown(self.read))

    def stretched(self, short: Toll, factor: float) -> Toll:
        """This toll, and ``factor`` times what it has beyond that of a shorter run: what does not
        grow with a run's length is paid once."""

        def grown(kind: Kind) -> Passes:
            more = self.of(kind) + short.of(kind).times(-1)
            return self.of(kind) + more.most(Passes()).times(factor)

        return self._beside(short, {kind: grown(kind) for kind in KINDS})


def stand_in(depth: int, context: int, examples: Iterable[Example] = ()) -> LM:
    """A random model of so many blocks, 16 wide, that takes so many tokens and tells the words of
    the examples apart, so that prompts have in common what they have in common."""
    import transformers as hf

    tokenizer = tiny_tokenizer(_words(examples))
    config = hf.LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=depth,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=context,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]), quiet():
        torch.manual_seed(0)
        return LM(hf.LlamaForCausalLM(config), tokenizer, "stand-in")


def _words(examples: Iterable[Example]) -> list[str]:
    """The first words of the examples, as many as make no wide head."""
    found: dict[str, None] = {}
    for one in examples:
        for text in (one.prompt, one.answer, *one.choices):
            found.update(dict.fromkeys(_WORD.findall(text)))
        if len(found) > _WORDS:
            break
    return list(found)[:_WORDS]


@contextmanager
def counted(lm: LM, *, spoken: int = 2**20) -> Iterator[Callable[[], Toll]]:
    """Inside, the passes of ``lm`` and of every copy made of it are counted; what is yielded gives
    the toll so far. Of an answer no more than the first ``spoken`` tokens count."""
    passes: dict[Kind, Passes] = {}
    graph, read = [Passes()], [Passes()]
    waiting, copies = _Waiting(), _Copies(lm.model)

    depth = len(blocks(lm.model))

    started, inside, entered = time.process_time(), [0.0], [0.0]

    def begins(model: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        waiting.begins(_kind(model, kwargs, _shape(args, kwargs)[1]), spoken)
        copies.saw(model)
        entered[0] = time.process_time()

    def ends(_model: Any, _args: Any, _output: Any) -> None:
        inside[0] += time.process_time() - entered[0]

    # Block by block, since some methods stop half-way.
    def block(_module: Any, args: Sequence[Any], kwargs: Mapping[str, Any], output: Any) -> None:
        hidden = output[0] if isinstance(output, tuple) else output
        passed = Passes(1, hidden.shape[0] * hidden.shape[1]).times(1 / depth)
        kind = waiting.kind
        if waiting.beyond:
            return
        passes[kind] = passes.get(kind, Passes()) + passed
        waiting.grows(passed, hidden)
        graph[0], read[0] = graph[0].most(waiting.held), read[0].most(waiting.reading)

    def head(_module: Any, args: Sequence[Any], output: torch.Tensor) -> None:
        seen = Passes(heads=output.numel() / output.shape[-1])
        kind = waiting.kind
        if waiting.beyond:
            return
        passes[kind] = passes.get(kind, Passes()) + seen
        waiting.grows(seen, output)
        graph[0], read[0] = graph[0].most(waiting.held), read[0].most(waiting.reading)

    handles = [
        lm.model.base_model.register_forward_pre_hook(begins, with_kwargs=True),
        lm.model.base_model.register_forward_hook(ends),
        lm.model.get_output_embeddings().register_forward_hook(head),
        *(one.register_forward_hook(block, with_kwargs=True) for one in blocks(lm.model)),
    ]
    try:
        yield lambda: Toll(
            passes=dict(passes),
            graph=graph[0],
            read=read[0],
            models=copies.most,
            host=0.0
            if {"full", "light", "spoken"} & set(passes)
            else time.process_time() - started - inside[0],
        )
    finally:
        for handle in handles:
            handle.remove()


class _Copies:
    """How many copies of a model were there at once."""

    def __init__(self, given: Any) -> None:
        self._given, self.most = weakref.ref(given.base_model), 0
        self._seen: weakref.WeakSet[Any] = weakref.WeakSet()

    def saw(self, body: Any) -> None:
        if body is not self._given():
            self._seen.add(body)
        self.most = max(self.most, len(self._seen))


class _Waiting:
    """What is held: for the next backward pass, and by a pass without one."""

    def __init__(self) -> None:
        self.held, self.reading = Passes(), Passes()
        self.kind: Kind = "read"
        self.beyond = False
        self._said, self._descended = 0, False

    def begins(self, kind: Kind, longest: int) -> None:
        self.kind, self.reading = kind, Passes()
        self._said = self._said + 1 if kind == "spoken" else 0
        self.beyond = self._said > longest
        if self._descended:
            self.held, self._descended = Passes(), False

    def grows(self, passed: Passes, output: torch.Tensor) -> None:
        if output.requires_grad:
            self.held += passed
            output.register_hook(self._began)
        elif not torch.is_grad_enabled():
            self.reading += passed

    def _began(self, _grad: torch.Tensor) -> None:
        self._descended = True


def _shape(args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[int, int]:
    given = kwargs.get("input_ids", args[0] if args else None)
    given = kwargs.get("inputs_embeds") if given is None else given
    return (int(given.shape[0]), int(given.shape[1])) if given is not None else (0, 0)


def _kind(model: Any, kwargs: Mapping[str, Any], width: int) -> Kind:
    if torch.is_grad_enabled():
        sizes = [(weight.numel(), weight.requires_grad) for weight in model.parameters()]
        learning = sum(size for size, learns in sizes if learns)
        return "full" if learning > _MOST * sum(size for size, _ in sizes) else "light"
    return "spoken" if width == 1 and kwargs.get("past_key_values") is not None else "read"
