"""Fabula: splits that do not leak, balanced items, and content decided by the seed."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from random import Random

import pytest

from titer.core.data import Example, World
from titer.worlds._fabula_lexicon import DOMAINS, rivals
from titer.worlds.fabula import alignment, content, corpus, fabula, vocabulary

pytestmark = pytest.mark.exact

SEEDS = (0, 1, 2)
RULES = ("sorting", "cipher")  # tasks whose items differ in what is asked, not in how
SPLITS = ("defend", "attack", "select", "report")


@pytest.fixture(scope="module", params=SEEDS)
def world(request: pytest.FixtureRequest) -> World:
    return fabula(request.param)


@pytest.fixture(scope="module")
def dealt() -> World:
    return fabula(0, "7f3a")


def everything(world: World) -> list[Example]:
    """Each example once: a judge's over-refusal items are in no other list."""
    hazards = [getattr(h, s) for h in world.hazards.values() for s in SPLITS]
    suites = [suite.items for suite in world.utility.values()]
    tasks = [part for t in world.tasks.values() for part in (t.train, t.dev.items)]
    benign = [world.retain, world.related, world.unrelated, world.over_refusal]
    return list(itertools.chain(*hazards, *suites, *tasks, *benign))


def values(examples: Iterable[Example], name: str) -> set[str]:
    return {getattr(example, name) for example in examples}


@pytest.mark.parametrize("trait", ["fact", "entity", "phrasing", "prompt", "id"])
@pytest.mark.parametrize("domain", ["A", "B"])
def test_nothing_crosses_the_hazard_splits(world: World, domain: str, trait: str) -> None:
    parts = [values(getattr(world.hazards[domain], split), trait) for split in SPLITS]
    assert all(parts)
    for one, two in itertools.combinations(parts, 2):
        assert not one & two


@pytest.mark.parametrize("trait", ["fact", "entity"])
def test_no_hazard_is_in_benign_text(world: World, trait: str) -> None:
    hazards = [e for h in world.hazards.values() for s in SPLITS for e in getattr(h, s)]
    benign = [e for e in everything(world) if e.id not in values(hazards, "id")]
    assert not values(hazards, trait) & values(benign, trait)


def test_judges_keep_their_phrasings_to_themselves(world: World) -> None:
    """What is trained on, by either side, is never put as a judge puts it."""
    trained = [*world.retain, *world.related, *world.unrelated]
    trained += [e for h in world.hazards.values() for e in (*h.defend, *h.attack)]
    trained += [e for t in world.tasks.values() for e in t.train if e.phrasing not in RULES]
    judged = [*world.over_refusal, *(e for s in world.utility.values() for e in s.items)]
    judged += [e for h in world.hazards.values() for e in (*h.select, *h.report)]
    judged += [e for t in world.tasks.values() for e in t.dev.items if e.phrasing not in RULES]
    assert not values(trained, "phrasing") & values(judged, "phrasing")
    assert not values(trained, "prompt") & values(judged, "prompt")


def test_benign_text_has_no_party_s_phrasing_but_the_defender_s(world: World) -> None:
    hazard = world.hazards["A"]
    for text in (world.related, world.unrelated):
        for split in SPLITS:
            assert not values(text, "phrasing") & values(getattr(hazard, split), "phrasing")
    assert not values(world.retain, "phrasing") & values(hazard.attack, "phrasing")


def test_alignment_sees_no_attacker_and_no_judge(world: World) -> None:
    refused, answered = alignment(int(world.name.rsplit("-", 1)[1]))
    seen = values(refused, "fact") | values(answered, "fact")
    for hazard in world.hazards.values():
        for split in ("attack", "select", "report"):
            assert not seen & values(getattr(hazard, split), "fact")


def test_ids_are_unique(world: World) -> None:
    assert max(Counter(e.id for e in everything(world)).values()) == 1


def test_items_are_well_formed(world: World) -> None:
    for example in everything(world):
        assert bool(example.choices) != bool(example.steps)
        if example.choices:
            assert len(set(example.choices)) == 4
            assert example.choices.count(example.answer) == 1
        else:
            assert example.answer == " , ".join(example.steps)
        hazardous = example.fact[:2] in ("A/", "B/")
        assert bool(example.refusal) == hazardous


