"""The folder is the catalogue, and listing it is cheap."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest

import titer
from titer.core import catalogue
from titer.core.errors import BadInput, UnknownName
from titer.core.records import Kind

ROOT = Path(titer.__file__).parent


def _alone(code: str) -> str:
    """Run in a fresh interpreter."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(ROOT.parent), "PATH": "/usr/bin:/bin"},
    )
    return done.stdout.strip()


@pytest.mark.parametrize("kind", ["attack", "defence", "measure"])
def test_names_are_the_files(kind: Kind) -> None:
    files = {path.stem for path in (ROOT / catalogue.FOLDERS[kind]).glob("*.py")}
    assert set(catalogue.names(kind)) >= {name for name in files if not name.startswith("_")}
    assert catalogue.names(kind) == sorted(catalogue.names(kind))
    assert not any(name.startswith("_") for name in catalogue.names(kind))


def test_listing_imports_neither_torch_nor_a_method() -> None:
    listing = (
        "import sys; import titer.core; from titer.core import catalogue as c;"
        "print(sum(len(c.summaries(k)) + len(c.presets(k)) for k in c.FOLDERS));"
        "heavy = {'torch', 'transformers', 'numpy', 'pydantic', 'titer.core.lm'};"
        "print(sorted(n for n in sys.modules"
        " if n in heavy or n.startswith('titer.attacks.')))"
    )
    count, loaded = _alone(listing).splitlines()
    assert int(count) > 20
    assert loaded == "[]"


@pytest.mark.slow
def test_a_card_imports_one_method() -> None:
    code = (
        "import sys; from titer.core import catalogue as c; c.card('attack', 'noop');"
        "print(sorted(n for n in sys.modules if n.startswith('titer.attacks.')))"
    )
    assert _alone(code) == "['titer.attacks.noop']"


@pytest.mark.parametrize(
    ("wrong", "right"), [("finetun", "finetune"), ("FINETUNE", "finetune"), ("no_op", "noop")]
)
def test_an_unknown_name_gets_a_suggestion(wrong: str, right: str) -> None:
    with pytest.raises(UnknownName, match=f"no attack named '{wrong}'. Did you mean '{right}'"):
        catalogue.card("attack", wrong)


def test_a_name_like_nothing_gets_the_list() -> None:
    with pytest.raises(UnknownName, match=r"`titer list attacks` prints all \d+") as caught:
        catalogue.card("attack", "zzzz")
    assert "Did you mean" not in str(caught.value)


@pytest.mark.parametrize("name", ["../core/lm", "__init__", "_unlearn", ""])
def test_only_listed_files_are_methods(name: str) -> None:
    with pytest.raises(UnknownName):
        catalogue.card("defence", name)


def test_presets_are_found_by_name_and_belong_to_one_method() -> None:
    name, preset = catalogue.preset("attack", "S03")
    assert (name, preset.lr_scale) == ("finetune", 1.0)
    with pytest.raises(UnknownName, match="S0"):
        catalogue.preset("attack", "S0X")
    rows = [
        row
        for kind in ("attack", "defence")
        for s in catalogue.summaries(kind)
        for row in s.presets
    ]
    assert len(rows) == len(set(rows))


def test_build_reads_text_by_the_type_of_the_field() -> None:
    built = catalogue.build(
        "attack",
        "finetune",
        {"lr": "1e-3", "batch_size": "4", "clip": "none", "examples": "10", "mix": "related"},
    )
    assert (built.lr, built.batch_size, built.clip, built.examples) == (1e-3, 4, None, 10)
    rmu = catalogue.build("defence", "rmu", {"modules": ["mlp.up_proj"]})
    assert rmu.modules == ("mlp.up_proj",)


def test_a_mapping_is_read_as_json() -> None:
    built = catalogue.build("attack", "preference", {"trl": '{"use_vllm": true}'})
    assert built.trl == {"use_vllm": True}
    with pytest.raises(BadInput, match="does not fit"):
        catalogue.build("attack", "preference", {"trl": "use_vllm"})


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"learning_rate": 1}, "no setting 'learning_rate'"),
        ({"batchsize": 1}, "Did you mean 'batch_size'"),
        ({"lr": "fast"}, "lr='fast' does not fit"),
        ({"mix": "poisoned"}, "mix='poisoned' does not fit"),
        ({"batch_size": 1.5}, "batch_size=1.5 does not fit"),
        ({"lr": -1}, "positive"),
        ({"lr": "nan"}, "no finite number"),
        ({"lr": "inf"}, "no finite number"),
        ({"clip": 0}, "clip=0"),
        ({"first": 1.0}, "shares"),
        ({"examples": 0}, "examples=0"),
    ],
)
def test_a_wrong_setting_is_one_clear_sentence(settings: dict[str, object], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        catalogue.build("attack", "finetune", settings)


@pytest.mark.parametrize("name", ["npo", "rmu", "grad_diff"])
def test_a_defence_is_checked_when_it_is_built(name: str) -> None:
    for settings in ({"lr": 0.0}, {"batch_size": 0}, {"rank": 0}, {"lr": float("nan")}):
        with pytest.raises(BadInput, match=r"positive|no finite number"):
            catalogue.build("defence", name, settings)


def test_settings_are_listed_with_their_defaults() -> None:
    (line,) = [line for line in catalogue.summaries("attack") if line.name == "break_repair"]
    assert "lr=2e-05" in line.settings or "lr=2e-5" in line.knobs
    assert len(line.settings) == 7


def test_a_field_is_read_by_its_own_type_whatever_another_method_was_read_by(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The two types are equal, and read the same text otherwise."""
    for method, kind in ((_Whole, int), (_Real, float)):
        monkeypatch.setattr(catalogue, "card", lambda *_, made=method: SimpleNamespace(build=made))
        assert type(catalogue.build("attack", "made", {"size": "5"}).size) is kind


@dataclass(frozen=True, kw_only=True)
class _Whole:
    size: int | float = 1


@dataclass(frozen=True, kw_only=True)
class _Real:
    size: float | int = 1
