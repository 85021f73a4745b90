"""Settings of a method inside another are named with its field before them."""

from __future__ import annotations

import pytest

from titer.core import catalogue
from titer.core.errors import BadInput, TiterError, UnknownName
from titer.trial.immunise import parse_defence


def test_a_setting_reaches_the_method_inside() -> None:
    (part,) = parse_defence("ilu", {"base.batch_size": "4", "base.lr": "1e-3", "weight": "2"})
    assert part.fields["base"]["batch_size"] == 4
    assert part.fields["base"]["lr"] == 1e-3
    assert part.fields["weight"] == 2.0
    (other,) = parse_defence("sam", {"base": "simnpo", "base.delta": "1"})
    assert (other.fields["base"]["type"], other.fields["base"]["delta"]) == ("SimNPO", 1.0)
    assert parse_defence("ilu", {"base.lr": "1e-5"}) == parse_defence("ilu", {}), "its default"


def test_it_does_in_a_chain_with_its_stage() -> None:
    ilu, _ = parse_defence("ilu+rmu", {"ilu.base.batch_size": "4"})
    assert ilu.fields["base"]["batch_size"] == 4
    assert parse_defence("npo", {"npo.beta": "0.5"})[0].fields["beta"] == 0.5


@pytest.mark.parametrize(
    ("text", "key", "value", "kind", "said"),
    [
        ("ilu", "batch_size", "4", UnknownName, "has one: base.batch_size"),
        ("ilu", "base.batch", "4", UnknownName, "ilu.base has no setting 'batch'"),
        ("ilu", "weight.lr", "4", UnknownName, "a method is in base"),
        ("npo", "base.lr", "4", UnknownName, "none of its fields does"),
        ("ilu", "base.batch_size", "many", BadInput, "ilu.base: batch_size='many'"),
        ("ilu", "base.batch_size", "0", BadInput, "must be positive"),
        ("ilu+rmu", "base.lr", "1", UnknownName, "no stage 'base'"),
        ("ilu+rmu", "lr", "1", BadInput, "say which stage"),
    ],
)
def test_what_is_not_there_is_told_with_what_is(
    text: str, key: str, value: str, kind: type[TiterError], said: str
) -> None:
    with pytest.raises(kind, match=said):
        parse_defence(text, {key: value})


def test_a_class_of_settings_that_is_no_method_takes_none() -> None:
    with pytest.raises(UnknownName, match="holds no method"):
        catalogue.build("defence", "ilu", {"environments.x": 1})
