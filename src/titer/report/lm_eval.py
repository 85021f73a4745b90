"""Utility that lm-evaluation-harness measured, beside a study's own and never blended with it.

A results file of lm-eval 0.4 is read once, reduced to its numbers and what must be equal to compare
them, and kept in the run folder under ``utility/lm-eval``. It enters no pillar and no claim.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from titer.core.errors import BadInput, nearest
from titer.core.files import write_atomic
from titer.core.protocol import Z
from titer.core.reading import UNREADABLE, load_json
from titer.core.records import Estimate, content_key
from titer.evidence.resample import wilson
from titer.verdict.parts import Imported

__all__ = ["FORMAT", "beside", "keep", "kept", "read"]

FORMAT = 1
FOLDER = Path("utility") / "lm-eval"
_LARGEST = 64 * 2**20
_BEYOND = 1e300
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
_SETTINGS = ("limit", "gen_kwargs", "random_seed", "fewshot_seed")
_TEMPLATE = ("chat_template_sha", "system_instruction_sha", "fewshot_as_multiturn")


def read(path: Path) -> dict[str, Any]:
    """The numbers of a results file, one record a task, metric and filter.

    Raises:
        BadInput: there is no such file, or lm-eval 0.4 did not write it.
    """
    if path.is_dir():
        inside = sorted(str(one) for one in path.rglob("results*.json"))
        told = f"one of {', '.join(inside[:4])}" if inside else "the results_*.json of `lm_eval`"
        raise BadInput(f"{path} is a folder; give {told}.")
    if not path.is_file():
        raise BadInput(f"{path} is no file; give the results_*.json that `lm_eval` wrote.")
    if path.suffix == ".jsonl":
        raise BadInput(f"{path} holds samples; give the results_*.json beside it.")
    if path.stat().st_size > _LARGEST:
        raise BadInput(f"{path} is larger than 64 MiB; give the results file, not the samples.")
    text = path.read_bytes()
    try:
        raw: Any = json.loads(text)  # lm-eval writes NaN
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path} is not JSON ({error}); give the file that lm-eval wrote.") from None
    results = raw.get("results") if isinstance(raw, dict) else None
    if not isinstance(results, dict) or "versions" not in raw or "n-shot" not in raw:
        raise BadInput(
            f"{path} is no results file of lm-eval 0.4: it has no `results`, `versions` and "
            "`n-shot`; give the results_*.json under its --output_path."
        )
    found = [
        record
        for task, metrics in sorted(cast(dict[str, Any], results).items())
        if isinstance(metrics, dict)
        for record in _records(raw, task, cast(dict[str, Any], metrics))
    ]
    if not found:
        raise BadInput(f"{path} holds no metric that is a number; run lm-eval again.")
    return {
        "format": FORMAT,
        "file": path.name,
        "sha256": hashlib.sha256(text).hexdigest(),
        "lm_eval": _words(raw.get("lm_eval_version")),
        "measured": _words(Path(_words(raw.get("model_name"))).name),
        "results": found,
    }


def _words(raw: Any) -> str:
    return raw if isinstance(raw, str) else ""


def _mapping(raw: Any, *path: str) -> dict[str, Any]:
    for step in path:
        raw = raw.get(step) if isinstance(raw, dict) else None
    return cast(dict[str, Any], raw) if isinstance(raw, dict) else {}


def _number(raw: Any) -> float | None:
    if isinstance(raw, bool) or not isinstance(raw, int | float) or abs(raw) > _BEYOND:
        return None
    return float(raw) if math.isfinite(raw) else None


def _subtasks(raw: dict[str, Any], task: str, *, inner: bool = False) -> list[str]:
    """The tasks under a group, none for a task; with ``inner`` the groups within it too."""
    found: dict[str, None] = {}
    todo, seen = [task], {task}
    while todo:
        below = _mapping(raw, "group_subtasks").get(todo.pop())
        names = [name for name in below if isinstance(name, str)] if isinstance(below, list) else []
        for name in cast(list[str], names):
            found[name] = None
            todo += [] if name in seen else [name]
            seen.add(name)
    groups = [name for name in found if _mapping(raw, "group_subtasks").get(name)]
    return [name for name in found if inner or name not in groups]


def _group(raw: dict[str, Any], task: str, metric: str) -> str:
    """The largest group in whose score of that metric a task is counted; empty where it stands
    alone."""
    groups = sorted(_mapping(raw, "group_subtasks"))
    over = [one for one in groups if one != task and task in _subtasks(raw, one, inner=True)]
    scored = [one for one in over if metric in _mapping(raw, "results", one)]
    return max(scored, key=lambda one: len(_subtasks(raw, one)), default="")


def _asked(raw: dict[str, Any], task: str) -> int:
    """How many items were asked; of a group, in all of its tasks."""
    below = _subtasks(raw, task) or [task]
    counts = [_mapping(raw, "n-samples", one).get("effective") for one in below]
    known = [count for count in counts if type(count) is int]
    if len(known) == len(counts):
        return sum(known)
    told = _mapping(raw, "results", task).get("sample_len")
    return told if type(told) is int else 0


def _records(raw: dict[str, Any], task: str, metrics: dict[str, Any]) -> list[dict[str, Any]]:
    """``"acc,none": 0.5`` with its ``"acc_stderr,none"``; a key without a comma is no metric."""
    found: list[dict[str, Any]] = []
    for key, given in sorted(metrics.items()):
        metric, comma, name = key.partition(",")
        value = _number(given)
        # `bypass` stands for a task whose metrics were left out, and is 999.
        if not comma or metric.endswith("_stderr") or metric == "bypass" or value is None:
            continue
        stderr = _number(metrics.get(f"{metric}_stderr,{name}"))
        higher = _mapping(raw, "higher_is_better", task).get(metric)
        config = _mapping(raw, "configs", task)
        found.append(
            {
                "task": task,
                "metric": metric,
                "filter": name,
                "value": value,
                "stderr": stderr if stderr is not None and stderr >= 0 else None,
                "n": _asked(raw, task),
                "group": _group(raw, task, key),
                "higher_is_better": higher if isinstance(higher, bool) else None,
                "version": _plain(_mapping(raw, "versions").get(task)),
                "shots": _plain(_mapping(raw, "n-shot").get(task)),
                "dataset": _words(config.get("dataset_path")),
                "alike": _alike(raw, task),
            }
        )
    return found


def _plain(raw: Any) -> str:
    return f"{raw:g}" if isinstance(raw, float) else str(raw) if raw is not None else ""


def _alike(raw: dict[str, Any], task: str) -> str:
    """Equal for two runs that put the same questions in the same way; a group's tasks all count."""
    settings = _mapping(raw, "config")
    return content_key(
        [
            [_put(raw, one) for one in (task, *_subtasks(raw, task))],
            [str(settings.get(name)) for name in _SETTINGS],
            [str(raw.get(name)) for name in _TEMPLATE],
        ]
    )


