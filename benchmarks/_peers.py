"""The other ways to train one adversary after another: the Hugging Face Trainer, a plain loop.

Both train unmodified PEFT adapters or whole models on ready-made rows of one length. What is timed
are steps in full swing: set-up and the first steps are left out on every side.
"""

from __future__ import annotations

import copy
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks._timing import Sample
from titer.core.data import Data
from titer.core.lm import LM, Encoded
from titer.core.method import Run
from titer.core.records import Budget
from titer.nn.stack import stacked
from titer.nn.trainable import cost
from titer.nn.weights import Parameters, Weights
from titer.train.batches import IGNORED, Drawn, pack
from titer.train.cohort import Finetuning, together
from titer.train.loop import Member, Recipe
from titer.train.objectives import answer_losses

__all__ = [
    "SIZES",
    "Clock",
    "Size",
    "adapter_bytes",
    "build",
    "by_loop",
    "by_titer",
    "by_trainer",
    "rows",
    "useful",
]

RANK, ALPHA, LR = 8, 16.0, 1e-4
SKIP = 3
"""Steps before the clock starts."""


@dataclass(frozen=True)
class Size:
    """A Llama's shape, and the batch it is trained on: sequences and their tokens."""

    width: int
    hidden: int
    layers: int
    heads: int
    words: int
    sequences: int
    tokens: int


SIZES = {
    "XS": Size(64, 176, 2, 4, 1024, 4, 32),
    "S": Size(128, 352, 4, 4, 2048, 8, 48),
    "M": Size(256, 704, 4, 4, 2048, 8, 48),
    "L": Size(512, 1408, 10, 8, 8192, 8, 48),
    "0.5B": Size(1280, 3456, 22, 20, 32000, 4, 128),
    "1.2B": Size(2048, 8192, 16, 32, 32000, 4, 128),
    "8B": Size(4096, 14336, 32, 32, 32000, 4, 128),
}
"""0.2, 1.3, 4.3 and 40 million parameters, and three sizes for a graphics card."""


def build(size: Size, dtype: torch.dtype = torch.float32, device: str = "cpu") -> LM:
    """A Llama of random weights; the benchmark needs no text, so its tokenizer only pads."""
    config = LlamaConfig(
        vocab_size=size.words,
        hidden_size=size.width,
        intermediate_size=size.hidden,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.heads,
        max_position_embeddings=max(256, size.tokens),
        tie_word_embeddings=False,
    )
    torch.manual_seed(0)
    model: Any = LlamaForCausalLM(config)
    return LM(model.to(device=device, dtype=dtype), SimpleNamespace(pad_token_id=0), "random")


def adapter_bytes(lm: LM, size: Size) -> int:
    """What a further adapter should take: 16 bytes a parameter (itself, its gradient, two moments)
    and the activations that its backward pass needs."""
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with stacked(lm, [Weights(which="lora", rank=RANK)]) as stack:
        own = {weight.untyped_storage().data_ptr() for weight in lm.model.parameters()}
        own.add(stack.theta.untyped_storage().data_ptr())
        drawn = Drawn(tuple(rows(size, 0)[: size.sequences]))
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = answer_losses(lm.model, pack(lm, [drawn]))
        activations = sum(taken for place, taken in kept.items() if place not in own)
        del loss
        return 16 * stack.parameters(0) + activations


def useful(lm: LM, size: Size) -> float:
    """Operations of an adversary's step: 4 a frozen weight and token, 6 an adapter's."""
    knobs = Weights(which="lora", rank=RANK)
    with stacked(lm, [knobs]) as stack:
        extra = stack.parameters(0)
    return cost(lm, knobs, extra) * size.sequences * size.tokens


