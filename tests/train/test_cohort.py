"""K fine-tunes together against the same K alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from titer.attacks.finetune import Finetune
from titer.conformance import ARCHITECTURES, tiny_lm
from titer.core.data import Data
from titer.core.errors import Diverged
from titer.core.lm import LM
from titer.core.method import Run
from titer.train import cohort
from titer.train.batches import Drawn, collate, draw, encode_all, pack
from titer.train.cohort import alone, together
from titer.train.objectives import answer_loss, answer_losses, cross_entropy

MakeRun = Callable[..., Run]


def _lm(architecture: Any, dtype: torch.dtype = torch.float64) -> LM:
    lm = tiny_lm(architecture)
    for module in lm.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    for name in ("resid_pdrop", "embd_pdrop", "attn_pdrop"):
        if hasattr(lm.model.config, name):
            setattr(lm.model.config, name, 0.0)
    for block in getattr(getattr(lm.model, "transformer", None), "h", ()):
        block.attn.attn_pdrop = 0.0
    lm.model.to(dtype)
    return lm


def _members(which: Any, steps: int) -> list[tuple[Finetune, int, int]]:
    """Attack, seed and steps: no two alike in optimiser, schedule, rate, rank, data or end."""
    common: dict[str, Any] = {"parameters": which, "batch_size": 3}
    return [
        (Finetune(**common, lr=1e-3, rank=4, schedule="cosine", warmup=0.1), 1, steps),
        (
            Finetune(**common, lr=3e-3, rank=1, alpha=2.0, optimiser="sgd-nesterov", clip=None),
            2,
            steps,
        ),
        (Finetune(**common, lr=0.3, rank=2, optimiser="adadelta", mix="unrelated"), 3, steps - 7),
        (Finetune(**common, lr=1e-3, rank=2, optimiser="schedule-free", clip=0.5), 4, steps),
        (
            Finetune(**common, lr=2e-3, rank=3, weight_decay=0.1, mix="retain-then-harmful"),
            5,
            steps // 2,
        ),
        (Finetune(**common, lr=5e-4, rank=4, examples=5, schedule="linear", alpha=3.0), 6, steps),
    ]


def _run(
    lm: LM, data: Data, chosen: Sequence[tuple[Finetune, int, int]], make_run: MakeRun
) -> tuple[list[LM | Exception], list[Run]]:
    runs = [make_run(steps, seed=seed) for _, seed, steps in chosen]
    members = [attack.finetuning(lm, run) for (attack, _, _), run in zip(chosen, runs, strict=True)]
    found: dict[int, LM | Exception] = {}
    together(lm, members, lambda number, result: found.update({number: result}))
    return [found[number] for number in range(len(chosen))], runs


def _distance(one: Any, other: Any) -> float:
    return max(
        float((a - b).abs().max())
        for a, b in zip(
            one.model.state_dict().values(), other.model.state_dict().values(), strict=True
        )
    )


@pytest.mark.parametrize("which", ["lora", "full", "norms-and-embeddings"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_together_is_alone(
    architecture: Any, which: Any, data: Data, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    lm = _lm(architecture)
    before = lm.digest()
    stacks: list[int] = []
    own = cohort._stack

    def watched(lm: LM, members: Any, ended: Any) -> None:
        stacks.append(len(members))
        own(lm, members, ended)

    monkeypatch.setattr(cohort, "_stack", watched)
    chosen = _members(which, 50)
    many, runs = _run(lm, data, chosen, make_run)
    assert stacks == [6], "the members really shared a stack"
    assert lm.digest() == before
    for (attack, seed, steps), out, run in zip(chosen, many, runs, strict=True):
        single = make_run(steps, seed=seed)
        one = alone(lm, attack.finetuning(lm, single))
        assert isinstance(out, LM)
        assert _distance(one, lm) > 1e-3
        assert _distance(out, one) < 1e-8
        assert run.losses == pytest.approx(single.losses, abs=1e-8)
        assert run.rates == single.rates
        assert run.spent == single.spent


@pytest.mark.parametrize("which", ["lora", "full"])
def test_together_is_alone_within_rounding_in_single_precision(
    which: Any, data: Data, make_run: MakeRun
) -> None:
    lm = _lm("llama", torch.float32)
    chosen = _members(which, 20)
    many, runs = _run(lm, data, chosen, make_run)
    for (attack, seed, steps), out, run in zip(chosen, many, runs, strict=True):
        single = make_run(steps, seed=seed)
        one = alone(lm, attack.finetuning(lm, single))
        assert run.losses == pytest.approx(single.losses, rel=2e-4)
        assert _distance(out, one) < 2e-4 * max(1.0, _distance(one, lm))


def test_the_order_of_members_does_not_matter(data: Data, make_run: MakeRun) -> None:
    lm = _lm("llama")
    chosen = _members("lora", 20)
    forth, _ = _run(lm, data, chosen, make_run)
    back, _ = _run(lm, data, chosen[::-1], make_run)
    for one, other in zip(forth, back[::-1], strict=True):
        assert _distance(one, other) < 1e-9


@pytest.mark.parametrize("which", ["lora", "full"])
def test_a_member_that_diverges_leaves_the_others_alone(
    which: Any, data: Data, make_run: MakeRun
) -> None:
    lm = _lm("llama")
    chosen = _members(which, 12)
    chosen[1] = (replace(chosen[1][0], lr=1e150), 2, 12)
    many, runs = _run(lm, data, chosen, make_run)
    assert isinstance(many[1], Diverged)
    assert 0 < runs[1].spent.steps < 12
    for index in (0, 2, 3, 4, 5):
        attack, seed, steps = chosen[index]
        assert (
            _distance(many[index], alone(lm, attack.finetuning(lm, make_run(steps, seed=seed))))
            < 1e-9
        )


def test_a_member_whose_data_fail_leaves_the_others_alone(data: Data, make_run: MakeRun) -> None:
    lm = _lm("llama")
    runs = [make_run(6, seed=seed) for seed in (1, 2)]
    members = [Finetune(parameters="lora", lr=1e-3).finetuning(lm, run) for run in runs]
    first = [next(members[0].member.batches)]

    def broken() -> Any:
        yield first[0]
        raise ValueError("the disk is gone")

    members[0].member.batches = broken()
    found: dict[int, Any] = {}
    together(lm, members, lambda number, result: found.update({number: result}))
    assert str(found[0]) == "the disk is gone"
    assert runs[0].spent.steps == 1
    assert runs[1].spent.steps == 6


def test_looks_see_each_member_as_it_is_alone(data: Data, make_run: MakeRun) -> None:
    lm = _lm("llama")
    rows = collate(encode_all(lm, data.harmful), lm.tokenizer.pad_token_id, lm.device)

    def look(seen: dict[int, float]) -> Any:
        def emit(model: LM, run: Run) -> None:
            with torch.no_grad():
                seen[run.spent.steps] = float(answer_loss(model.model, rows))

        return emit

    for which in ("lora", "full"):
        chosen = [c for c in _members(which, 9) if c[2] == 9]
        seen: list[dict[int, float]] = [{} for _ in chosen]
        lone: list[dict[int, float]] = [{} for _ in chosen]
        runs = [
            make_run(9, seed=seed, checkpoints=(0, 3, 9), emit=look(into))
            for (_, seed, _), into in zip(chosen, seen, strict=True)
        ]
        members = [
            attack.finetuning(lm, run) for (attack, _, _), run in zip(chosen, runs, strict=True)
        ]
        together(lm, members, lambda *_: None)
        for (attack, seed, _), into in zip(chosen, lone, strict=True):
            run = make_run(9, seed=seed, checkpoints=(0, 3, 9), emit=look(into))
            alone(lm, attack.finetuning(lm, run))
        for one, other in zip(seen, lone, strict=True):
            assert list(one) == [0, 3, 9]
            assert one == pytest.approx(other, abs=1e-9)


def test_dropout_is_not_shared(data: Data, make_run: MakeRun) -> None:
    lm = tiny_lm("gpt2")
    lm.model.transformer.drop.p = 0.2
    chosen = [(Finetune(parameters="lora", lr=1e-3), seed, 3) for seed in (1, 2)]
    many, _ = _run(lm, data, chosen, make_run)
    for (attack, seed, steps), out in zip(chosen, many, strict=True):
        one = alone(lm, attack.finetuning(lm, make_run(steps, seed=seed)))
        assert isinstance(out, LM)
        assert out.digest() == one.digest()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_losses_from_chosen_positions_are_the_losses(architecture: Any, data: Data) -> None:
    lm = _lm(architecture)
    groups = [
        Drawn(tuple(encode_all(lm, part))) for part in (data.harmful, data.retain, data.harmful[:3])
    ]
    expected: list[Tensor] = []
    for group in groups:
        batch = collate(group.rows, lm.tokenizer.pad_token_id, lm.device)
        expected.append(cross_entropy(lm.model(**batch.inputs()).logits, batch.labels))
    found = answer_losses(lm.model, pack(lm, groups), 3)
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-9, atol=1e-12)


def test_a_head_that_does_more_is_asked_whole(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    lm = _lm("llama")
    plain = lm.model.forward

    def doubled(**given: Any) -> Any:
        out = plain(**given)
        out.logits = out.logits * 2
        return out

    monkeypatch.setattr(lm.model, "forward", doubled)
    rows = Drawn(tuple(encode_all(lm, data.harmful)))
    expected = answer_loss(lm.model, collate(rows.rows, lm.tokenizer.pad_token_id, lm.device))
    torch.testing.assert_close(answer_losses(lm.model, pack(lm, [rows]))[0], expected)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_an_exported_adapter_is_an_ordinary_one(
    architecture: Any, data: Data, tmp_path: Path
) -> None:
    from peft import PeftModel

    from titer.nn.stack import stacked
    from titer.nn.weights import Weights

    lm = _lm(architecture)
    members = [Weights(which="lora", rank=rank, alpha=5.0, seed=rank) for rank in (2, 4)]
    rows = collate(encode_all(lm, data.harmful), lm.tokenizer.pad_token_id, lm.device)
    with stacked(lm, members) as stack:
        for member, rank in enumerate((2, 4)):
            row = torch.randn_like(stack.row(member)) * 0.1
            with torch.no_grad():
                stack.row(member).copy_(row)
            _pad(stack, member, rank)
            stack.save_adapter(member, str(tmp_path / str(member)))
        exported = [stack.export(member) for member in (0, 1)]
    for member, out in enumerate(exported):
        peft = PeftModel.from_pretrained(lm.clone().model, str(tmp_path / str(member)))
        with torch.no_grad():
            torch.testing.assert_close(
                peft(**rows.inputs()).logits, out.model(**rows.inputs()).logits
            )


def _pad(stack: Any, member: int, rank: int) -> None:
    """Zero what lies beyond a member's own rank, as training leaves it."""
    with torch.no_grad():
        for first, second in ((one.first, one.second) for one in stack._adapters):
            stack.leaves()[first][member, rank:] = 0
            stack.leaves()[second][member, :, rank:] = 0