def _put(raw: dict[str, Any], task: str) -> list[Any]:
    """How one task was put: version, shots, items, configuration, and the hash of its prompts."""
    config = _mapping(raw, "configs", task)
    told = {key: value for key, value in config.items() if key != "metadata"}
    return [
        task,
        _plain(_mapping(raw, "versions").get(task)),
        _plain(_mapping(raw, "n-shot").get(task)),
        _asked(raw, task),
        # A function that lm-eval could not write out stands there with its address in memory.
        _ADDRESS.sub("", json.dumps(told, sort_keys=True, default=str)),
        _mapping(raw, "task_hashes").get(task),
    ]


def keep(root: Path, models: Sequence[str], given: Mapping[str, Path]) -> list[Path]:
    """Put results files into a run folder, each under the model it is about; all or none.

    A model's earlier file is replaced.

    Args:
        root: The run folder.
        models: The names of the study's models.
        given: Results files by model.

    Raises:
        BadInput: a file that is none of lm-eval's, or a model that the study does not have.
    """
    faults: list[str] = []
    read_in: dict[str, dict[str, Any]] = {}
    for model, path in given.items():
        if model not in models:
            faults.append(
                f"the study has no model {model!r}.{nearest(model, models)} "
                f"It has {', '.join(models)}."
            )
            continue
        try:
            read_in[model] = {"model": model, **read(path)}
        except BadInput as error:
            faults += error.faults
    if faults:
        raise BadInput(*faults)
    written: list[Path] = []
    for model, content in read_in.items():
        target = root / FOLDER / f"{content_key(model)}.json"
        write_atomic(target, json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False))
        written.append(target)
    return written


