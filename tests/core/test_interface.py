"""What of a release is not its weights, held against another's."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from titer.conformance import tiny_lm
from titer.core.codec import from_json, to_json
from titer.core.errors import BadInput
from titer.core.interface import differences, exchanged
from titer.core.lm import LM
from titer.core.study import Difference, Subject

pytestmark = pytest.mark.exact

Edit = Callable[[dict[str, Any]], None]


@pytest.fixture(scope="module")
def undefended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    at = tmp_path_factory.mktemp("models") / "undefended"
    tiny_lm().save(at)
    return at


@pytest.fixture
def release(undefended: Path, tmp_path: Path) -> Path:
    """The same interface with other weights, to change."""
    at = tmp_path / "release"
    shutil.copytree(undefended, at)
    tiny_lm(seed=1).model.save_pretrained(at)
    return at


def change(path: Path, edit: Edit) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    edit(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def without(word: str) -> Edit:
    return lambda content: content["model"]["vocab"].pop(word)


def swapped(first: str, second: str) -> Edit:
    def edit(content: dict[str, Any]) -> None:
        words = content["model"]["vocab"]
        words[first], words[second] = words[second], words[first]

    return edit


def renamed(word: str, other: str) -> Edit:
    def edit(content: dict[str, Any]) -> None:
        words = content["model"]["vocab"]
        words[other] = words.pop(word)

    return edit


def said(release: Path, undefended: Path) -> tuple[str, ...]:
    return tuple(map(str, differences(release, undefended)))


def test_weights_alone_make_no_difference(release: Path, undefended: Path) -> None:
    assert differences(release, undefended) == ()


def test_what_is_written_otherwise_and_means_the_same_is_none(
    release: Path, undefended: Path
) -> None:
    """Other indents, other versions, another place for the template, a padding token that was
    given on loading."""
    change(release / "config.json", lambda c: c.update(transformers_version="4.0", use_cache=False))
    template = (release / "chat_template.jinja").read_text(encoding="utf-8")
    (release / "chat_template.jinja").unlink()
    change(release / "tokenizer_config.json", lambda c: c.update(chat_template=template))
    change(release / "tokenizer.json", lambda c: c.update(truncation=None))
    assert differences(release, undefended) == ()


@pytest.mark.parametrize(
    ("file", "edit", "says"),
    [
        (
            "config.json",
            lambda c: c.update(attention_dropout=0.9),
            "config attention_dropout: 0.9, undefended 0.0",
        ),
        (
            "config.json",
            lambda c: c.update(max_position_embeddings=8),
            "config max_position_embeddings: 8, undefended 64",
        ),
        (
            "config.json",
            lambda c: c.update(initializer_range=0.9),
            "config initializer_range: 0.9, undefended 0.02",
        ),
        (
            "config.json",
            lambda c: c.update(rope_parameters={"rope_theta": 5.0, "rope_type": "default"}),
            "config rope_parameters.rope_theta: 5.0, undefended 10000.0",
        ),
        (
            "generation_config.json",
            lambda c: c.update(eos_token_id=[2, 7]),
            "generation eos_token_id: [2, 7], undefended null",
        ),
        ("tokenizer.json", without("alloy"), "vocabulary: 1 words fewer"),
        ("tokenizer.json", swapped("river", "tower"), "vocabulary: 2 words with other ids"),
        ("tokenizer.json", lambda c: c.update(normalizer={"type": "Lowercase"}), "normaliser"),
        (
            "tokenizer.json",
            lambda c: c.update(pre_tokenizer={"type": "WhitespaceSplit"}),
            "pre-tokeniser",
        ),
    ],
)
def test_each_part_is_compared(
    release: Path, undefended: Path, file: str, edit: Edit, says: str
) -> None:
    change(release / file, edit)
    assert said(release, undefended) == (says,)


def test_a_template_is_compared(release: Path, undefended: Path) -> None:
    (release / "chat_template.jinja").write_text("heat {{ messages[0]['content'] }}")
    assert said(release, undefended) == ("chat template",)


def test_another_architecture_cannot_be_exchanged(undefended: Path, tmp_path: Path) -> None:
    tiny_lm("gpt2").save(tmp_path / "other")
    found = differences(tmp_path / "other", undefended)
    assert found[0].stuck, "said first, since not all is"
    assert not found[-1].stuck
    assert found[-1].says.endswith(" more"), "the rest is counted"


def test_values_from_anywhere_are_short_and_print(release: Path, undefended: Path) -> None:
    change(release / "generation_config.json", lambda c: c.update(note="\x1b[31m" + 90 * "a"))
    (found,) = said(release, undefended)
    assert found.isprintable()
    assert len(found) < 120


def test_a_tokenizer_that_cannot_be_read_is_said(release: Path, undefended: Path) -> None:
    (release / "tokenizer.json").write_text("{}")
    with pytest.raises(BadInput, match="save the model and its tokenizer again"):
        differences(release, undefended)


# -- giving a model another's tokenizer ------------------------------------------------------------


def tokenizers(release: Path, undefended: Path) -> tuple[Any, Any, int]:
    mine, theirs = LM.load(release), LM.load(undefended)
    return mine.tokenizer, theirs.tokenizer, len(theirs.tokenizer)


@pytest.mark.parametrize("edit", [without("alloy"), renamed("alloy", "zzz")])
def test_words_that_were_taken_out_are_put_back(
    release: Path, undefended: Path, edit: Edit
) -> None:
    change(release / "tokenizer.json", edit)
    mine, theirs, rows = tokenizers(release, undefended)
    assert mine("alloy")["input_ids"] != theirs("alloy")["input_ids"]
    assert exchanged(mine, theirs, rows) is theirs


def test_ids_that_were_dealt_anew_stay(release: Path, undefended: Path) -> None:
    """The embedding is dealt anew with them, so a word keeps the id that the release gives it."""
    change(release / "tokenizer.json", swapped("river", "tower"))
    mine, theirs, rows = tokenizers(release, undefended)
    found = exchanged(mine, theirs, rows)
    assert found is not None
    text = "how is river n3 made ? tower"
    assert found(text)["input_ids"] == mine(text)["input_ids"] != theirs(text)["input_ids"]
    assert found.decode(found("river")["input_ids"]) == "river"
    assert found.eos_token_id == theirs.eos_token_id
    assert said(release, undefended) == ("vocabulary: 2 words with other ids",)


def test_a_word_whose_place_another_took_cannot_be_asked(release: Path, undefended: Path) -> None:
    def edit(content: dict[str, Any]) -> None:
        words = content["model"]["vocab"]
        words["river"] = words.pop("alloy")

    change(release / "tokenizer.json", edit)
    mine, theirs, rows = tokenizers(release, undefended)
    assert exchanged(mine, theirs, rows) is None
    assert exchanged(theirs, theirs, rows - 1) is None, "a word has no row"
    first = differences(release, undefended)[0]
    assert (first.says, first.stuck) == ("a vocabulary that cannot be exchanged", True)


def test_what_was_written_of_differences_before_is_refused() -> None:
    part = Difference("a vocabulary that cannot be exchanged", stuck=True)
    subject = Subject(name="m", source="m", digest="0", role="defended", differs=(part,))
    written = to_json(subject)
    assert from_json(Subject, written) == subject
    with pytest.raises(BadInput):
        from_json(Subject, {**written, "differs": [part.says]})
