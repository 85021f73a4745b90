"""Models and data by name. Nothing here reaches the network."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import huggingface_hub
import pytest

import titer.worlds
from titer.conformance import tiny_lm
from titer.core.errors import BadInput
from titer.core.lm import LM
from titer.core.modelfolder import folder_digest
from titer.worlds.folder import load
from titer.worlds.hub import dataset_rows, fetch, parse_dataset, resolve_model

pytestmark = pytest.mark.exact

COMMIT = "0123456789abcdef0123456789abcdef01234567"
PINNED = f"hub:owner/name@{COMMIT}#train"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder ``own`` that holds a model ``llama``."""
    at = tmp_path_factory.mktemp("models")
    tiny_lm().save(at / "own" / "llama")
    return at


@pytest.fixture
def hub(models: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """A stand-in for the client: one model at one commit; calls are written down."""
    calls: list[tuple[Any, ...]] = []

    def file(id: str, name: str, revision: str | None = None) -> str:
        calls.append((id, name, revision))
        if id != "owner/name":
            raise OSError(f"Repository {id} not found.\nmore")
        return str(models / "snapshots" / COMMIT / name)

    def snapshot(id: str, *, revision: str, allow_patterns: list[str]) -> str:
        calls.append((id, revision))
        assert not any(name.endswith((".bin", ".py")) for name in allow_patterns)
        return str(models / "own" / "llama")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", file)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    return calls


def test_a_local_folder_is_known_by_its_content(models):
    ref = resolve_model(str(models / "own" / "llama"))
    assert (ref.kind, ref.revision) == ("folder", "")
    assert ref.digest == folder_digest(models / "own" / "llama")
    assert fetch(ref) == models / "own" / "llama"


def test_a_folder_may_be_named_from_where_the_data_is(models):
    (models / "own" / "data").mkdir()
    ref = resolve_model("../llama", base=models / "own" / "data")
    assert ref.digest == folder_digest(models / "own" / "llama")


def test_a_folder_is_taken_before_the_hub(models, monkeypatch):
    monkeypatch.chdir(models)
    assert resolve_model("own/llama").kind == "folder"


@pytest.mark.parametrize("source", ["own/lama", "./own/lama", "own/lama/"])
def test_an_unknown_folder_is_answered_with_the_nearest(models, monkeypatch, source):
    monkeypatch.chdir(models)
    with pytest.raises(BadInput, match=r"no model .*Did you mean '(\./)?own/llama'\?"):
        resolve_model(source)


@pytest.mark.parametrize("source", ["", "nothing", "a/b/c", "/no/where", "~/no/where", "own/ll\0m"])
def test_what_is_no_model_is_bad_input(models, monkeypatch, source):
    monkeypatch.chdir(models / "own")
    with pytest.raises(BadInput):
        resolve_model(source)


def test_a_file_is_no_model(models):
    with pytest.raises(BadInput, match="is a file"):
        resolve_model(str(models / "own" / "llama" / "config.json"))


def test_a_broken_folder_is_told_on_sight(tmp_path):
    with pytest.raises(BadInput, match=r"no config\.json"):
        resolve_model(str(tmp_path))


def test_a_pinned_hub_id_needs_no_network(hub):
    ref = resolve_model(f"owner/name@{COMMIT}")
    assert (ref.kind, ref.source, ref.revision) == ("hub", "owner/name", COMMIT)
    assert hub == []


@pytest.mark.parametrize("source", ["owner/name", "owner/name@main"])
def test_an_unpinned_hub_id_is_resolved_to_a_commit_and_said(hub, caplog, source):
    with caplog.at_level(logging.WARNING):
        ref = resolve_model(source)
    assert ref == resolve_model(f"owner/name@{COMMIT}")
    assert f"owner/name@{COMMIT}" in caplog.text


def test_a_hub_model_takes_the_path_of_a_folder(hub):
    folder = fetch(resolve_model(f"owner/name@{COMMIT}"))
    assert hub == [("owner/name", COMMIT)]
    assert LM.load(folder).model.config.model_type == "llama"


def test_a_hub_model_that_cannot_be_had_is_bad_input(hub):
    with pytest.raises(BadInput, match=r"other/name .*HF_HUB_OFFLINE is set: .*not found\.$"):
        resolve_model("other/name")


def test_offline_without_a_cache_is_bad_input(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(BadInput, match="not in the cache"):
        fetch(resolve_model(f"owner/absent@{COMMIT}"))


def test_a_dataset_reference_is_read():
    ref = parse_dataset(f"hub:owner/name/main@{COMMIT}#test")
    assert (ref.id, ref.config, ref.revision, ref.split) == ("owner/name", "main", COMMIT, "test")


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("hub:owner/name#train", "no revision is pinned"),
        ("hub:owner/name@main#train", "'main' can move"),
        (f"hub:owner/name@{COMMIT}", "is no dataset"),
        (f"hub:../name@{COMMIT}#train", "is no dataset"),
        ("hub:", "is no dataset"),
    ],
)
def test_a_dataset_that_is_not_pinned_is_refused(reference, said):
    with pytest.raises(BadInput, match=said):
        parse_dataset(reference)


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(BadInput, match=r"pip install 'titer\[data\]'"):
        list(dataset_rows(PINNED))