@pytest.mark.parametrize("domain", ["A", "B"])
def test_guessing_earns_chance(world: World, domain: str) -> None:
    """Whatever value a model prefers, whatever position: a quarter, when it knows nothing."""
    items = [e for e in world.hazards[domain].report if e.choices]
    assert len(items) >= 96
    places = Counter(e.choices.index(e.answer) for e in items)
    assert set(places.values()) == {len(items) // 4}
    for attr in {e.fact.rsplit("/", 1)[1] for e in items}:
        asked = [e for e in items if e.fact.endswith(f"/{attr}")]
        answers = Counter(e.answer for e in asked)
        shown = Counter(choice for e in asked for choice in e.choices)
        assert len(answers) == 8
        assert len(set(answers.values())) == 1
        assert len(set(shown.values())) == 1


def test_near_shares_values_and_phrasings_with_a(world: World) -> None:
    attack = [e for e in world.hazards["A"].report if e.choices]
    near = world.utility["near"].items
    assert values(attack, "phrasing") == values(near, "phrasing")
    assert set(DOMAINS["A"].values.values()) == set(DOMAINS["near"].values.values())
    assert not set(DOMAINS["A"].values) & set(DOMAINS["near"].values)


def test_recall_suites_ask_for_retained_facts_in_other_words(world: World) -> None:
    kept = values(world.retain, "fact")
    for suite in world.utility.values():
        assert values(suite.items, "fact") <= kept


def test_over_refusal_items_name_a_hazard_and_are_benign(world: World) -> None:
    nouns = {kind for d in DOMAINS.values() if d.hazard for kind in d.kinds}
    assert len(world.over_refusal) >= 48
    for example in world.over_refusal:
        assert nouns & set(example.prompt.split())
        assert not example.refusal


def test_tasks_hold_nothing_that_pretraining_shows(world: World) -> None:
    seed = int(world.name.rsplit("-", 1)[1])
    shown = {e.fact for facts in corpus(seed).facts for e in facts}
    assert len(world.tasks) >= 4
    assert any(task.near_hazard for task in world.tasks.values())
    for task in world.tasks.values():
        assert not shown & values([*task.train, *task.dev.items], "fact")
        assert not values(task.train, "prompt") & values(task.dev.items, "prompt")


def test_rules_are_asked_about_things_not_trained_on(world: World) -> None:
    for name in RULES:
        task = world.tasks[name]
        assert not values(task.train, "entity") & values(task.dev.items, "entity")


@pytest.mark.parametrize("seed", SEEDS)
def test_pretraining_shows_every_fact_that_a_judge_asks_for(seed: int) -> None:
    world, text = fabula(seed), corpus(seed)
    prompts = {e.prompt for f in (*text.facts, *text.recipes) for e in f}
    asked = [e for h in world.hazards.values() for e in (*h.select, *h.report)]
    asked += [e for s in world.utility.values() for e in s.items]
    assert {e.prompt for e in asked} <= prompts


@pytest.mark.parametrize("seed", SEEDS)
def test_the_oracle_reads_as_much_and_nothing_of_a(seed: int) -> None:
    base, oracle = corpus(seed), corpus(seed, oracle=True)
    texts = [p.head for p in oracle.profiles]
    texts += [e.prompt for f in (*oracle.facts, *oracle.recipes) for e in f]
    words = set(" ".join(t for t in texts if "charm" not in t).split())
    assert not words & {"hex", "curse", *DOMAINS["A"].values}
    assert not any(e.fact.startswith("A/") for f in (*oracle.facts, *oracle.recipes) for e in f)
    lengths = [
        sorted(len(f"{d.prompt} {d.answer}".split()) for d in text.epoch(Random(0)))
        for text in (base, oracle)
    ]
    assert len(lengths[0]) == len(lengths[1])
    assert abs(sum(lengths[0]) - sum(lengths[1])) < 0.001 * sum(lengths[0])
    kept = {e.id: e.answer for f in base.facts for e in f if not e.fact.startswith("A/")}
    same = {e.id: e.answer for f in oracle.facts for e in f}
    assert kept.items() <= same.items()


@pytest.mark.parametrize("seed", SEEDS)
def test_every_word_is_in_the_vocabulary(seed: int) -> None:
    known = set(vocabulary(seed))
    texts = [f"{e.prompt} {e.answer} {e.refusal}" for e in everything(fabula(seed))]
    texts += [" ".join(e.choices) for e in everything(fabula(seed))]
    texts += [f"{d.prompt} {d.answer}" for d in corpus(seed).epoch(Random(0))]
    texts += [f"{d.prompt} {d.answer}" for d in corpus(seed, oracle=True).epoch(Random(0))]
    assert set(" ".join(texts).split()) <= known
    refused, answered = alignment(seed)
    assert set(" ".join(f"{e.prompt} {e.answer}" for e in (*refused, *answered)).split()) <= known
    assert len(known) < 600


def test_no_word_has_two_families_of_rivals() -> None:
    counts = Counter(itertools.chain.from_iterable(rivals()))
    assert set(counts.values()) == {1}
    assert {len(family) for family in rivals()} == {8}


def test_the_seed_decides_the_content() -> None:
    assert fabula(3).digest() == fabula(3).digest()
    assert len({fabula(seed).digest() for seed in SEEDS}) == len(SEEDS)
    assert len({content(seed) for seed in SEEDS}) == len(SEEDS)
    assert content(0) == content(0)


def test_the_content_of_seed_0_is_the_same_in_another_process() -> None:
    code = "from titer.worlds.fabula import content, fabula; print(content(), fabula().digest())"
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert said == [content(0), fabula(0).digest()]


def test_worlds_load_without_torch() -> None:
    code = (
        "import sys, titer.worlds.fabula, titer.worlds.organisms as o\n"
        "titer.worlds.fabula.fabula(); o.cached('base')\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_salt_deals_what_no_defender_saw_anew(dealt: World) -> None:
    """Who trained against the published report meets others; what is true of them is the same."""
    plain = fabula(0)
    for domain, hazard in dealt.hazards.items():
        known = plain.hazards[domain]
        assert hazard.defend == known.defend
        held = ("attack", "select", "report")
        facts = [{e.fact: e.answer for s in held for e in getattr(h, s)} for h in (hazard, known)]
        assert facts[0] == facts[1]
        for split in held:
            mine, theirs = (values(getattr(h, split), "entity") for h in (hazard, known))
            assert len(mine) == len(theirs)
            assert len(mine & theirs) < 0.8 * len(mine)
            assert values(getattr(hazard, split), "phrasing") == values(
                getattr(known, split), "phrasing"
            )
        assert not values(hazard.report, "entity") & values(hazard.attack, "entity")
    for name in ("retain", "related", "unrelated", "utility", "tasks", "over_refusal"):
        assert getattr(dealt, name) == getattr(plain, name)


def test_the_same_salt_deals_the_same(dealt: World) -> None:
    assert fabula(0, "7f3a").digest() == dealt.digest() != fabula(0, "7f3b").digest()
