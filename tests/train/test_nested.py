"""A method that is a field of another, in every way it can be written."""

from __future__ import annotations

import json

import pytest

from titer.attacks.finetune import Finetune
from titer.core import catalogue
from titer.core.errors import BadInput, UnknownName
from titer.core.records import part
from titer.defences.ilu import ILU
from titer.defences.npo import NPO
from titer.train.environments import Environment
from titer.train.nested import nested


def test_a_name_a_preset_an_object_and_a_mapping() -> None:
    assert nested("defence", "npo") == NPO()
    assert nested("defence", "npo-testbed") == NPO(lr=5e-4)
    assert nested("defence", NPO(beta=0.5)) == NPO(beta=0.5)
    assert nested("defence", {"type": "NPO", "beta": 0.5}) == NPO(beta=0.5)
    assert nested("defence", {"type": "npo", "beta": "0.5"}) == NPO(beta=0.5)
    assert nested("attack", "S01") == Finetune(lr=2e-6)


def test_what_a_trial_writes_down_is_read_back() -> None:
    rows = (Environment(data="related", attack="adversary", adversary="S02"), Environment())
    method = ILU(base=NPO(lr=3e-4), environments=rows, penalty="v_rex")
    written = json.loads(json.dumps(part("ilu", method).fields))
    assert catalogue.build("defence", "ilu", written) == method
    assert written["base"]["type"] == "NPO"


def test_what_is_none_of_these_is_refused() -> None:
    with pytest.raises(UnknownName, match="npoo"):
        nested("defence", "npoo")
    with pytest.raises(BadInput, match="no defence has the type"):
        nested("defence", {"type": "Nothing"})
    with pytest.raises(BadInput, match="give a name, a preset or an object"):
        nested("defence", 3)
