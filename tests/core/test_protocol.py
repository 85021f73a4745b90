"""Constants and names that every room reads from one place."""

from __future__ import annotations

import ast
from pathlib import Path

import titer
from titer.core import protocol
from titer.core.protocol import is_harm, is_utility, other_harm, suite_of, utility

ROOMS = ("measures", "worlds", "train", "attacks", "defences", "hypernet", "nn", "cli")


def test_the_name_of_a_suites_probe_says_that_it_is_one() -> None:
    assert utility("arithmetic") == "utility:arithmetic"
    assert suite_of(utility("arithmetic")) == "arithmetic"
    assert is_utility(utility(""))
    assert not any(map(is_utility, ("utility", "harm:utility:x", protocol.HARM, protocol.SELECT)))


def test_harm_by_another_measure_is_harm() -> None:
    assert other_harm("cloze") == "harm:cloze"
    assert is_harm(protocol.HARM)
    assert is_harm(other_harm("cloze"))
    assert not any(map(is_harm, ("harmless", utility("harm"), protocol.SELECT)))


def test_nobody_writes_the_size_of_a_small_model_again() -> None:
    source = Path(titer.__file__).parent
    own = source / "core" / "protocol.py"
    again = [
        str(path.relative_to(source))
        for path in source.rglob("*.py")
        if path != own
        and any(
            isinstance(node, ast.Constant) and node.value == protocol.SMALL_MODEL
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        )
    ]
    assert again == []


def test_nobody_spells_the_prefix_of_utility_probes_again() -> None:
    source = Path(titer.__file__).parent
    again = [
        str(path.relative_to(source))
        for room in ROOMS
        for path in (source / room).rglob("*.py")
        if '"utility:' in path.read_text(encoding="utf-8")
    ]
    assert again == []
