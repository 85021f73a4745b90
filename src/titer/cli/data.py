"""``titer data``: fetch a public set, and look at data before they are used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from titer.cli.guard import Program
from titer.cli.options import AsJson
from titer.cli.output import say_or_print

if TYPE_CHECKING:
    from titer.worlds.checkup import Checkup

__all__ = ["register"]

_SHOWN, _CHARACTERS = 10, 600
"""Leaks that are told of one pair of roles' kind, and characters of an example."""

_SAYS = {
    "text": "the same text",
    "prompt": "the same prompt",
    "near": "nearly the same",
    "fact": "one fact",
    "entity": "one entity",
}


def check(
    data: Annotated[
        str, typer.Argument(help="A folder with a data.yaml, fabula, or a set of `list data`.")
    ],
    model: Annotated[
        str | None,
        typer.Option("--model", help="Also read the data as this model does: lengths, template."),
    ] = None,
    near: Annotated[
        float, typer.Option("--near", help="From which share of common runs rows are near.")
    ] = 0.6,
    as_json: AsJson = False,
) -> None:
    """Look for leaks between roles, repeats, cut rows and bare answers; 1 if there are leaks."""
    from titer.plan.lacking import lacking
    from titer.worlds.checkup import Reader, checkup
    from titer.worlds.hub import fetch, resolve_model
    from titer.worlds.source import open_world

    reader = Reader(str(fetch(resolve_model(model)))) if model else None
    world = open_world(data)
    found = checkup(world, reader, near=near)
    missing = lacking(world)
    say_or_print(as_json, asdict(found) | {"missing": missing}, _text(found, missing))
    if found.leaks:
        raise typer.Exit(1)


def fetch_set(
    name: Annotated[str, typer.Argument(help="A set of `titer list data`.")],
    as_json: AsJson = False,
) -> None:
    """Fetch a public set at its pinned commit, or say what that would take."""
    from titer.worlds import public

    before = public.planned(name)
    told = before.said() if before.missing else []
    places = public.fetch(name)
    say_or_print(
        as_json,
        {"name": name, "fetched": told, "files": {key: str(at) for key, at in places.items()}},
        "\n".join([*told, *(f"{key}: {at}" for key, at in places.items())]),
    )


def _text(found: Checkup, missing: Mapping[str, str]) -> str:
    lines = [f"{found.world}:"]
    lines += [f"  {role}: {count:,} rows" for role, count in found.roles.items() if count]
    lines += [f"note: {note}" for note in found.notes]
    lines += [f"not askable: {pillar}, because {why}" for pillar, why in found.unasked.items()]
    lines += [f"empty: {role}: {cost}" for role, cost in missing.items()]
    lines += [
        f"repeats: {count:,} rows of {role} say what an earlier one says"
        for role, count in found.repeated.items()
    ]
    lines += [*_lengths(found), *_bare(found), *_leaks(found)]
    for one in found.shown:
        text = one.text[:_CHARACTERS] + "…" * (len(one.text) > _CHARACTERS)
        indented = text.replace("\n", "\n  | ")
        lines.append(f"{one.role}, {one.id}, as {_seen(found)}:\n  | {indented}")
    return "\n".join(lines)


def _seen(found: Checkup) -> str:
    if found.chats is None:
        return "text (--model shows it as that model is given it)"
    return "the model is given it" + ("" if found.chats else " (it has no chat template)")


def _lengths(found: Checkup) -> Iterator[str]:
    for role, one in found.lengths.items():
        if one.over:
            yield (
                f"too long: {one.over:,} of {one.rows:,} rows of {role} exceed the model's "
                f"{found.context:,} tokens and are cut (longest {one.longest:,})"
            )
    if found.lengths:
        longest = max(one.longest for one in found.lengths.values())
        yield f"lengths: at most {longest:,} tokens, of {found.context:,} that the model takes"


def _bare(found: Checkup) -> Iterator[str]:
    roles = [role for role, share in found.bare.items() if share > 0.5]
    if roles and found.chats is not False:
        whom = "this model chats and" if found.chats else "a chat model"
        more = f" and {len(roles) - 3} more roles" if len(roles) > 3 else ""
        yield (
            f"bare answers: most of {', '.join(roles[:3])}{more} are a word or three; {whom} "
            "answers in sentences, so its scores fall whatever it knows: write answers as it would "
            "(docs/how-to/own-data.md)"
        )


def _leaks(found: Checkup) -> Iterator[str]:
    counts = Counter((one.kind, one.one, one.two) for one in found.leaks)
    told: Counter[tuple[str, str, str]] = Counter()
    for one in found.leaks:
        key = (one.kind, one.one, one.two)
        told[key] += 1
        if told[key] <= _SHOWN:
            share = f" ({100 * one.share:.0f} %)" if one.kind == "near" else ""
            yield (
                f"leak: {one.one} {one.one_row} and {one.two} {one.two_row} hold "
                f"{_SAYS[one.kind]}{share}"
            )
        elif told[key] == _SHOWN + 1:
            yield f"leak: and {counts[key] - _SHOWN:,} more such pairs of {one.one} and {one.two}"
    yield f"leaks: {len(found.leaks):,}" if found.leaks else "leaks: none found"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = Program(help="Public data sets, and a look at data.", no_args_is_help=True)
    group.command("check")(check)
    group.command("fetch")(fetch_set)
    app.add_typer(group, name="data")
