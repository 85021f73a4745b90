"""TRL's trainers in the place of our loop and sampler: optional, for models that need what they
offer (vLLM, gradient checkpointing, mixed precision). ``pip install 'titer[rl]'``.

The run stays what it is: prompts or pairs in the order of the seed, the tokens that titer puts
before a model, its rewards, its learning rates, its budget and its looks. TRL samples, finds the
gradient and steps; it runs a prompt once for each of its answers, and is charged so. B rows of a
batch.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from titer.attacks._rewards import Pay
from titer.core.data import Example
from titer.method import LM, BadInput, Encoded, Run
from titer.nn.trainable import Trainable
from titer.train.loop import Recipe
from titer.train.trainers import Job, Step, dataset, library, named_after

__all__ = ["Engine", "Pair", "Policy", "needs", "prefer", "reinforce"]

Engine = Literal["titer", "trl"]

Pair = tuple[str, Encoded, Encoded]
"""An id, the chosen row and the rejected one."""


def needs(method: str, engine: Engine, unlike: Mapping[str, bool]) -> None:
    """Check that ``engine`` can do what is asked; ``unlike`` are settings that TRL has no form of.

    Raises:
        BadInput: TRL is not installed, or a setting is unlike anything it has.
    """
    if engine == "titer":
        return
    if wrong := [name for name, asked in unlike.items() if asked]:
        raise BadInput(f"{method}: engine=trl has no {' and no '.join(wrong)}; use engine=titer.")
    if importlib.util.find_spec("trl") is None:
        raise BadInput(
            f"{method}: engine=trl needs the package trl, which is not installed; "
            "pip install 'titer[rl]', or use engine=titer."
        )


# -- policy gradients -----------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What a policy gradient by TRL is made of.

    ``batches``: prompts of each batch of answers, in order; ``encode``: a prompt's tokens;
    ``flops``: of tokens trained and tokens sampled. ``longest``: most tokens of an answer.
    """

    algorithm: Literal["grpo", "rloo"]
    batches: Sequence[Sequence[Example]]
    encode: Callable[[Example], Sequence[int]]
    pay: Pay
    flops: Callable[[int, int], float]
    longest: int
    group: int
    updates: int
    fields: Mapping[str, Any]


def reinforce(
    ready: Trainable,
    start: LM,
    run: Run,
    policy: Policy,
    *,
    recipe: Recipe,
    settings: Mapping[str, Any],
) -> None:
    """Take the steps that ``run`` affords, by GRPOTrainer or RLOOTrainer.

    Before each step the budget is asked for the most that it can cost, answers as long as they may
    be, so a budget in tokens may end a step or two earlier than in our own loop.
    """
    lm = ready.lm
    ends = set(lm._ends())  # noqa: SLF001
    known = [example for batch in policy.batches for example in batch]
    heads = {example.id: list(policy.encode(example)) for example in known}

    def priced(batch: Sequence[Example], answers: int, fresh: bool) -> Step:
        prompts = sum(len(heads[example.id]) for example in batch)
        trained = policy.group * prompts + answers
        sampled = prompts + answers if fresh else 0
        return Step(
            ids=tuple(example.id for example in batch),
            tokens=trained + sampled,
            flops=policy.flops(trained, sampled),
        )

    def most(step: int) -> Step:
        batch = policy.batches[step // policy.updates]
        answers = len(batch) * policy.group * policy.longest
        again = priced(batch, answers, step % policy.updates == 0)
        if step % policy.updates:  # the same answers once more: what they were is known
            again.tokens, again.flops = seen.tokens, seen.flops
            again.loss = seen.loss
        return again

    seen = Step(ids=(), tokens=0, flops=0.0)

    def earned(completion_ids: Sequence[Sequence[int]], at: Sequence[int], **_: Any) -> list[float]:
        asked = [known[place] for place in at]
        texts = lm.tokenizer.batch_decode(completion_ids, skip_special_tokens=True)
        paid = policy.pay(
            asked, [text.strip() for text in texts], [ids[-1] in ends for ids in completion_ids]
        )
        batch, answers = asked[:: policy.group], sum(map(len, completion_ids))
        loss = 1.0 - sum(paid) / len(paid)
        once, again = priced(batch, answers, True), priced(batch, answers, False)
        job.now.tokens, job.now.flops, job.now.loss = once.tokens, once.flops, loss
        seen.tokens, seen.flops, seen.loss = again.tokens, again.flops, loss
        return paid

    steps = min(run.steps_left(), policy.updates * len(policy.batches))
    job = Job(ready=ready, run=run, recipe=recipe, steps=steps, price=most, settings=settings)
    name = {"grpo": "GRPO", "rloo": "RLOO"}[policy.algorithm]
    trainer = getattr(library(), f"{name}Trainer")

    class Ours(trainer):
        def _tokenize_prompts(self, prompts: list[str]) -> Any:
            return [heads[prompt] for prompt in prompts], None, {}

    rows = [{"prompt": example.id, "at": place} for place, example in enumerate(known)]

    def made(config: Any, parts: dict[str, Any]) -> Any:
        return Ours(args=config, reward_funcs=earned, train_dataset=dataset(rows), **parts)

    with named_after(lm.model, start if policy.fields.get("beta") else None):
        job.train(
            f"{name}Config",
            made,
            per_device_train_batch_size=policy.group * len(policy.batches[0]),
            num_generations=policy.group,
            num_iterations=policy.updates,
            max_completion_length=policy.longest,
            shuffle_dataset=False,
            **policy.fields,
        )


# -- preferences ----------------------------------------------------------------------------------


def prefer(
    ready: Trainable,
    start: LM,
    run: Run,
    pairs: Sequence[Sequence[Pair]],
    *,
    beta: float,
    recipe: Recipe,
    settings: Mapping[str, Any],
) -> None:
    """Take the steps that ``run`` affords, by DPOTrainer; ``pairs`` are a batch a step."""

    def price(step: int) -> Step:
        tokens = sum(len(row.ids) for _, *both in pairs[step] for row in both)
        ids = tuple(name for name, *_ in pairs[step])
        both = recipe.flops_per_token * tokens
        forward = 2.0 * start.parameters_in_matmuls() * tokens
        return Step(ids=ids + ids, tokens=tokens, flops=both + forward)

    rows = [
        {
            "prompt_ids": list(chosen.ids[: chosen.prompt]),
            "chosen_ids": list(chosen.ids[chosen.prompt :]),
            "rejected_ids": list(rejected.ids[rejected.prompt :]),
        }
        for batch in pairs
        for _, chosen, rejected in batch
    ]
    steps = min(run.steps_left(), len(pairs))
    job = Job(ready=ready, run=run, recipe=recipe, steps=steps, price=price, settings=settings)

    class Ours(library().DPOTrainer):
        def _prepare_dataset(self, dataset: Any, *_args: Any, **_kwargs: Any) -> Any:
            return dataset

    reference = start.clone().model  # TRL wraps its forward pass
    job.train(
        "DPOConfig",
        lambda config, parts: Ours(
            args=config, ref_model=reference, train_dataset=dataset(rows), **parts
        ),
        beta=beta,
        loss_type=["sigmoid"],
        max_length=None,
        per_device_train_batch_size=len(pairs[0]),
        train_sampling_strategy="sequential",
    )
