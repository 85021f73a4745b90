"""The public data sets, as ``titer list`` and ``titer card`` show them."""

from __future__ import annotations

from typing import Any

__all__ = ["listed", "published_card", "published_text"]


def listed() -> list[dict[str, Any]]:
    """Rows for ``titer list data``."""
    from titer.worlds import public

    return [
        {
            "name": one.name,
            "summary": one.summary,
            "licence": one.main.licence,
            "commercial": all(source.commercial for source in one.sources()),
            "gated": any(source.gated for source in one.sources()),
            "use": "hazard" if one.build else "beside",
        }
        for one in map(public.find, public.names())
    ]


def published_card(name: str) -> dict[str, Any]:
    """All that is known of a set, as plain values.

    Raises:
        UnknownName: no such set.
    """
    from titer.worlds import public

    one = public.find(name)
    return {
        "name": one.name,
        "summary": one.summary,
        "source": one.source,
        "facts": one.facts,
        "not_askable": dict(one.unasked),
        "roles": dict(one.roles),
        "departures": one.departs,
        "models": one.models,
        "files": [
            {
                "repository": table.source.page,
                "commit": table.source.commit or "unpinned",
                "path": table.path,
                "rows": table.rows or None,
                "bytes": table.size or None,
                "sha256": table.sha256 or None,
                "licence": table.source.licence,
                "gated": table.source.gated,
            }
            for table in one.tables.values()
        ],
    }


def published_text(name: str) -> str:
    """The card of a set for the terminal.

    Raises:
        UnknownName: no such set.
    """
    from titer.worlds import public
    from titer.worlds.datasets._fetch import by_source

    card = published_card(name)
    lines = [f"{name}, data set: {card['summary']}", f"source: {card['source']}"]
    if card["roles"]:
        lines += ["roles:", *(f"  {role}: {what}" for role, what in card["roles"].items())]
        lines.append(f"splits: {card['facts']}")
    else:
        lines.append("it holds no hazard: it stands beside others")
    lines += [f"not askable: {one}, because {why}" for one, why in card["not_askable"].items()]
    lines += [f"departures: {card['departures']}"] if card["departures"] else []
    lines += [f"models: {card['models']}"] if card["models"] else []
    return "\n".join([*lines, "files:", *(f"  {one}" for one in by_source(public.find(name)))])