def test_a_batch_stream_is_the_same_packed_or_not(lm: LM, data: Data) -> None:
    import random

    from titer.train.batches import cycle

    drawn = draw(lm, data.harmful, batch_size=4, rng=random.Random(3))
    whole = cycle(lm, data.harmful, batch_size=4, rng=random.Random(3))
    for _ in range(5):
        assert next(drawn).ids == next(whole).ids


def test_a_look_may_stop_another_member_before_it_goes_on(data: Data, make_run: MakeRun) -> None:
    lm = _lm("llama")
    runs: list[Run] = []

    def emit(_lm: LM, run: Run) -> None:
        if run.spent.steps == 2:
            runs[0].stop("enough")

    runs += [make_run(6, seed=seed, checkpoints=(2, 6), emit=emit) for seed in (1, 2, 3)]
    members = [Finetune(parameters="lora", lr=1e-3).finetuning(lm, run) for run in runs]
    found: dict[int, Any] = {}
    together(lm, members, lambda number, result: found.update({number: result}))
    assert [run.spent.steps for run in runs] == [2, 6, 6]
    assert all(isinstance(result, LM) for result in found.values())


@pytest.mark.parametrize("which", ["lora", "full", "norms-and-embeddings"])
@pytest.mark.parametrize("name", ["opt", "gemma", "mixtral", "llama4", "mamba"])
def test_architectures_that_do_not_stack_train_apart_and_say_the_same(
    name: str, which: Any, data: Data, make_run: MakeRun
) -> None:
    """Tables that take other words, scaled ones, experts, routers that choose: no error on the
    way, and what each member says is what it says alone."""
    from benchmarks._architectures import ARCHITECTURES as MANY

    lm = next(one for one in MANY if one.name == name).build()
    for module in lm.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    if hasattr(lm.model.config, "dropout"):
        for module in (lm.model, *lm.model.modules()):
            if isinstance(getattr(module, "dropout", None), float):
                module.dropout = 0.0  # type: ignore[assignment]
    chosen = _members(which, 8)[:2]
    many, runs = _run(lm, data, chosen, make_run)
    for (attack, seed, steps), out, run in zip(chosen, many, runs, strict=True):
        single = make_run(steps, seed=seed)
        one = alone(lm, attack.finetuning(lm, single))
        assert isinstance(out, LM), out
        assert run.losses == pytest.approx(single.losses, rel=1e-3, abs=1e-3)
        assert _distance(one, lm) > 1e-4
