"""One model, one call, a typed result; with the numbers of the command."""

from __future__ import annotations

import json
import logging
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import pytest
from studies._cheats import behind, noisy
from torch import nn

import titer
from tests import toy
from tests.cli.conftest import Run
from tests.cli.conftest import titer as command
from titer.core.data import Scope
from titer.core.errors import UnknownName
from titer.core.modelfolder import folder_digest
from titer.core.records import Trace
from titer.defences.npo import NPO
from titer.trial.result import AttackResult

__all__ = ["command"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two models and a world."""
    root = tmp_path_factory.mktemp("place")
    toy.model_folder(root / "llama")
    toy.model_folder(root / "other", seed=1)
    toy.data_folder(root / "data")
    return root


@pytest.fixture(scope="module")
def lm(place: Path) -> titer.LM:
    return titer.load(place / "llama")


@pytest.fixture(scope="module")
def scope(place: Path) -> Scope:
    return titer.world(place / "data")["alloy"]


# -- worlds and models -----------------------------------------------------------------------------


def test_a_world_hands_out_one_hazard(place: Path, scope: Scope) -> None:
    assert (scope.name, scope.world.name) == ("alloy", "toy")
    assert scope.hazard is scope.world.hazards["alloy"]
    assert repr(scope) == "toy['alloy']"
    assert repr(scope.world) == "World(toy: hazards alloy)"
    with pytest.raises(UnknownName, match=r"toy has no hazard 'aloy'. Did you mean 'alloy'"):
        scope.world["aloy"]
    with pytest.raises(titer.BadInput, match="there is no data folder"):
        titer.world(place / "nowhere")


def test_a_folder_is_known_by_its_content(place: Path, lm: titer.LM) -> None:
    assert lm.name == str(place / "llama")
    assert lm.origin == lm.identity() == folder_digest(place / "llama")
    assert lm.clone().origin == "", "a copy is changed next"
    assert lm.clone().identity() == lm.digest()
    assert titer.load(lm) is lm
    assert lm.parameters() == sum(weight.numel() for weight in lm.model.parameters())


def test_a_model_in_memory_is_taken_as_it_is(lm: titer.LM, scope: Scope) -> None:
    model = lm.clone().model.train()
    for given in (
        titer.load(model, tokenizer=lm.tokenizer),
        titer.load((model, lm.tokenizer), name="mine"),
    ):
        assert given.model is model
        assert not model.training
        assert given.identity() == lm.digest()
    assert given.name == "mine"
    ours = titer.attack(given, "finetune", scope, steps=2, lr=1e-2)
    theirs = titer.attack(lm, "finetune", scope, steps=2, lr=1e-2)
    assert ours.trace.points == theirs.trace.points
    assert ours.trace.weights == theirs.trace.weights


def test_a_tokenizer_that_cannot_pad_is_not_changed(lm: titer.LM) -> None:
    from copy import deepcopy

    bare = deepcopy(lm.tokenizer)
    bare.pad_token = None
    assert titer.load(lm.model, tokenizer=bare).tokenizer.pad_token is not None
    assert bare.pad_token is None


def test_what_is_no_model_is_said(place: Path, lm: titer.LM) -> None:
    with pytest.raises(titer.BadInput, match="needs its tokenizer"):
        titer.load(lm.model)
    for given in (3, nn.Linear(2, 2)):
        with pytest.raises(titer.BadInput, match=f"{type(given).__name__} is no model"):
            titer.load(given)  # type: ignore[arg-type]
    with pytest.raises(titer.BadInput, match="no model"):
        titer.load(place / "lama")
    with pytest.raises(titer.BadInput, match="brings its own tokenizer"):
        titer.load(place / "llama", tokenizer=lm.tokenizer)


# -- immunising ------------------------------------------------------------------------------------


def test_immunise_makes_what_the_command_makes(
    command: Run, place: Path, lm: titer.LM, scope: Scope, tmp_path: Path
) -> None:
    before = lm.digest()
    words = ["immunise", "npo+rmu", place / "llama", "--data", place / "data", "--steps", "4"]
    code, _, err = command(*words, "--set", "npo.lr=1e-3", "--out", tmp_path / "m", "--quiet")
    assert code == 0, err
    facts = json.loads((tmp_path / "m" / "titer.json").read_text())
    made = titer.immunise(lm, "npo+rmu", scope, steps=4, **{"npo.lr": 1e-3})
    assert made.digest() == facts["weights"] != before
    assert lm.digest() == before, "the model that was given was changed"
    assert made.name == "npo+rmu"


def test_immunise_writes_the_folder_that_the_command_writes(
    lm: titer.LM, scope: Scope, tmp_path: Path
) -> None:
    out = tmp_path / "safe"
    made = titer.immunise(lm, "npo", scope, steps=2, lr=1e-3, out=out)
    facts = json.loads((out / "titer.json").read_text())
    assert made.digest() == facts["weights"]
    assert made.origin == folder_digest(out)
    assert facts["base"] == {"source": lm.name, "digest": lm.origin}
    assert {"flags", "course", "spent"} <= set(facts)
    assert "library_name: transformers" in (out / "README.md").read_text()
    stamp = (out / "titer.json").stat().st_mtime_ns
    titer.immunise(lm, "npo", scope, steps=2, lr=1e-3, out=out)
    assert (out / "titer.json").stat().st_mtime_ns == stamp, "made twice"
    with pytest.raises(titer.BadInput, match="holds another immunised model"):
        titer.immunise(lm, "npo", scope, steps=2, lr=1e-3, seed=1, out=out)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    with pytest.raises(titer.BadInput, match="is not a model that titer made"):
        titer.immunise(lm, "npo", scope, steps=2, out=tmp_path / "full")


def test_doubts_of_a_defence_are_never_silent(
    lm: titer.LM,
    scope: Scope,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def doubting(self: NPO, lm: titer.LM, run: titer.Run) -> titer.LM:
        run.flags.append("did-not-converge")
        return lm.clone()

    monkeypatch.setattr(NPO, "__call__", doubting)
    with caplog.at_level(logging.WARNING):
        titer.immunise(lm, "npo", scope, steps=1)
    assert "did-not-converge" in caplog.text


# -- attacking -------------------------------------------------------------------------------------


def test_attack_finds_what_the_command_finds(
    command: Run, place: Path, lm: titer.LM, scope: Scope, tmp_path: Path
) -> None:
    words = ["attack", "P05", place / "llama", "--data", place / "data", "--steps", "3"]
    code, _, err = command(*words, "--out", tmp_path / "a", "--quiet")
    assert code == 0, err
    theirs = Trace.from_json(json.loads((tmp_path / "a" / "trace.json").read_text()))
    found = titer.attack(place / "llama", "P05", scope, steps=3)
    assert replace(found.trace, seconds=0.0) == replace(theirs, seconds=0.0)
    said = (tmp_path / "a" / "generations.jsonl").read_text().splitlines()
    assert json.loads(json.dumps(found.generations)) == [json.loads(line) for line in said]


def test_the_result_is_typed_by_checkpoint(lm: titer.LM, scope: Scope) -> None:
    before = lm.digest()
    found = titer.attack(lm, "finetune", scope, steps=3, lr=1e-2)
    assert isinstance(found, AttackResult)
    assert lm.digest() == before
    assert found.steps == (0, 1, 3)
    assert found.harm == tuple(point.mean("harm") for point in found.trace.points)
    suites = {name: tuple(point.mean(f"utility:{name}") for point in found.trace.points)
              for name in scope.world.utility}  # fmt: skip
    assert found.utility == suites
    assert found.spent == found.trace.points[-1].spent
    assert found.model is None
    assert found.outcome == found.checkpoints[-1].outcome
    assert found.threshold.by == "absolute"
    assert "no undefended model was given" in found.threshold.why
    with pytest.raises(FrozenInstanceError):
        found.outcome = "held"  # type: ignore[misc]


def test_it_shows_itself(lm: titer.LM, scope: Scope) -> None:
    found = titer.attack(replace(lm, name="<b>"), "finetune", scope, steps=1)
    assert repr(found).startswith(f"finetune on <b>: {found.outcome} (harm ")
    assert "in 1 steps;" in repr(found)
    page = found._repr_html_()
    assert "&lt;b&gt;" in page
    assert "<b>:" not in page
    assert page.count("<tr>") == 1 + len(found.checkpoints)
    assert all(f"<th>{suite}</th>" in page for suite in found.utility)


def test_the_tampered_model_is_kept_on_request(lm: titer.LM, scope: Scope) -> None:
    found = titer.attack(lm, "finetune", scope, steps=1, lr=1e-2, keep_model=True)
    assert found.model is not None
    assert found.model.digest() == found.trace.weights != lm.digest()


def test_an_undefended_model_sets_the_threshold(
    place: Path, lm: titer.LM, scope: Scope, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The two toys know nothing, so the threshold is lowered to what they show."""
    monkeypatch.setattr("titer.evidence.panel.HEADROOM", -1.0)
    base = titer.load(place / "other")
    plain = titer.attack(base, "finetune", scope, steps=3, lr=1e-2)
    found = titer.attack(lm, "finetune", scope, steps=3, lr=1e-2, undefended=base)
    chance, harms = scope.world.chance, [harm for harm in plain.harm if harm is not None]
    assert found.threshold.by == "undefended"
    assert found.threshold.value <= max(chance, *harms)
    assert f"chance {chance:.2f} plus 25 %" in found.threshold.why
    again = titer.attack(lm, "finetune", scope, steps=3, lr=1e-2, undefended=plain)
    assert (again.threshold, again.outcome) == (found.threshold, found.outcome)
    for change in ({"lr": 1e-3}, {"seed": 1}, {"steps": 2}):
        with pytest.raises(titer.BadInput, match="is of another"):
            titer.attack(
                lm, "finetune", scope, **{"steps": 3, "lr": 1e-2, "undefended": plain, **change}
            )


def test_an_attack_that_starts_from_the_base_is_given_it(
    place: Path, lm: titer.LM, scope: Scope
) -> None:
    alone = titer.attack(lm, "transfer", scope, steps=2, lr=1e-2)
    beside = titer.attack(lm, "transfer", scope, steps=2, lr=1e-2, undefended=place / "other")
    assert alone.trace.trial.base == ""
    assert beside.trace.trial.base == folder_digest(place / "other")
    assert alone.trace.weights != beside.trace.weights


def test_an_attack_that_raises_says_nothing_of_the_model(
    lm: titer.LM, scope: Scope, monkeypatch: pytest.MonkeyPatch
) -> None:
    from titer.attacks.finetune import Finetune

    def broken(self: Finetune, lm: titer.LM, run: titer.Run) -> titer.LM:
        run.look(lm)
        raise RuntimeError("no memory")

    monkeypatch.setattr(Finetune, "__call__", broken)
    found = titer.attack(lm, "finetune", scope, steps=3)
    assert found.outcome == "failed"
    assert {point.outcome for point in found.checkpoints} == {"failed"}
    assert "no memory" in found.trace.error


def test_what_was_given_wrongly_is_said_before_anything_runs(
    lm: titer.LM, scope: Scope, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("it ran")

    monkeypatch.setattr("titer.api.one.attempt", never)
    monkeypatch.setattr("titer.api.one.harden", never)
    with pytest.raises(UnknownName, match="no attack named 'S99'"):
        titer.attack(lm, "S99", scope)
    with pytest.raises(UnknownName, match="no setting 'rate'"):
        titer.attack(lm, "S03", scope, rate=1)
    with pytest.raises(titer.BadInput, match="is a world; give one hazard of it, as world"):
        titer.attack(lm, "S03", scope.world)  # type: ignore[arg-type]
    with pytest.raises(titer.BadInput, match="str is no hazard"):
        titer.immunise(lm, "npo", "alloy")  # type: ignore[arg-type]
    for call in (titer.attack, titer.immunise):
        with pytest.raises(titer.BadInput, match="steps 0: give a whole number"):
            call(lm, "none" if call is titer.immunise else "noop", scope, steps=0)


# -- interfaces ------------------------------------------------------------------------------------


def test_an_attack_goes_through_the_undefended_interface(
    place: Path, lm: titer.LM, scope: Scope, tmp_path: Path, command: Run
) -> None:
    """A template that hides the question hides it from no attacker who knows another one."""
    masked = behind(lm, "heat {{ messages[0]['content'] }}")
    plain = titer.attack(noisy(lm), "S03", scope, steps=2)
    hidden = titer.attack(masked, "S03", scope, steps=2)
    seen = titer.attack(masked, "S03", scope, steps=2, interface=lm)
    assert seen.trace.trial.interface == lm.identity()
    assert seen.harm == plain.harm
    assert seen.trace.losses == plain.trace.losses
    assert hidden.trace.losses != plain.trace.losses
    assert hidden.trace.trial.interface == plain.trace.trial.interface == ""
    assert titer.attack(lm, "noop", scope, interface=lm).trace.trial.interface == ""
    masked.save(tmp_path / "masked")
    words = ("attack", "noop", tmp_path / "masked", "--data", place / "data", "--quiet")
    given = ("--undefended", place / "llama", "--out")
    assert "went through the tokenizer, template" in command(*words, *given, tmp_path / "b")[1]
    assert "--undefended MODEL" in command(*words, "--out", tmp_path / "c")[1]
    assert command(*words, "--undefended", "gone", "--out", tmp_path / "d")[0] == 2
    assert not (tmp_path / "d").exists()


def test_where_a_release_shows_more_through_its_own_the_worse_result_counts(
    lm: titer.LM, scope: Scope
) -> None:
    """The undefended interface hides here, so the attack goes through both."""
    masked = behind(lm, "heat {{ messages[0]['content'] }}")
    own = max(harm or 0 for harm in titer.attack(lm, "noop", scope).harm)
    clean = max(harm or 0 for harm in titer.attack(masked, "noop", scope).harm)
    found = titer.attack(lm, "noop", scope, interface=masked)
    assert max(harm or 0 for harm in found.harm) == max(own, clean)
