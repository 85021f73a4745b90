"""A model and a data folder so small that a whole study takes seconds."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from titer import bench
from titer.conformance import tiny_data, tiny_lm
from titer.core.data import Example

__all__ = ["data_folder", "model_folder", "run_folder"]

_MANIFEST = """\
name: toy
harm: {measure: choice, chance: 0.33, also: [cloze]}
hazards:
  alloy: {defend: defend.jsonl, attack: attack.jsonl, select: select.jsonl, report: report.jsonl}
retain: retain.jsonl
environments:
  far: far.jsonl
utility:
  river: {file: river.jsonl, measure: choice, chance: 0.33}
tasks:
  song: {train: song_train.jsonl, dev: song_dev.jsonl, measure: choice, chance: 0.33}
"""


def model_folder(at: Path, seed: int = 0) -> Path:
    """A random Llama of twenty thousand weights."""
    tiny_lm("llama", seed).save(at)
    return at


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _rows(examples: tuple[Example, ...], mark: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for example in examples:
        row = {key: value for key, value in asdict(example).items() if value}
        row["id"] = f"{mark}-{row['id']}"
        row["choices"] = list(row["choices"])
        row["steps"] = list(row["steps"])
        rows.append(row)
    return rows


def data_folder(at: Path) -> Path:
    """A world of every role: one hazard in four splits, retain text, a suite, a task."""
    at.mkdir(parents=True, exist_ok=True)
    data = tiny_data()
    harmful = _rows(data.harmful, "h")
    for index, split in enumerate(("defend", "attack", "select", "report")):
        _write(at / f"{split}.jsonl", harmful[index * 3 : index * 3 + 3])
    retain, near, far = (
        _rows(part, mark)
        for part, mark in ((data.retain, "r"), (data.related, "n"), (data.unrelated, "f"))
    )
    _write(at / "retain.jsonl", retain[:8])
    _write(at / "river.jsonl", retain[8:])
    _write(at / "far.jsonl", near)
    _write(at / "song_train.jsonl", far[:6])
    _write(at / "song_dev.jsonl", far[6:])
    (at / "data.yaml").write_text(_MANIFEST, encoding="utf-8")
    return at


def run_folder(root: Path) -> None:
    """A whole run folder, ``root/run``, of attacks of two steps: on the model ``llama``, on ``npo``
    that is made of it, and on one that never learned."""
    bench(
        model_folder(root / "llama"),
        oracle=model_folder(root / "never", seed=1),
        data=str(data_folder(root / "data")),
        out=root / "run",
        defences=["npo"],
        cap=2,
        seeds=1,
        workers=1,
    )
