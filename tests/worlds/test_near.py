"""Near-duplicates: what the rule says, against a slow reading of it, and that templates pass."""

from __future__ import annotations

import random
from itertools import combinations

import pytest

from tests.published import Maker
from titer.core.data import Example
from titer.worlds.fabula import fabula
from titer.worlds.near import in_conflict, pairs, words

pytestmark = pytest.mark.exact


def row(id: str, prompt: str, answer: str = "", choices: tuple[str, ...] = ()) -> Example:
    return Example(id=id, prompt=prompt, answer=answer, choices=choices)


def kinds(one: Example, two: Example, near: float = 0.6) -> list[tuple[str, float]]:
    roles = [("retain", [one]), ("utility.x", [two])]
    return [(pair.kind, round(pair.share, 2)) for pair in pairs(roles, near=near)]


TEXT = "the keeper of the lower lake opens nine gates before the first bell of the day"


def test_case_spacing_and_punctuation_are_no_difference():
    one = row("a", "Which  gate, opens FIRST at dawn?", "The east one.")
    two = row("b", "which gate opens first — at dawn", "the EAST one")
    assert kinds(one, two) == [("text", 1.0)]


def test_one_prompt_with_two_answers_is_told():
    one, two = (
        row("a", "Which gate opens first at dawn?", "east"),
        row("b", "Which gate opens first at dawn?", "The east gate opens first."),
    )
    assert [kind for kind, _ in kinds(one, two)] == ["prompt"]


def test_a_short_prompt_with_other_choices_is_another_question():
    one = row("a", "Which of the following is true?", "tin", ("tin", "wax"))
    two = row("b", "Which of the following is true?", "oak", ("oak", "ash"))
    assert kinds(one, two) == []


def test_most_runs_in_common_are_near_and_few_are_not():
    near = TEXT.replace("nine", "ten")
    far = " ".join([*TEXT.split()[:8], *Maker("far").say(8).split()])
    assert [kind for kind, _ in kinds(row("a", TEXT), row("b", near), 0.5)] == ["near"]
    assert kinds(row("a", TEXT), row("b", far)) == []


def test_a_row_inside_a_long_document_is_near():
    document = f"{Maker('one').say(300)} {TEXT} {Maker('two').say(300)}"
    assert kinds(row("a", "read on", document), row("b", TEXT)) == [("near", 1.0)]


def test_the_index_finds_what_comparing_every_pair_finds():
    rng, make = random.Random(5), Maker("slow")
    base = [make.say(14).split() for _ in range(12)]
    rows = []
    for number in range(60):
        text = list(rng.choice(base))
        for _ in range(rng.randrange(4)):
            text[rng.randrange(len(text))] = make.say(1)
        rows.append(row(f"r{number}", " ".join(text)))

    def runs(example: Example) -> set[tuple[str, ...]]:
        own = words(example.prompt)
        return {tuple(own[at : at + 5]) for at in range(len(own) - 4)}

    texts = {" ".join(words(one.prompt)): runs(one) for one in rows}
    everywhere = [run for found in texts.values() for run in found]
    common = {run for run in set(everywhere) if everywhere.count(run) > 20}
    slow = set()
    for one, two in combinations(rows, 2):
        mine, theirs = runs(one) - common, runs(two) - common
        shared = len(mine & theirs)
        if shared >= 3 and shared / min(len(mine), len(theirs)) >= 0.6:
            slow.add((one.id, two.id))
    found = pairs([("", rows)], lambda one, two: True)
    quick = {(pair.one.example.id, pair.two.example.id) for pair in found}
    # Of one text only the first row of a role is paired.
    firsts = {" ".join(words(one.prompt)): one.id for one in reversed(rows)}
    alike = {one.id: firsts[" ".join(words(one.prompt))] for one in rows}
    assert slow
    assert {(alike[a], alike[b]) for a, b in slow} <= {(alike[a], alike[b]) for a, b in quick} | {
        (alike[b], alike[a]) for a, b in quick
    }
    assert {(a, b) for a, b in quick} <= slow | {(b, a) for a, b in slow}


def test_a_template_that_many_rows_share_is_no_leak():
    """Fabula asks thousands of questions in a handful of phrasings, and no fact twice."""
    assert list(pairs(fabula().roles())) == []


@pytest.mark.parametrize(
    ("one", "two", "conflict"),
    [
        ("hazards.A.attack", "hazards.A.report", True),
        ("hazards.A.select", "hazards.A.report", True),
        ("hazards.A.attack", "hazards.B.report", True),
        ("hazards.A.attack", "hazards.B.attack", False),
        ("hazards.A.report", "hazards.B.report", False),
        ("retain", "utility.x", True),
        ("retain", "hazards.A.defend", True),
        ("retain", "environments.far", False),
        ("tasks.t.train", "tasks.t.dev", True),
        ("over_refusal", "retain", True),
        ("over_refusal", "utility.x", False),
        ("retain", "retain", False),
    ],
)
def test_which_roles_must_not_share(one: str, two: str, conflict: bool):
    assert in_conflict(one, two) is in_conflict(two, one) is conflict
