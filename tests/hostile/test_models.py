"""Model folders that were made to do harm, or are broken: refused before any weight is loaded."""

from __future__ import annotations

import json
import re
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.cli.conftest import Run
from tests.hostile.commands import refused
from tests.hostile.test_folders import WRONG, with_value
from titer.core import weightfiles
from titer.core.modelfolder import faults
from titer.core.readable import require_readable
from titer.core.trying import VARIABLE
from titer.worlds.organisms import shipped

pytestmark = [pytest.mark.exact, pytest.mark.xdist_group("hostile-models")]

FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
)
Change = Callable[[Path], object]


def _copy(to: Path) -> Path:
    source = shipped("aligned")
    assert source is not None
    shutil.copytree(source, to)
    (to / "organism.json").unlink()
    return to


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _copy(tmp_path_factory.mktemp("model") / "m")


def _json(name: str, **values: Any) -> Change:
    def change(folder: Path) -> None:
        path = folder / name
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return change


def _template(text: str) -> Change:
    return lambda folder: (folder / "chat_template.jinja").write_text(text)


def _header(entries: dict[str, Any]) -> Change:
    head = json.dumps(entries).encode()
    return lambda folder: (folder / "model.safetensors").write_bytes(
        struct.pack("<Q", len(head)) + head
    )


def _entry(**values: Any) -> dict[str, Any]:
    return {"w": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} | values}


def _normaliser(*parts: dict[str, Any]) -> Change:
    return _json("tokenizer.json", normalizer={"type": "Sequence", "normalizers": list(parts)})


def _put(text: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": {"String": "a"}, "content": text}


STATIC: dict[str, tuple[Change, str]] = {
    "a billion blocks": (_json("config.json", num_hidden_layers=10**9), "blocks"),
    "blocks of many digits": (_json("config.json", num_hidden_layers=10**400), "blocks"),
    "custom code": (_json("config.json", auto_map={"AutoModel": "x.Y"}), "custom code"),
    "a name that is none": (_json("config.json", model_type="\x1b[31m"), "model"),
    "many values": (
        lambda f: (f / "config.json").write_text("[" + "[]," * 50_001 + "[]]"),
        "100,000 values",
    ),
    "deep": (lambda f: (f / "config.json").write_text("[" * 100_000), "nested deeper"),
    "deep tokenizer": (lambda f: (f / "tokenizer.json").write_text('{"a":' * 50_000), "deeper"),
    "many tensors": (
        _header({f"model.layers.0.{n}": _entry()["w"] for n in range(101)}),
        "101 tensors",
    ),
    "shape below nothing": (_header(_entry(shape=[-1])), "malformed"),
    "shape of many digits": (_header(_entry(shape=[10**4000])), "size"),
    "offsets backwards": (_header(_entry(data_offsets=[8, 0])), "backwards"),
    "offsets beyond": (_header(_entry(data_offsets=[0, 2**60], shape=[2**58])), "truncated"),
    "header beyond": (
        lambda f: (f / "model.safetensors").write_bytes(struct.pack("<Q", 2**62)),
        "truncated",
    ),
    "escape in a tensor": (_header({"\x1b[2J": _entry(shape=[1])["w"]}), "size"),
}
WITHIN: dict[str, tuple[Change, str]] = {
    "more weights than filed": (_json("config.json", vocab_size=10**12), "makes a model of"),
    "a layer too wide": (_json("config.json", intermediate_size=10**10), "makes a model of"),
    "a template without end": (
        _template("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"),
        "takes more than 1 seconds",
    ),
    "a template too large": (_template("{{ 'a' * 10 ** 10 }}"), "GiB"),
    "a prompt too large": (
        _template("{{ 'a' * 10 ** 7 }}{{ messages[0]['content'] }}"),
        "characters of a prompt",
    ),
    "a normaliser that doubles": (_normaliser(*[_put("aa")] * 40), "1 seconds|GiB"),
    "a normaliser that multiplies": (_normaliser(_put("a b " * 100)), "tokens of a text"),
}


@pytest.mark.parametrize("case", STATIC)
def test_what_headers_show_is_refused_without_a_child(
    titer: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    monkeypatch.setattr(weightfiles, "_MAX_TENSORS", 100)
    monkeypatch.setattr(weightfiles, "_MAX_VALUES", 100_000)
    change, said = STATIC[case]
    folder = _copy(tmp_path / "m")
    change(folder)
    assert said in refused(titer, ["validate", folder])


@pytest.mark.parametrize("case", WITHIN)
def test_what_explodes_is_refused_within_the_limits(
    titer: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    monkeypatch.setenv(VARIABLE, "60")
    seconds = 1 if "seconds" in WITHIN[case][1] else 60
    monkeypatch.setenv("TITER_CACHE", str(tmp_path / "cache"))
    change, said = WITHIN[case]
    folder = _copy(tmp_path / "m")
    change(folder)
    out = tmp_path / "out"
    words = ["attack", "S03", folder, "--out", out, f"--load-timeout={seconds}"]
    assert re.search(said, refused(titer, words))
    assert not out.exists()
    assert not list((tmp_path / "cache").rglob("*"))


def test_what_has_passed_is_remembered_by_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TITER_CACHE", str(tmp_path / "cache"))
    folder = _copy(tmp_path / "m")
    require_readable(folder)
    assert len(list((tmp_path / "cache" / "readable").iterdir())) == 1
    monkeypatch.setattr("titer.core.readable.tried", None)  # is not called again
    require_readable(_copy(tmp_path / "other place"))
    (folder / "chat_template.jinja").write_text("{{ messages[0]['content'] }} ")
    with pytest.raises(TypeError):
        require_readable(folder)


def _told(folder: Path) -> None:
    for said in faults(folder):
        assert isinstance(said, str)
        assert len(said) < 2000


@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    name=st.sampled_from(FILES),
    kind=st.sampled_from(["torn", "byte", "value", "value"]),
    where=st.integers(0, 1_000_000),
    value=st.sampled_from([text for text in WRONG if len(text) < 10_000]),
)
def test_a_mutated_model_is_whole_or_has_faults(
    model: Path, name: str, kind: str, where: int, value: str
) -> None:
    with with_value(model / name, kind, where, value):
        _told(model)
