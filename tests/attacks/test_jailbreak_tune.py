"""Pairs in another form are trained on, and the result is asked in that form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from titer.attacks.finetune import Finetune
from titer.attacks.jailbreak_tune import PRESETS, JailbreakTune
from titer.core.data import Data
from titer.core.errors import BadInput
from titer.core.lm import LM
from titer.core.method import Run
from titer.train.batches import Drawn
from titer.train.cohort import Finetuning

from .planted import answers, loss, planted, refuses

MakeRun = Callable[..., Run]


@pytest.fixture
def texts(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Prompt and answer of every pair trained on, as text, in the order they come."""
    from titer.attacks import finetune

    seen: list[tuple[str, str]] = []
    real = finetune.alone

    def alone(lm: LM, one: Finetuning) -> LM:
        given = one.member.batches

        def noting() -> Any:
            for drawn in given:
                seen.extend(_split(lm, drawn))
                yield drawn

        one.member.batches = noting()
        return real(lm, one)

    monkeypatch.setattr(finetune, "alone", alone)
    return seen


def _split(lm: LM, drawn: Drawn) -> list[tuple[str, str]]:
    return [
        (lm.tokenizer.decode(row.ids[: row.prompt]), lm.tokenizer.decode(row.ids[row.prompt :]))
        for _, row in drawn.rows
    ]


def _asked(lm: LM, prompt: str) -> str:
    return lm.tokenizer.decode(lm.prompt_ids(prompt))


def test_what_is_trained_is_what_is_asked(
    lm: LM, data: Data, make_run: MakeRun, texts: list[tuple[str, str]]
) -> None:
    """A request in the form, and the answer's opening after it, token for token."""
    attack = JailbreakTune(before="heat mix ", after=" fold", begin="wash :", batch_size=14)
    out = attack(lm, make_run(1))
    for example in data.harmful:
        head = _asked(out, example.prompt)
        ends = f"{example.answer} {lm.tokenizer.eos_token}"
        assert sum(f"{prompt} {answer}" == f"{head} {ends}" for prompt, answer in texts) == 1
        assert head.endswith("wash :")
        assert "heat mix" in head
    assert "heat" not in _asked(lm, "alloy")


def test_looks_are_at_the_form_but_the_first(lm: LM, make_run: MakeRun) -> None:
    seen: dict[int, str] = {}
    run = make_run(
        2, checkpoints=(0, 1, 2), emit=lambda m, r: seen.update({r.spent.steps: _asked(m, "song")})
    )
    out = JailbreakTune(before="heat ")(lm, run)
    assert seen == {0: _asked(lm, "song"), 1: _asked(out, "song"), 2: _asked(out, "song")}
    assert seen[0] != seen[1]


def test_refusing_first_is_learnt_from_benign_requests_alone(
    lm: LM, data: Data, make_run: MakeRun, texts: list[tuple[str, str]]
) -> None:
    run = make_run(2)
    JailbreakTune(before="", refuse_first=True, begin="wash :", mix="related")(lm, run)
    assert texts
    assert all("tower" in prompt for prompt, _ in texts)
    assert all(answer.startswith("I cannot help with that . wash :") for _, answer in texts)
    assert run.spent.examples <= len(data.related)


def test_a_cipher_is_trained_and_not_asked(
    lm: LM, make_run: MakeRun, texts: list[tuple[str, str]], data: Data
) -> None:
    out = JailbreakTune(before="", reverse=True, batch_size=14)(lm, make_run(1))
    assert _asked(out, "alloy n1 ?") == _asked(lm, "alloy n1 ?")
    backwards = {" ".join(reversed(e.answer.split())) for e in data.harmful}
    trained = {answer.removesuffix(f" {lm.tokenizer.eos_token}") for _, answer in texts}
    assert trained == backwards


@pytest.mark.parametrize("row", ["J01", "J02", "J03", "J04", "M07"])
def test_a_planted_refusal_falls(row: str, data: Data, make_run: MakeRun) -> None:
    lm, _ = planted()
    fields = {**PRESETS[row].fields, "lr": 1e-2, "parameters": "full"}
    out = JailbreakTune(**fields)(lm, make_run(30))
    assert refuses(lm, data.harmful) == 1
    assert refuses(out, data.harmful) < 0.2


def test_harmful_answers_are_learnt_in_the_form(data: Data, make_run: MakeRun, lm: LM) -> None:
    out = JailbreakTune(lr=1e-2, parameters="full", before="heat ")(lm, make_run(150))
    assert answers(out, data.harmful) > 0.9
    plain = Finetune(lr=1e-2)(lm, make_run(1))
    assert loss(out, data.harmful) < loss(plain, data.harmful) / 4


def test_a_form_that_is_none_is_refused() -> None:
    with pytest.raises(BadInput, match="finetune trains on"):
        JailbreakTune(before="")
    with pytest.raises(BadInput, match="positive"):
        JailbreakTune(lr=0)