def kept(root: Path) -> dict[str, dict[str, Any]]:
    """What a run folder holds, by model.

    Raises:
        BadInput: a file that titer did not write.
    """
    found: dict[str, dict[str, Any]] = {}
    for path in sorted((root / FOLDER).glob("[!.]*.json")):
        try:
            content = load_json(path.read_text(encoding="utf-8"))
            if content["format"] != FORMAT:
                raise ValueError("another format")
            for record in content["results"]:
                float(record["value"])
                str(record["task"] + record["metric"] + record["filter"] + record["alike"])
            found[str(content["model"])] = content
        except (OSError, *UNREADABLE) as error:
            raise BadInput(
                f"{path} is damaged ({type(error).__name__}: {error}); import the file again."
            ) from error
    return found


def beside(root: Path, models: Sequence[str], base: str = "") -> tuple[Imported, ...]:
    """What a report shows: every metric of every model, with its change from the undefended one.
    Tasks that are counted in the score of a group are left to the group.

    The change is taken only where both were asked alike, and its interval is that of two
    independent samples: wider than need be, since the questions are the same. ``base`` names the
    undefended model.
    """
    held = kept(root)
    before = {_key(record): record for record in held.get(base, {}).get("results", ())}
    shown: list[Imported] = []
    for name in models:
        for record in held.get(name, {}).get("results", ()):
            if record.get("group"):
                continue
            first = before.get(_key(record)) if name != base else None
            shown.append(
                Imported(
                    model=name,
                    **{key: record[key] for key in record if key != "stderr"},
                    score=_score(record),
                    change=_change(record, first),
                    file=held[name]["file"],
                    sha256=held[name]["sha256"],
                    lm_eval=held[name]["lm_eval"],
                )
            )
    return tuple(shown)


def _key(record: Mapping[str, Any]) -> tuple[str, str, str]:
    return record["task"], record["metric"], record["filter"]


def _score(record: Mapping[str, Any]) -> Estimate:
    """A metric with its interval: normal, and Wilson's where all or none were right, since an error
    of nothing is no certainty."""
    value, stderr, n = record["value"], record["stderr"], record["n"]
    if stderr is None:
        return Estimate(value=value, n=n)
    if stderr == 0 and value in (0.0, 1.0) and n:
        exact = wilson(value * n, n)
        return Estimate(value=value, low=exact.low, high=exact.high, n=n)
    return Estimate(value=value, low=value - Z * stderr, high=value + Z * stderr, n=n)


def _change(record: Mapping[str, Any], first: Mapping[str, Any] | None) -> Estimate | None:
    """The difference of two metrics; its ends from those of both, as Newcombe 1998 has it."""
    if first is None:
        return None
    if first["alike"] != record["alike"]:
        return Estimate(value=None, note="not asked as the undefended model was: not compared")
    now, was = _score(record), _score(first)
    moved = float(record["value"]) - float(first["value"])
    if now.low is None or now.high is None or was.low is None or was.high is None:
        return Estimate(value=moved, n=record["n"])
    down = math.hypot(record["value"] - now.low, was.high - first["value"])
    up = math.hypot(now.high - record["value"], first["value"] - was.low)
    return Estimate(value=moved, low=moved - down, high=moved + up, n=record["n"])
