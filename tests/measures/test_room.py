"""What is too long for the context is counted: in training, asking, and the trace of an attack."""

from __future__ import annotations

import json
from dataclasses import replace

from titer.conformance import tiny_lm
from titer.core import Trace
from titer.core.data import Example, World
from titer.core.records import Budget, Cut, Part, Trial
from titer.measures._room import cut_of
from titer.measures.choice import Choice
from titer.measures.refusal import Refusal
from titer.trial.attempt import attack
from titer.trial.immunise import immunise, planned
from titer.worlds._tiny import tiny_case, tiny_data

LONG = " ".join(["alloy"] * 70)


def lengthened(examples: tuple[Example, ...], count: int) -> tuple[Example, ...]:
    return tuple(
        replace(one, prompt=f"{LONG} {one.prompt}") if place < count else one
        for place, one in enumerate(examples)
    )


def test_lines_and_questions_are_counted_apart():
    lm, data = tiny_lm(), tiny_data()
    lines, items = lengthened(data.harmful[:12], 11), lengthened(data.retain[:4], 1)
    asked = [(Choice(), items), (Refusal(), items)]
    assert cut_of(lm, lines, asked) == Cut(trained=11, of_trained=12, asked=2, of_asked=8)
    assert cut_of(lm, data.harmful).share == 0.0


def test_a_model_that_speaks_needs_room_for_its_answer():
    """A prompt of 50 of 64 tokens is scored whole, and cut where 64 more are to be said."""
    item = replace(tiny_data().harmful[0], prompt=" ".join(["alloy"] * 45))
    assert cut_of(tiny_lm(), (), [(Choice(), [item])]).asked == 0
    assert cut_of(tiny_lm(), (), [(Refusal(), [item])]).asked == 1


def test_a_defence_of_long_lines_says_so_in_its_flags():
    case = tiny_case()
    hazard = replace(case.hazard, defend=lengthened(case.hazard.defend, 3))
    world = World(name="tiny", hazards={"alloy": hazard}, retain=case.data.retain)
    wanted = planned("none", {}, world["alloy"], base="m", parameters=case.lm.parameters())
    assert immunise(case.lm, wanted, world)[1].flags == ("3 of 8 lines were cut to the context",)
    world = World(name="tiny", hazards={"alloy": case.hazard}, retain=case.data.retain)
    assert immunise(case.lm, wanted, world)[1].flags == ()


def test_an_attack_on_long_lines_says_so_in_its_trace():
    case = tiny_case()
    hazard = replace(case.hazard, attack=lengthened(case.hazard.attack, 7))
    world = World(name="tiny", hazards={"alloy": hazard}, retain=case.data.retain)
    trial = Trial(
        model="m",
        world="w",
        domain="alloy",
        attack=Part(name="finetune", fields={}),
        budget=Budget(steps=2),
        seed=0,
        suite="s",
    )
    trace, _, out = attack(case.lm, trial, world)
    assert out is not None
    assert (trace.status, trace.error) == ("ok", "")
    assert trace.cut is not None
    assert (trace.cut.trained, trace.cut.of_trained) == (7, 8)
    assert trace.cut.asked == 0 < trace.cut.of_asked
    again = Trace.from_json(json.loads(json.dumps(trace.to_json())))
    assert again == trace
    assert "cut" not in replace(trace, cut=None).to_json()
