"""A model card for the Hub with its results in the front matter, and the results as YAML.

Scores and hashes only: no completion of any model is in them.
"""

from __future__ import annotations

import shlex
from pathlib import PurePath
from typing import Any

import yaml

from titer.report.columns import COLUMNS
from titer.report.models import lm_eval_name, strong
from titer.report.numbers import interval, tidy, value
from titer.verdict.parts import ModelVerdict, Verdict

__all__ = ["evaluation_results", "model_card"]


def model_card(verdict: Verdict, model: ModelVerdict, base: str = "") -> str:
    """``README.md`` of a model: the claim, the table, what is flagged, what was not tested.

    Args:
        verdict: The study.
        model: One of its models.
        base: The Hub id of the undefended model, where it has one.
    """
    from huggingface_hub import ModelCard, ModelCardData

    name = tidy(model.name)
    results = _results(verdict, model)
    facts: dict[str, Any] = {
        "library_name": "transformers",
        "tags": ["titer", "immunised" if model.role == "defended" else str(model.role)],
    }
    if base:
        facts["base_model"] = base
    if results:  # the Hub knows no entry without a number
        facts |= {"model_name": name, "eval_results": results}
    # huggingface_hub writes keys in an order of its own and texts as they are.
    data = ModelCardData(**facts)
    front = yaml.safe_dump(data.to_dict(), sort_keys=False, allow_unicode=True, width=2**20)
    return str(ModelCard(f"---\n{front}---\n\n" + "\n".join(_body(verdict, model))))


def _results(verdict: Verdict, model: ModelVerdict) -> list[Any]:
    from huggingface_hub import EvalResult

    suite, world = verdict.suite, verdict.world
    title = f"{suite.title}"
    data = f"titer {title} on {tidy(world.name)}, hazard {tidy(model.domain)}"
    found = [
        EvalResult(
            task_type="text-generation",
            task_name="immunity to harmful fine-tuning",
            dataset_type=f"titer/{title}",
            dataset_name=data,
            dataset_revision=str(suite.hash),
            metric_type=column.key,
            metric_name=f"{column.title} ({column.says})",
            metric_value=est.value,
            metric_args={end: getattr(est, end) for end in ("low", "high", "n", "censored")},
        )
        for column in COLUMNS
        if (est := column.of(model)).value is not None
    ]
    return found + [
        EvalResult(
            task_type="text-generation",
            dataset_type=one.dataset or one.task,
            dataset_name=one.task,
            metric_type=one.metric,
            metric_name=f"{lm_eval_name(one)}, {one.shots} shots, lm-eval {one.lm_eval}",
            metric_value=one.score.value,
        )
        for one in verdict.lm_eval
        if one.model == model.name
    ]


def _body(verdict: Verdict, model: ModelVerdict) -> list[str]:
    suite, again = verdict.suite, verdict.reproduce
    lines = [f"# {_text(model.name)}", ""]
    if model.defence:
        lines += [f"Defence: {_text(model.defence)}.", ""]
    lines += [_text(model.claim), "", "## Immunity", ""]
    lines += ["| number | value | 95 % interval | says |", "| --- | --- | --- | --- |"]
    for column in COLUMNS:
        est = column.of(model)
        unit = " points" if column.form == "points" and est.value is not None else ""
        shown = f"{value(est, column.form)}{unit}"
        lines.append(f"| {column.title} | {shown} | {interval(est, column.form)} | {column.says} |")
    lines += ["", f"Strong resistance: {_text(strong(model))}.", ""]
    if model.withheld:
        lines += [f"**Withheld**: {_text(model.withheld)}.", ""]
    lines += [f"- flag: {_text(flag)}" for flag in model.flags]
    mine = [one for one in verdict.lm_eval if one.model == model.name]
    if mine:
        lines += ["", "## Utility by lm-eval", "", "Imported; no number above uses it.", ""]
        lines += ["| task | value | 95 % interval |", "| --- | --- | --- |"]
        lines += [
            f"| {_text(lm_eval_name(one))} | {value(one.score)} | {interval(one.score)} |"
            for one in mine
        ]
    missing = verdict.not_tested
    lines += ["", "## Not tested", "", *(f"- {_text(one)}" for one in missing), ""]
    lines += [
        "## How it was measured",
        "",
        f"Suite {suite.title} (`{suite.hash}`), world "
        f"`{verdict.world.digest}`, model `{model.digest}`, titer "
        f"{verdict.titer}. Results of two suites do not compare.",
        "",
        f"    {_command(again.command)}",
        "",
    ]
    if notes := verdict.world.notes:
        lines += ["## The data", "", *(f"- {_text(note)}" for note in notes), ""]
    return lines


def _command(raw: str) -> str:
    """The study's command without the places where it read and wrote, which are nobody else's."""
    words = shlex.split(raw)
    if "--out" in words:
        at = words.index("--out")
        del words[at : at + 2]
    return tidy(
        shlex.join(PurePath(word).name if word.startswith(("/", "~")) else word for word in words)
    )


def _text(raw: object) -> str:
    """One line of Markdown that is text and nothing else, whatever a name holds."""
    kept = tidy(raw).replace("\\", "\\\\")
    for char in "`*_[]<>|#":
        kept = kept.replace(char, f"\\{char}")
    return kept


def evaluation_results(verdict: Verdict, model: ModelVerdict, dataset: str) -> str:
    """The results in the Hub's layout for ``.eval_results/*.yaml``, one entry a number.

    Args:
        verdict: The study.
        model: One of its models.
        dataset: The Hub id under which the suite stands, ``owner/name``.
    """
    from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

    suite, created = verdict.suite, verdict.created
    entries: list[Any] = []
    for column in COLUMNS:
        est = column.of(model)
        if est.value is None:
            continue
        told = f"{column.says}; 95 % interval {interval(est, column.form) or 'unknown'}"
        told += "; a bound" if est.censored else ""
        told += f"; titer suite {suite.title} ({suite.hash})"
        entries.append(
            EvalResultEntry(
                dataset_id=dataset,
                task_id=column.key,
                value=est.value,
                date=created or None,
                notes=told,
            )
        )
    return yaml.safe_dump(
        eval_result_entries_to_yaml(entries), sort_keys=False, allow_unicode=True, width=2**20
    )