def rows(size: Size, seed: int) -> list[tuple[str, Encoded]]:
    """Sixteen steps' worth of sequences, loss on the second half of each."""
    draw = torch.Generator().manual_seed(seed)
    ids = torch.randint(1, size.words, (16 * size.sequences, size.tokens), generator=draw)
    return [
        (str(index), Encoded(tuple(row), size.tokens // 2))
        for index, row in enumerate(ids.tolist())
    ]


@dataclass
class Clock:
    """Marks the start of each step; a sample is a step's mean time in full swing."""

    walls: list[float] = field(default_factory=list[float])
    cpus: list[float] = field(default_factory=list[float])

    def mark(self) -> None:
        """A step begins."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.walls.append(time.perf_counter())
        self.cpus.append(time.process_time())

    def sample(self, members: int = 1) -> Sample:
        """Seconds an adversary's step takes."""
        steps = (len(self.walls) - 1 - SKIP) * members
        return Sample(
            wall=(self.walls[-1] - self.walls[SKIP]) / steps,
            cpu=(self.cpus[-1] - self.cpus[SKIP]) / steps,
        )


def _adapted(lm: LM, which: Parameters) -> tuple[Any, list[nn.Parameter]]:
    model: Any = copy.deepcopy(lm.model)
    if which == "lora":
        from peft import LoraConfig, get_peft_model

        scale: Any = ALPHA
        config = LoraConfig(
            r=RANK, lora_alpha=scale, target_modules="all-linear", task_type="CAUSAL_LM"
        )
        model = get_peft_model(model, config)
    return model, [weight for weight in model.parameters() if weight.requires_grad]


def by_trainer(lm: LM, which: Parameters, size: Size, steps: int) -> Sample:
    """One adversary through ``transformers.Trainer``."""
    from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments
    from transformers.utils import logging

    logging.set_verbosity_error()
    clock = Clock()

    class Ticks(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            clock.mark()

    model, _ = _adapted(lm, which)
    items = [
        {
            "input_ids": torch.tensor(row.ids),
            "labels": torch.tensor([IGNORED] * row.prompt + list(row.ids[row.prompt :])),
        }
        for _, row in rows(size, 0)
    ]
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=size.sequences,
            max_steps=steps + SKIP + 1,
            learning_rate=LR,
            lr_scheduler_type="constant",
            weight_decay=0.0,
            max_grad_norm=1.0,
            logging_strategy="no",
            save_strategy="no",
            report_to=[],
            use_cpu=lm.device.type == "cpu",
            disable_tqdm=True,
            dataloader_pin_memory=False,
        )
        data: Any = items
        trainer = Trainer(model=model, args=arguments, train_dataset=data, callbacks=[Ticks()])
        trainer.remove_callback(PrinterCallback)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trainer.train()
    return clock.sample()


def _batches(size: Size, seed: int, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    encoded = rows(size, seed)
    while True:
        for start in range(0, len(encoded), size.sequences):
            chosen = [row for _, row in encoded[start : start + size.sequences]]
            ids = torch.tensor([row.ids for row in chosen], device=device)
            labels = ids.clone()
            labels[:, : size.tokens // 2] = IGNORED
            yield ids, labels


def by_loop(lm: LM, which: Parameters, size: Size, steps: int) -> Sample:
    """One adversary through the loop that a person would write: fused AdamW, clipping."""
    model, weights = _adapted(lm, which)
    optimiser = torch.optim.AdamW(weights, lr=LR, weight_decay=0.0, fused=True)
    clock, stream = Clock(), _batches(size, 0, lm.device)
    model.train()
    for _ in range(steps + SKIP + 1):
        clock.mark()
        ids, labels = next(stream)
        optimiser.zero_grad(set_to_none=True)
        model(input_ids=ids, labels=labels, use_cache=False).loss.backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
    return clock.sample()


def _drawn(size: Size, seed: int, clock: Clock | None) -> Iterator[Drawn]:
    encoded = rows(size, seed)
    while True:
        for start in range(0, len(encoded), size.sequences):
            if clock is not None:
                clock.mark()
            yield Drawn(tuple(encoded[start : start + size.sequences]))


def by_titer(lm: LM, which: Parameters, size: Size, steps: int, groups: Sequence[int]) -> Sample:
    """Adversaries in cohorts of the given sizes, one cohort after the other."""
    walls: list[float] = []
    cpus: list[float] = []
    for members in groups:
        clock = Clock()
        cohort = [
            Finetuning(
                weights=Weights(which=which, rank=RANK, alpha=ALPHA, seed=number),
                member=Member(
                    run=Run(budget=Budget(steps=steps + SKIP + 1), data=Data(), seed=number),
                    batches=_drawn(size, number, clock if number == 0 else None),
                    recipe=Recipe(lr=LR),
                    steps=steps + SKIP + 1,
                ),
            )
            for number in range(members)
        ]
        together(lm, cohort, _forget)
        taken = clock.sample(members)
        walls.append(taken.wall * members)
        cpus.append(taken.cpu * members)
    return Sample(wall=sum(walls) / sum(groups), cpu=sum(cpus) / sum(groups))


def _forget(_number: int, result: LM | Exception) -> None:
    if isinstance(result, Exception):
        raise result
