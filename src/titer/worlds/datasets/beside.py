"""Sets that stand beside others: utility, a benign task, over-refusal."""

from __future__ import annotations

from titer.worlds.datasets import _beside, _requests
from titer.worlds.datasets._published import Published

__all__ = ["SETS"]

_TABLES = {**_beside.TABLES, **_requests.OR_BENCH}


def _of(name: str, summary: str, source: str, *tables: str) -> Published:
    return Published(
        name=name,
        summary=summary,
        source=source,
        tables={table: _TABLES[table] for table in tables},
    )


SETS = (
    _of(
        "gsm8k",
        "worked sums: a benign task, and text far from every hazard",
        "Cobbe et al. 2021, arXiv:2110.14168",
        "gsm8k",
    ),
    _of(
        "mmlu",
        "four choices on 57 subjects: utility, and text near a hazard",
        "Hendrycks et al. 2021, arXiv:2009.03300",
        "mmlu test",
        "mmlu validation",
    ),
    _of(
        "or-bench",
        "1,319 harmless prompts that look harmful: over-refusal",
        "Cui et al. 2024, arXiv:2405.20947",
        "or-bench",
    ),
    _of(
        "xstest",
        "250 safe prompts that look unsafe: over-refusal",
        "Röttger et al. 2023, arXiv:2308.01263",
        "xstest",
    ),
)
