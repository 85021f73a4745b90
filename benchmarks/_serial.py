"""A study as a script would run it: every trial by itself, fine-tunes by the Hugging Face Trainer.

One process. Only the way of training differs: trials, rates, budgets, questions and judges are
titer's, and so is what neither the Trainer nor PEFT does (other optimisers than AdamW, weight
surgery, reinforcement, attacks in two phases), which titer trains one at a time.
"""

from __future__ import annotations

import copy
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar
from unittest.mock import patch

import torch
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import IterableDataset

from titer.core.diagnoses import diagnosis
from titer.core.jobs import Ended
from titer.core.lm import LM, Encoded
from titer.core.records import Status
from titer.run.jobs import Job
from titer.run.store import Store
from titer.train import cohort
from titer.train.batches import Batch, Drawn, collate
from titer.train.cohort import Finetuning
from titer.train.optimisers import multiplier
from titer.trial.attempt import attack
from titer.trial.diagnose import diagnose
from titer.trial.load import load_model, load_named_world

__all__ = ["Serially"]

J = TypeVar("J")


class Serially:
    """An executor: one trial after the other; ``trained`` counts those the Trainer took."""

    def __init__(self, threads: int) -> None:
        self.threads, self.trained = threads, 0

    def __call__(self, function: Callable[[J], Status], jobs: Sequence[J]) -> Iterator[Ended[J]]:
        torch.set_num_threads(self.threads)
        with patch.object(cohort, "together", self._together):
            for job in jobs:
                assert isinstance(job, Job)
                store = Store(Path(job.root))
                for trial in job.trials:
                    lm, world = load_model(job.model), load_named_world(job.world)
                    if diagnosis(trial):
                        trace, said = diagnose(lm, load_model(job.base), trial, world)
                    else:
                        trace, said, _ = attack(lm, trial, world)
                    store.put(trace, said)
                yield Ended(job=job, status="ok")

    def _together(self, lm: LM, members: Sequence[Finetuning], ended: cohort.Ended) -> None:
        for number, one in enumerate(members):
            recipe, kind = one.member.recipe, one.weights.which
            if recipe.optimiser == "adamw" and recipe.accumulate == 1 and kind in ("full", "lora"):
                self.trained += 1
                ended(number, _by_trainer(lm, one))
            else:
                _TOGETHER(lm, [one], lambda _, result, number=number: ended(number, result))


_TOGETHER = cohort.together


class _Rows(IterableDataset[tuple[str, Encoded]]):
    """Rows in the order of the trial; ``size`` of them make a step."""

    def __init__(self, batches: Iterator[Drawn]) -> None:
        first = next(batches)
        self.size, self.batches = len(first.rows), chain([first], batches)

    def __iter__(self) -> Iterator[tuple[str, Encoded]]:
        for drawn in self.batches:
            yield from drawn.rows


def _by_trainer(lm: LM, one: Finetuning) -> LM:
    """One fine-tune through ``transformers.Trainer``, looked at where the trial says so."""
    from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments
    from transformers.utils import logging

    logging.set_verbosity_error()
    run, recipe, steps = one.member.run, one.member.recipe, one.member.steps
    held, adapted, weights = _adapted(lm, one)
    batches: list[Batch] = []

    def collated(rows: list[tuple[str, Encoded]]) -> dict[str, Any]:
        batch = collate(rows, lm.tokenizer.pad_token_id, torch.device("cpu"))
        batches.append(batch)
        return {
            "input_ids": batch.input_ids,
            "attention_mask": batch.attention_mask,
            "labels": batch.labels,
        }

    class Looks(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            run.look(held)

        def on_step_end(self, *_: Any, **__: Any) -> None:
            done = batches.pop(0)
            run.charge(steps=1, tokens=done.tokens, examples=done.ids)

    optimiser = torch.optim.AdamW(weights, lr=recipe.lr, weight_decay=recipe.weight_decay)
    warmup = round(recipe.warmup * steps)
    schedule = LambdaLR(
        optimiser, lambda step: multiplier(recipe.schedule, min(step, steps - 1), steps, warmup)
    )
    data = _Rows(one.member.batches)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        arguments = TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=data.size,
            max_steps=steps,
            max_grad_norm=recipe.clip or 0.0,
            logging_strategy="no",
            save_strategy="no",
            report_to=[],
            use_cpu=True,
            disable_tqdm=True,
            dataloader_pin_memory=False,
            remove_unused_columns=False,
        )
        trainer = Trainer(
            model=adapted,
            args=arguments,
            train_dataset=data,
            data_collator=collated,
            optimizers=(optimiser, schedule),
            callbacks=[Looks()],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    merged = adapted.merge_and_unload() if one.weights.which == "lora" else adapted
    return LM(merged.eval(), lm.tokenizer, lm.name)


def _adapted(lm: LM, one: Finetuning) -> tuple[LM, Any, list[torch.nn.Parameter]]:
    """What is looked at, what the Trainer trains, and its weights."""
    model: Any = copy.deepcopy(lm.model)
    held = LM(model, lm.tokenizer, lm.name)
    adapted = model
    if one.weights.which == "lora":
        from peft import LoraConfig, get_peft_model

        scale: Any = one.weights.alpha
        config = LoraConfig(
            r=one.weights.rank,
            lora_alpha=scale,
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        )
        adapted = get_peft_model(model, config)
    return held, adapted, [weight for weight in adapted.parameters() if weight.requires_grad]
