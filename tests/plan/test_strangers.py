"""A model of one testbed world is not asked of another, by whichever way it comes."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tests import toy
from titer.core.errors import BadInput
from titer.core.lm import LM
from titer.core.modelfolder import folder_digest
from titer.core.study import Study, Subject
from titer.plan.manifest import read_config
from titer.plan.request import check
from titer.verify.models import models
from titer.worlds._fabula_grow import build_model, build_tokenizer
from titer.worlds._fabula_recipe import Shape
from titer.worlds.organisms import SIZES, cached
from titer.worlds.strangers import stranger


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of the world fabula#3 as anybody saves it: without a note of where it grew."""
    folder = tmp_path_factory.mktemp("stranger") / "model"
    shape: Shape = SIZES["nano"]
    tokenizer = build_tokenizer(3)
    LM(build_model(shape, len(tokenizer), 3), tokenizer).save(folder)
    return folder


def test_the_words_of_a_model_tell_its_world(saved: Path, tmp_path: Path) -> None:
    assert stranger(saved, 0) == "the world fabula#3"
    assert stranger(saved, 3) == ""
    base = cached("base")
    assert base is not None
    assert stranger(base, 0) == ""
    assert stranger(base, 3) == "the world fabula"
    assert stranger(toy.model_folder(tmp_path / "llama"), 0) == "", "of no world of the testbed"
    assert stranger(tmp_path / "nothing", 0) == ""


def test_a_saved_model_of_another_world_is_refused(saved: Path, tmp_path: Path) -> None:
    for asked in (
        Study(models=(str(saved),), out=tmp_path / "run"),
        Study(models=("fabula:base",), undefended=str(saved), out=tmp_path / "run"),
    ):
        with pytest.raises(BadInput, match="grew in the world fabula#3 and knows nothing"):
            check(asked)
    check(Study(models=(str(saved),), data="fabula#3", out=tmp_path / "run"), coming=())


def test_an_immunised_model_of_another_world_is_refused(tmp_path: Path) -> None:
    """What a defence makes has the words of what it was made from."""
    base = cached("base")
    assert base is not None
    made = Path(shutil.copytree(base, tmp_path / "made"))
    (made / "organism.json").unlink(missing_ok=True)
    (made / "titer.json").write_text("{}")
    with pytest.raises(BadInput, match="grew in the world fabula and knows nothing of fabula#3"):
        check(Study(models=(str(made),), data="fabula#3", out=tmp_path / "run"))


def test_validate_says_so_of_a_run_from_elsewhere(saved: Path, tmp_path: Path) -> None:
    study = read_config(Path(__file__).parents[1] / "data" / "recorded").study
    subject = Subject(
        name="stranger",
        source=str(saved),
        folder=str(saved),
        digest=folder_digest(saved),
        role="defended",
    )
    study = replace(study, subjects=(*study.subjects, subject), world_source="fabula")
    told = [one.says for one in models(tmp_path, study, {}) if one.kind == "fault"]
    assert told == ["stranger grew in the world fabula#3, so what it was asked says nothing of it."]
