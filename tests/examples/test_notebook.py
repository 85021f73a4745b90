"""The notebook goes from nothing to a verdict, and lies in the repository without its outputs."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

NOTEBOOK = Path(__file__).parents[2] / "examples" / "first_verdict.ipynb"


def _code(cells: Any) -> list[Any]:
    return [cell for cell in cells if cell["cell_type"] == "code"]


def test_the_notebook_has_ten_cells_and_no_outputs() -> None:
    cells = _code(json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"])
    assert len(cells) == 10
    assert [cell["outputs"] for cell in cells] == [[]] * 10, "clear its outputs"
    assert {cell["execution_count"] for cell in cells} == {None}


@pytest.mark.slow
# What Jupyter's own packages warn of.
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_the_notebook_ends_in_a_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "jupyter"))
    notebook: Any = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    where = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=900, resources=where).execute(env=dict(os.environ))
    shown = [_shown(cell) for cell in _code(notebook.cells)]
    *_, attacked, _, model, frame, verdict, same = shown
    assert "<td>30</td>" in attacked["text/html"], "a row for each checkpoint"
    word, *_, outcome = model["text"].split()
    assert word in {"breached", "degraded", "held", "open", "withheld"}
    assert outcome in {"breached", "held"}
    assert "resistance" in frame["text/html"] or "harm" in frame["text/html"]
    assert f">{word}</b>" in verdict["text/html"]
    assert "<table" in verdict["text/html"]
    assert "<svg" in verdict["text/html"]
    assert same["text/plain"] == "True"
    assert (tmp_path / "runs" / "first-verdict" / "report" / "index.html").exists()


def _shown(cell: Any) -> Mapping[str, str]:
    """What a cell showed, by kind; ``text`` is what it printed."""
    found: dict[str, str] = {}
    for output in cell["outputs"]:
        found |= output.get("data", {})
        if output.get("name") == "stdout":
            found["text"] = found.get("text", "") + output["text"]
    return found
