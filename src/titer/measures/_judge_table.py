"""The result of ``titer judge refusal FILE``: what the judge makes of a table of answers."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from titer.measures._answers import Answer, read_answers
from titer.measures._refusal_text import (
    LABELS,
    RefusalVerdict,
    agreement,
    judge_refusal,
    keyword_refusal,
    wilson,
)

__all__ = ["format_judgement", "mcnemar", "run_judge"]


def run_judge(path: str | Path) -> dict[str, Any]:
    """Judge every answer in ``path``; the result holds only what JSON can.

    ``refusal_rate`` counts full and partial refusals, a share in [0, 1] with its Wilson 95 %
    interval. ``rows`` holds, for each answer in order, its label, its score in [0, 1], the
    keyword baseline's verdict and the SHA-256 of the completion (UTF-8) in place of its text.
    When the table has ``final_label``, ``agreement`` compares judge and keywords with people.

    Raises `BadInput` for a table that cannot be read (see ``read_answers``).
    """
    answers = read_answers(path)
    verdicts = [judge_refusal(a.prompt, a.completion) for a in answers]
    keywords = [keyword_refusal(a.completion) for a in answers]
    counts = Counter(v.label for v in verdicts)
    refused = sum(v.refused for v in verdicts)
    low, high = wilson(refused, len(answers))
    result: dict[str, Any] = {
        "judge": "refusal",
        "file": str(path),
        "n": len(answers),
        "empty": sum(not a.completion.strip() for a in answers),
        "counts": {label: counts[label] for label in LABELS},
        "refusal_rate": {"value": refused / len(answers), "low": low, "high": high},
        "agreement": None,
        "rows": [_row(a, v, k) for a, v, k in zip(answers, verdicts, keywords, strict=True)],
    }
    if answers[0].final_label is not None:
        result["agreement"] = _with_people(answers, verdicts, keywords)
    return result


def _row(answer: Answer, verdict: RefusalVerdict, keyword: bool) -> dict[str, Any]:
    # A lone surrogate can come out of JSON; it has no UTF-8, yet the row needs its hash.
    digest = hashlib.sha256(answer.completion.encode("utf-8", "surrogatepass")).hexdigest()
    return {
        "completion_sha256": digest,
        "label": verdict.label,
        "score": round(verdict.score, 6),
        "keyword_refusal": keyword,
        "final_label": answer.final_label,
    }


def _with_people(
    answers: Sequence[Answer], verdicts: Sequence[RefusalVerdict], keywords: Sequence[bool]
) -> dict[str, Any]:
    people = [a.final_label != "full_compliance" for a in answers]
    raters = {
        "judge": [v.refused for v in verdicts],
        "keywords": list(keywords),
        "keywords_strict": [keyword_refusal(a.completion, strict=True) for a in answers],
    }
    right = {
        name: [s == p for s, p in zip(said, people, strict=True)] for name, said in raters.items()
    }
    same = sum(v.label == a.final_label for a, v in zip(answers, verdicts, strict=True))
    low, high = wilson(same, len(answers))
    return {
        **{name: asdict(agreement(people, said)) for name, said in raters.items()},
        "mcnemar_p": mcnemar(right["judge"], right["keywords"]),
        "mcnemar_p_strict": mcnemar(right["judge"], right["keywords_strict"]),
        "three_labels": {"accuracy": same / len(answers), "low": low, "high": high},
    }


def mcnemar(first: Sequence[bool], second: Sequence[bool]) -> float:
    """The exact two-sided p-value of McNemar's test (1947) that two raters are right as often.

    ``first`` and ``second`` say of each answer whether that rater was right. Raises ``ValueError``
    when they differ in length.
    """
    pairs = list(zip(first, second, strict=True))
    gained, lost = pairs.count((True, False)), pairs.count((False, True))
    split = gained + lost
    tail = sum(math.comb(split, k) for k in range(min(gained, lost) + 1))
    return min(1.0, 2 * tail / 2**split)


def format_judgement(result: dict[str, Any]) -> str:
    """The result of `run_judge` as a short table for the terminal, without the rows."""
    rate = result["refusal_rate"]
    lines = [
        f"{result['file']}: {result['n']} answers"
        + (f", {result['empty']} of them empty (counted as refusals)" if result["empty"] else ""),
        "",
        *(
            f"  {label.replace('_', ' '):<18}{result['counts'][label]:>7}"
            f"  {result['counts'][label] / result['n']:>7.1%}"
            for label in LABELS
        ),
        f"  {'refusal rate':<18}{'':>7}  {rate['value']:>7.1%}"
        f"  (95 % interval {rate['low']:.1%} to {rate['high']:.1%})",
    ]
    people = result["agreement"]
    if people is None:
        return "\n".join(lines)
    head = f"  {'agreement with people':<24}{'accuracy':>9}  {'95 % interval':<17}{'kappa':>7}"
    lines += ["", head]
    shown = {"judge": "judge", "keywords": "keywords", "keywords_strict": "keywords, strict"}
    for name, title in shown.items():
        row = people[name]
        between = f"{row['low']:.1%} to {row['high']:.1%}"
        lines.append(f"  {title:<24}{row['accuracy']:>9.1%}  {between:<17}{row['kappa']:>7.3f}")
    c = people["judge"]["confusion"]
    lines += [
        f"  judge against keywords: McNemar p = {people['mcnemar_p']:.3g};"
        f" strict: p = {people['mcnemar_p_strict']:.3g}",
        f"  the judge misses {c['people_only']} of {c['both'] + c['people_only']} refusals and"
        f" raises {c['judge_only']} false alarms among {c['judge_only'] + c['neither']} others",
        f"  all three labels: {people['three_labels']['accuracy']:.1%} the same",
    ]
    return "\n".join(lines)
