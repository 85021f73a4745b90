"""Run folders whose attacks were cut short in ways that there are no more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cli.conftest import Run
from titer.plan.suites import suite


def _folder(root: Path, settings: dict[str, Any] | None, command: str) -> Path:
    subject = dict.fromkeys(("name", "source", "folder", "digest", "revision"), "m")
    study = {
        "suite": "quick",
        "suite_version": "v1",
        "suite_hash": "0" * 16,
        "rows": [{"id": "S03"}],
        "world_source": "fabula",
        "world_digest": "0" * 16,
        "subjects": [{**subject, "role": "undefended"}],
        "seeds": [0],
        "domains": ["A"],
        "tasks": [],
    }
    if settings is not None:
        study["suite_settings"] = {**suite("quick").settings(), **settings}
    root.mkdir()
    content = {"format": 1, "command": command, "study": study}
    (root / "config.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return root


@pytest.mark.parametrize("command", ["report", "validate", "verify"])
@pytest.mark.parametrize(
    ("settings", "words", "option"),
    [
        ({"worst_case": True}, "", "--worst-case"),
        ({"search": "halving"}, "", "--search halving"),
        (None, " --search halving --out runs/x", "--search halving"),
    ],
)
def test_a_folder_of_attacks_that_were_cut_short_is_refused(
    tmp_path: Path,
    titer: Run,
    command: str,
    settings: dict[str, Any] | None,
    words: str,
    option: str,
) -> None:
    root = _folder(tmp_path / "run", settings, f"titer bench m{words}")
    before = sorted(root.rglob("*"))
    code, out, err = titer(command, root)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert f"made by an older titer with {option}" in err
    assert "into another --out" in err
    assert sorted(root.rglob("*")) == before


@pytest.mark.parametrize("command", ["report", "validate", "verify"])
def test_no_other_folder_is(tmp_path: Path, titer: Run, command: str) -> None:
    """It is incomplete, and that is what is said of it."""
    root = _folder(tmp_path / "run", {}, "titer bench m")
    code, out, err = titer(command, root)
    assert code != 0
    assert "older titer" not in out + err
