"""A run folder: its verdict, and its pages written anew."""

from __future__ import annotations

import json
from os import PathLike
from pathlib import Path

from titer.core.files import write_atomic
from titer.plan.manifest import read_config
from titer.report import answers
from titer.report.load import read_answers, read_verdict
from titer.verdict import Verdict
from titer.worlds.source import find_world, world_seed

__all__ = ["read", "report"]


def read(folder: str | PathLike[str]) -> Verdict:
    """The verdict of a run folder, worked out from its trials; nothing is trained or written.

    Raises:
        BadInput: there is no run folder here, or it is damaged.
    """
    return read_verdict(Path(folder))


def report(folder: str | PathLike[str], *, show_answers: bool | None = None) -> Verdict:
    """The verdict of a run folder, with its pages and ``verdict.json`` written anew.

    Args:
        folder: The run folder.
        show_answers: Whether ``answers.html`` shows prompts and what the models said as text, or as
            hashes alone. None keeps what was chosen for the page that is there; where nobody chose,
            texts are shown if the data is the testbed's, which harms nobody.

    Raises:
        BadInput: see :func:`read`.
    """
    root = Path(folder)
    found, at = read(root), root / "report"
    chosen = answers.choice(root) if show_answers is None else show_answers
    shown = _harmless(root) if chosen is None else chosen
    page = read_answers(root, find_world, shown=shown, chosen=chosen is not None)
    answers.write(page, root)
    found.to_html(at / "index.html")
    content = json.dumps(found.to_json(), indent=1, sort_keys=True, ensure_ascii=False)
    write_atomic(at / "verdict.json", content)
    return found


def _harmless(root: Path) -> bool:
    """Whether a study asked the testbed, as this version has it, and nothing of the user's."""
    study = read_config(root).study
    source = study.world_source
    testbed = bool(source) and world_seed(source) is not None
    return testbed and find_world(source, study.world_digest) is not None