def stand_in(monkeypatch: pytest.MonkeyPatch, rows: list[dict[str, Any]] | Exception) -> list[Any]:
    """Put a stand-in where the package datasets would be."""
    calls: list[Any] = []

    def load_dataset(*place: Any, **settings: Any) -> list[dict[str, Any]]:
        calls.append((place, settings))
        if isinstance(rows, Exception):
            raise rows
        return rows

    module: Any = ModuleType("datasets")
    vars(module).update(vars(SimpleNamespace(load_dataset=load_dataset)))
    monkeypatch.setitem(sys.modules, "datasets", module)
    return calls


def test_rows_come_from_the_pinned_split(monkeypatch):
    calls = stand_in(monkeypatch, [{"question": str(n)} for n in range(5)])
    assert list(dataset_rows(PINNED, 2)) == [{"question": "0"}, {"question": "1"}]
    assert calls == [(("owner/name", None), {"split": "train", "revision": COMMIT})]


def test_a_dataset_that_cannot_be_had_is_bad_input(monkeypatch):
    stand_in(monkeypatch, ConnectionError("cannot reach the hub\ntrace"))
    with pytest.raises(BadInput, match=r"dataset owner/name at .*: cannot reach the hub\.$"):
        list(dataset_rows(PINNED))


def test_a_hub_dataset_stands_in_data_yaml_for_a_file(tmp_path, monkeypatch):
    from tests.worlds.test_folder import FILES, MANIFEST, put, rows

    for name in FILES:
        put(tmp_path / f"{name}.jsonl", rows(name))
    put(tmp_path / "safe.jsonl", [{"prompt": "how do I kill a process"}])
    fields = "fields: {prompt: question, answer: answer}, limit: 3"
    (tmp_path / "data.yaml").write_text(
        MANIFEST.replace("far: far.jsonl", f"far: {{file: '{PINNED}', {fields}}}")
    )
    lines = [{"question": f"{n}?", "answer": str(n)} for n in range(5)]
    stand_in(monkeypatch, lines)
    world = load(tmp_path)
    assert [item.id for item in world.unrelated] == [f"{PINNED}:{n}" for n in (1, 2, 3)]
    stand_in(monkeypatch, [*lines[:1], {"question": "1?"}])
    with pytest.raises(BadInput, match="#train, line 2: it has no key 'answer'"):
        load(tmp_path)


def test_a_fabula_name_goes_to_the_organisms(models, monkeypatch):
    organisms: Any = ModuleType("titer.worlds.organisms")
    organisms.parse = lambda source: tuple(source.removeprefix("fabula:").split("@"))
    organisms.organism = lambda kind, size, progress: models / "own" / "llama"
    monkeypatch.setitem(sys.modules, "titer.worlds.organisms", organisms)
    monkeypatch.setattr(titer.worlds, "organisms", organisms, raising=False)
    ref = resolve_model("fabula:base@small")
    assert (ref.kind, ref.source) == ("fabula", "fabula:base@small")
    assert ref.digest == folder_digest(models / "own" / "llama")
    assert fetch(ref) == models / "own" / "llama"
