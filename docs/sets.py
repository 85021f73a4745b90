"""Write `docs/reference/data-sets.md` from the cards of the sets: ``python docs/sets.py``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from titer.worlds import public
from titer.worlds.datasets._published import Published, Source

PAGE = Path(__file__).parent / "reference" / "data-sets.md"
HEAD = """# Public data sets

Written from the cards by `python docs/sets.py`; `titer card data NAME` prints one.
[How to use them](../how-to/public-data.md). None of their texts is part of titer: each file is
fetched from where its authors put it, at a commit that cannot move.

"""


def page() -> str:
    """The reference of all sets, as Markdown."""
    found = [public.find(name) for name in public.names()]
    hazards = [one for one in found if one.build]
    beside = [one for one in found if not one.build]
    rows = "".join(
        f"| [{one.name}](#{one.name}) | {one.summary} | {one.main.licence}{_bound(one)} | "
        f"{', '.join(one.unasked) or ''} |\n"
        for one in hazards
    )
    table = f"| set | what it is | licence | not askable |\n| --- | --- | --- | --- |\n{rows}\n"
    others = "".join(f"- `{one.name}`: {one.summary} ({one.source})\n" for one in beside)
    told = "## Beside every set\n\nThese hold no hazard. They fill the benign roles.\n\n"
    return HEAD + table + "".join(map(_section, hazards)) + told + others


def _bound(one: Published) -> str:
    gated = any(source.gated for source in one.sources())
    bound = not all(source.commercial for source in one.sources())
    return ", gated" * gated + ", no commercial use of a part" * bound


def _section(one: Published) -> str:
    return "\n".join([f"## {one.name}\n", f"{one.summary}. Source: {one.source}.\n", *_lines(one)])


def _lines(one: Published) -> Iterator[str]:
    yield "| role | holds |\n| --- | --- |"
    yield from (f"| `{role}` | {what} |" for role, what in one.roles.items())
    yield f"\n- Splits: {one.facts}."
    yield from (f"- Not askable: {pillar}, because {why}." for pillar, why in one.unasked.items())
    yield f"- Departs: {one.departs}."
    if one.models:
        yield f"- Models: {one.models}."
    yield f"- Files: {'; '.join(map(_source, one.sources()))}.\n\n"


def _source(source: Source) -> str:
    return f"[{source.repo}]({source.page}) at `{source.commit[:12]}` ({source.licence})"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
