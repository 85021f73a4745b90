"""From a run folder to what the report is made of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from titer import __version__
from titer.core.errors import BadInput
from titer.core.records import Trace
from titer.grid.store import Store, damage
from titer.grid.suite import SUITES, refuse_retired
from titer.report import lm_eval
from titer.report._facts import Benign, Row, Share, StudyFacts, Subject
from titer.report.html import current
from titer.report.verdict import verdict

__all__ = ["facts", "read", "read_bases", "read_verdict", "stale"]

# The families of the full table; a claim must name those that a study leaves out.
_FAMILIES = {
    "S": "full fine-tuning",
    "P": "parameter-efficient fine-tuning",
    "M": "data mixes",
    "J": "jailbreak-tuning",
    "R": "reinforcement and preference attacks",
    "V": "representation attacks (direction ablation, steering)",
    "W": "weight surgery (pruning, rounding, merging)",
    "N": "attacks written by a network",
    "H": "adaptive attacks",
    "I": "input-space attacks",
    "L": "bypasses of locks (folding, stock modules, keys)",
}


def _left_out(study: dict[str, Any]) -> tuple[str, ...]:
    """The families that no row of the study is of, by the rows of the table that its rows are."""
    known = SUITES.get(study["suite"])
    of = {row.id: row.of or row.id for row in known.rows} if known else {}
    inside = {of.get(str(row["id"]), str(row["id"]))[:1] for row in study["rows"]}
    return tuple(phrase for letter, phrase in _FAMILIES.items() if letter not in inside)


def facts(config: dict[str, Any]) -> StudyFacts:
    """The study as a report knows it, from a run folder's ``config.yaml``."""
    study = config["study"]
    return StudyFacts(
        suite=study["suite"],
        suite_version=study["suite_version"],
        suite_hash=study["suite_hash"],
        rows=tuple(Row(**row) for row in study["rows"]),
        world=study["world"],
        world_digest=study["world_digest"],
        harm=study["harm"],
        chance=study["chance"],
        utility=study["utility"],
        subjects=tuple(
            Subject(
                name=subject["name"],
                source=subject["source"],
                digest=subject["digest"],
                role=subject["role"],
                defence=subject["defence"],
                unusable=subject.get("unusable", ""),
                course=tuple(subject.get("course", ())),
                doubts=tuple(subject.get("doubts", ())),
            )
            for subject in study["subjects"]
            if not subject.get("share")
        ),
        shares=_shares(study["subjects"]),
        controls=tuple(study.get("locks", {}).get("controls", ())),
        unlocked=study.get("locks", {}).get("unlocked", {}),
        seeds=tuple(study["seeds"]),
        checkpoints=tuple(study["checkpoints"]),
        domains=tuple(study["domains"]),
        tasks=tuple(Benign(**task) for task in study["tasks"]),
        not_tested=(*study["not_tested"], *_left_out(study)),
        command=config["command"],
        created=config.get("created", ""),
    )


def _shares(subjects: list[dict[str, Any]]) -> tuple[Share, ...]:
    """The points of the in-domain curves, each once: its draws share a name."""
    named = {subject["name"]: subject["share"] for subject in subjects if subject.get("share")}
    return tuple(
        Share(name=name, **{key: part[key] for key in ("of", "share", "entities", "total")})
        for name, part in named.items()
    )


def read(root: Path) -> tuple[StudyFacts, list[Trace]]:
    """The facts and traces of a run folder.

    Raises:
        BadInput: there is no run folder here, or it is damaged.
    """
    config = root / "config.yaml"
    if not config.exists():
        raise BadInput(f"{root} is no run folder (it has no config.yaml); `titer bench` makes one.")
    try:
        content = yaml.safe_load(config.read_text(encoding="utf-8"))
        refuse_retired(root, content)
        study = facts(content)
        store = Store(root)
        found = store.planned()
    except BadInput:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, OSError, yaml.YAMLError) as error:
        raise BadInput(
            f"the run folder {root} is damaged: {damage(error)}; "
            "run the same bench command again to complete it."
        ) from error
    return study, found


def read_verdict(root: Path) -> dict[str, Any]:
    """Re-aggregate a run folder; nothing is trained or asked again.

    Beside what the traces say, each model has ``cost``, what its defence spent, and ``inside``,
    what was found in it; both may be empty.
    """
    study, traces = read(root)
    found, store = verdict(study, traces), Store(root)
    try:
        inside = store.inside()
        for model in found["models"]:
            model["cost"] = store.price(model["source"])
            model["inside"] = inside.get(model["name"], [])
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise BadInput(
            f"the run folder {root} is damaged: {damage(error)}; "
            "run the same bench command again to complete it."
        ) from error
    # Beside the verdict and no part of it: what another program measured enters no number of ours.
    return {**found, "lm_eval": lm_eval.beside(root, found["models"])}


def read_bases(root: Path) -> dict[str, str]:
    """The Hub id of the undefended model, for each model that was made from it and lies here."""
    subjects = yaml.safe_load((root / "config.yaml").read_text(encoding="utf-8"))["study"][
        "subjects"
    ]
    base = next((one for one in subjects if one["role"] == "undefended"), None)
    hub = base["source"] if base and base.get("revision") else ""
    return {one["name"]: hub for one in subjects if hub and one["defence"]}


def stale(root: Path) -> tuple[str, str] | None:
    """What of ``report`` is not what the trials give, and why; None where all of it is.

    A verdict that another version of titer wrote is only said to be that.
    """
    path = root / "report" / "verdict.json"
    where = path.relative_to(root).as_posix()
    again = f"`titer report {root}` writes it anew."
    if not path.is_file():
        return where, f"is missing; {again}"
    try:
        written = json.loads(path.read_text(encoding="utf-8"))
        version = written["titer"]
    except (KeyError, TypeError, ValueError):
        return where, f"is no verdict; {again}"
    if version != __version__:
        return where, f"is by titer {version} and this is {__version__}; {again}"
    found = json.loads(json.dumps(read_verdict(root), ensure_ascii=False))
    for now, was in zip(found["models"], written.get("models", ()), strict=False):
        if not (root / now["source"]).is_dir():
            now["cost"] = was.get("cost")  # it is read of the model, which may have been left out
    if found != written:
        return where, f"is not what the trials give; {again}"
    page = path.with_name("index.html")
    if not current(found, page):
        return page.relative_to(root).as_posix(), f"is not the page of the verdict; {again}"
    return None
