"""Forged run folders are caught: by every reader, by `titer validate`, or by `titer verify`.

``docs/how-to/check-a-result.md`` says of each kind by which, and with what probability.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests import toy
from tests.conftest import Once
from tests.verify import forgeries
from tests.verify.forgeries import RUN_AGAIN, config, copied, edit, key_of, model_of, points, renew
from titer import bench
from titer.core.errors import BadInput
from titer.core.records import Trace
from titer.executors.inline import Inline
from titer.plan.experiment import sweep_score
from titer.plan.manifest import read_config
from titer.report.load import read_verdict
from titer.run.machine import machine
from titer.run.store import Store
from titer.verify.agreement import Again, compare
from titer.verify.findings import findings
from titer.verify.remake import Remade, agree, draw_models, make_again, makings
from titer.verify.rerun import recorded, rerun
from titer.verify.sample import draw

# The run folder is made once.
pytestmark = pytest.mark.xdist_group("exchange")

Forge = Callable[[Path], object]


@pytest.fixture(scope="module")
def made(once: Once) -> Path:
    """A whole run folder on a tiny model."""
    return once("toy-run", toy.run_folder) / "run"


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    """A copy to forge."""
    return Path(shutil.copytree(made, tmp_path / "forged"))


def _faults(root: Path) -> list[tuple[str, str]]:
    return [(one.check, one.says) for one in findings(root) if one.kind == "fault"]


def _every(trace: Trace) -> bool:
    return True


def _trains(trace: Trace) -> bool:
    return bool(trace.losses)


# -- refused by every reader -----------------------------------------------------------------------


def _scores(run: Path, probe: str, value: float, row: str = "S03") -> None:
    def change(found: Any) -> None:
        found[-1]["scores"][probe] = [value for _ in found[-1]["scores"][probe]]

    points(run, key_of(run, row, "npo"), change)


def _fewer_items(run: Path) -> None:
    """An item that the defence did not stand up to is left out of all its trials."""
    for entry in json.loads((run / "plan.json").read_text()):
        if entry["subject"] == "npo" and entry["role"] in ("adversary", "baseline", "check"):

            def fewer(found: Any) -> None:
                for look in found:
                    look["scores"]["harm"].pop() if "harm" in look["scores"] else None

            points(run, entry["key"], fewer)


def _company_of_another_model(run: Path) -> None:
    """Trials of npo that are run again on the model that heads their cohort: another one."""
    [key, *_] = copied(run, "oracle", "npo", lambda trace: trace.trial.row == "S03")
    forgeries.status(run, key, cohort=[key_of(run, "S03", "oracle"), key])


def _weights_of_another(run: Path) -> None:
    key = key_of(run, "none", "npo")
    forgeries.status(run, key, weights=Store(run).get(key_of(run, "none", "oracle")).weights)


def _other_question(run: Path) -> None:
    """A tenth of the budget, under the key of the whole."""
    path = run / "trials" / key_of(run, "S03", "npo") / "trial.json"
    edit(path, lambda trial: trial["attack"]["fields"].update(lr=1e-9))


REFUSED: dict[str, Forge] = {
    "scores below 0": lambda run: _scores(run, "harm", -5.0),
    "scores above 1": lambda run: _scores(run, "select", 5.0),
    "infinite scores": lambda run: _scores(run, "harm", math.inf),
    "scores that are no numbers": lambda run: _scores(run, "utility:river", math.nan),
    "a perplexity below 1": lambda run: points(
        run,
        key_of(run, "none", "npo"),
        lambda found: found[0]["scores"].update(perplexity=[0.1] * 6),
    ),
    "a chance that is no number": lambda run: config(
        run, lambda study: study.update(chance=math.nan)
    ),
    "a chance below 0": lambda run: config(run, lambda study: study.update(chance=-1.0)),
    "a suite's chance that is infinite": lambda run: config(
        run, lambda study: study["utility"].update(river=math.inf)
    ),
    "a seed that counts twice": lambda run: config(run, lambda study: study.update(seeds=[0, 0])),
    "items left out for one model": _fewer_items,
    "a company of another model": _company_of_another_model,
    "weights of another model": _weights_of_another,
    "another question": _other_question,
    "a cost below nothing": lambda run: edit(
        model_of(run, "npo") / "titer.json", lambda facts: facts["spent"].update(flops=-1.0)
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_no_run_writes_is_refused_in_one_sentence(run: Path, kind: str) -> None:
    REFUSED[kind](run)
    Store(run).write_sums()
    with pytest.raises(BadInput) as refused:
        read_verdict(run)
    [said] = refused.value.faults
    assert "\n" not in said
    assert said.endswith(".")


@pytest.mark.parametrize(
    "kind",
    [
        kind
        for kind in REFUSED
        if "chance" not in kind and "seed" not in kind and "cost" not in kind
    ],
)
def test_what_is_refused_has_faults(run: Path, kind: str) -> None:
    REFUSED[kind](run)
    Store(run).write_sums()
    assert _faults(run)


# -- found by `titer validate` ---------------------------------------------------------------------


def _all_of_the_oracle(run: Path) -> None:
    assert copied(run, "oracle", "npo", _every)


def _and_the_note_too(run: Path) -> None:
    """The model's own note renewed as well: only its weights are left to speak."""
    _all_of_the_oracle(run)
    weights = Store(run).get(key_of(run, "none", "oracle")).weights
    edit(model_of(run, "npo") / "titer.json", lambda facts: facts.update(weights=weights))
    for row in ("weights", "paths", "splits"):
        forgeries.status(run, key_of(run, row, "npo"), weights=weights)


def _attacks_of_the_oracle(run: Path) -> None:
    assert copied(run, "oracle", "npo", _trains)


def _another_model_before_the_attack(run: Path) -> None:
    """What another model knew before the attack stands at the first checkpoint of one trial."""

    def change(found: Any) -> None:
        scores = found[0]["scores"]
        scores["utility:river"] = [1.0 - score for score in scores["utility:river"]]

    points(run, key_of(run, "P02", "npo"), change)


def _weakest_rate_thrice(run: Path) -> None:
    """The results of one rate stand under another."""
    keys = [
        trace.trial.key
        for trace in Store(run).planned()
        if (trace.trial.subject, trace.trial.row) == ("npo", "M05")
    ]
    for name in ("generations.jsonl", "scores.jsonl", "status.json"):
        shutil.copy(run / "trials" / keys[0] / name, run / "trials" / keys[1] / name)


def _checkpoint_taken_away(run: Path) -> None:
    key = key_of(run, "P02", "npo")
    points(run, key, lambda found: found.pop(1))
    forgeries.said(run, key, lambda found: found.pop(1))


def _probe_taken_away(run: Path) -> None:
    key = key_of(run, "P02", "npo")
    points(run, key, lambda found: found[1]["scores"].pop("utility:river"))
    forgeries.said(run, key, lambda found: found[1]["records"].pop("utility:river"))


def _other_checkpoints(run: Path) -> None:
    forgeries.said(run, key_of(run, "P02", "npo"), lambda found: found[1].update(steps=2))


def _picked_seed(run: Path) -> None:
    """The luckiest of many seeds, as if it were the only one that was tried."""
    config(run, lambda study: study.update(seeds=[7]))


def _picked_seed_and_no_question(run: Path) -> None:
    _picked_seed(run)
    (run / "study.yaml").unlink()


def _model_left_out(run: Path) -> None:
    """The defence did badly, and was never there."""
    config(run, lambda study: study["subjects"].pop())
    plan = json.loads((run / "plan.json").read_text())
    for entry in plan:
        if entry["subject"] == "npo":
            shutil.rmtree(run / "trials" / entry["key"], ignore_errors=True)
    (run / "plan.json").write_text(json.dumps([e for e in plan if e["subject"] != "npo"], indent=1))


def _control_left_out(run: Path) -> None:
    """The suite has a known-broken control, which nobody has seen."""
    config(run, lambda study: study["suite_settings"].update(controls=["npo+permute"]))


def _larger_cap(run: Path) -> None:
    path = run / "study.yaml"
    path.write_text(path.read_text().replace("cap: 2", "cap: 300"))


def _another_defence(run: Path) -> None:
    """What was made by one defence is said to be made by another."""
    folder = model_of(run, "npo")
    edit(folder / "titer.json", lambda facts: facts["defence"][0]["fields"].update(lr=1e-9))


def _less_doubtful(run: Path) -> None:
    edit(model_of(run, "npo") / "titer.json", lambda facts: facts.update(flags=["oscillates"]))


def _breach_is_a_check(run: Path) -> None:
    key = key_of(run, "S03", "npo")

    def change(plan: Any) -> None:
        next(one for one in plan if one["key"] == key).update(role="check", check="S9")

    edit(run / "plan.json", change)


def _kinder_calibration(run: Path) -> None:
    edit(run / "calibration.json", lambda content: content["stars"].update({"full-adamw": 1e-9}))


FOUND: dict[str, tuple[Forge, str, str]] = {
    "all results of the oracle": (
        _all_of_the_oracle,
        "trial",
        "other weights from one to the next",
    ),
    "and the model's note renewed": (_and_the_note_too, "trial", "their files hold different ones"),
    "attacks of the oracle": (_attacks_of_the_oracle, "trial", "which trained otherwise"),
    "another model before the attack": (
        _another_model_before_the_attack,
        "trial",
        "before the attack",
    ),
    "one rate's results under another": (_weakest_rate_thrice, "trial", "which trained otherwise"),
    "a checkpoint taken away": (_checkpoint_taken_away, "trial", "lacks its checkpoint after 1"),
    "a probe taken away": (_probe_taken_away, "judge", "utility:river is missing"),
    "answers of other checkpoints": (_other_checkpoints, "judge", "of other checkpoints"),
    "a picked seed": (_picked_seed, "suite", "study.yaml asks for [0]"),
    "a picked seed without the question": (_picked_seed_and_no_question, "suite", "picks none"),
    "a model left out": (_model_left_out, "suite", "study.yaml asks for npo"),
    "a control left out": (_control_left_out, "suite", "npo+permute in every study"),
    "a larger cap": (_larger_cap, "suite", "study.yaml asks for 300"),
    "another defence": (_another_defence, "model", "is not what its titer.json says was made"),
    "doubts of its own": (_less_doubtful, "model", "something else than config.yaml"),
    "a breach that was a check": (_breach_is_a_check, "missing", "is for something else"),
    "rates of a kinder calibration": (_kinder_calibration, "result", "not what the trials give"),
}


@pytest.mark.parametrize("kind", FOUND)
def test_what_only_a_hand_can_have_done_is_a_fault(run: Path, kind: str) -> None:
    forge, check, says = FOUND[kind]
    forge(run)
    if forge is not _kinder_calibration:
        renew(run)
    Store(run).write_sums()
    found = _faults(run)
    assert any(one == check and says in text for one, text in found), found
    assert "hash" not in {one for one, _ in found}


@pytest.mark.slow
@pytest.mark.exact
def test_an_untouched_run_of_one_step_has_no_faults(tmp_path: Path) -> None:
    """All rates tie there, and the run and its validation must settle that alike."""
    model, data = toy.model_folder(tmp_path / "llama"), toy.data_folder(tmp_path / "data")
    bench(model, data=str(data), out=tmp_path / "run", cap=1, seeds=1, workers=1)
    scores = {
        sweep_score(one.trial, one.points)
        for one in Store(tmp_path / "run").planned()
        if (one.trial.role, one.trial.row) == ("rate", "full-adamw")
    }
    assert len(scores) == 1
    assert _faults(tmp_path / "run") == []


@pytest.mark.slow
def test_an_untouched_study_of_locks_has_no_faults(tmp_path: Path) -> None:
    """Locks come off, so that several models begin, and end, with the same weights."""
    model, data = toy.model_folder(tmp_path / "llama"), toy.data_folder(tmp_path / "data")
    out = tmp_path / "run"
    bench(model, suite="locks", data=str(data), out=out, cap=2, seeds=1, workers=1)
    assert _faults(out) == []


def test_an_untouched_run_has_no_faults(made: Path) -> None:
    assert _faults(made) == []


# -- found by `titer verify` -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def forged(made: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A folder with one forgery of each kind, and the trials that they are done to."""
    root = Path(shutil.copytree(made, tmp_path_factory.mktemp("again") / "run"))
    keys = {kind: key_of(root, row, "npo") for kind, (row, _) in RUN_AGAIN.items()}
    for kind, (_, forge) in RUN_AGAIN.items():
        forge(root, keys[kind])
    renew(root)
    return root, keys


@pytest.fixture(scope="module")
def again(
    forged: tuple[Path, dict[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Again]:
    """All of them run again, with those that trained beside them, which nobody forged."""
    root, keys = forged
    return rerun(root, sorted(keys.values()), tmp_path_factory.mktemp("scratch"), Inline())


@pytest.mark.parametrize("kind", RUN_AGAIN)
def test_what_does_not_come_again_differs(
    forged: tuple[Path, dict[str, str]], again: dict[str, Again], kind: str
) -> None:
    root, keys = forged
    found = compare(root, recorded(root), again, keys.values(), machine())
    [one] = [one for one in found.found if one.trial.key == keys[kind]]
    assert (one.verdict, found.agrees) == ("differs", False)
    honest = {one.verdict for one in found.found if one.trial.key not in keys.values()}
    assert honest == {"same"}


@pytest.mark.parametrize(
    "change",
    [
        {"arithmetic": "0" * 12},
        {"arithmetic": None},
        {"device": "cuda"},
        {"packages": {"torch": "1.0"}},
        {"titer": "0.0.1"},
    ],
)
def test_a_folders_word_on_its_machine_excuses_nothing(
    forged: tuple[Path, dict[str, str]], again: dict[str, Again], change: dict[str, Any]
) -> None:
    """Trials that come out to the bit say how the folder's machine computed, whatever it says."""
    root, keys = forged
    path = root / "env.json"
    whole = path.read_text()
    try:
        path.write_text(json.dumps(json.loads(whole) | change))
        found = compare(root, recorded(root), again, keys.values(), machine())
    finally:
        path.write_text(whole)
    assert "came out to the bit" in found.disproved
    assert found.other == ""
    differ = {one.trial.key for one in found.found if one.verdict == "differs"}
    assert differ == set(keys.values())


def test_what_is_drawn_and_does_not_come_back_differs(
    forged: tuple[Path, dict[str, str]], again: dict[str, Again]
) -> None:
    root, keys = forged
    left = {key: one for key, one in again.items() if key != keys["other weights"]}
    found = compare(root, recorded(root), left, keys.values(), machine())
    [one] = [one for one in found.found if one.trial.key == keys["other weights"]]
    assert (one.verdict, one.why) == ("differs", "it did not come back")


def _moved(trace: Trace, by: float, weights: str) -> Trace:
    """The same trial with 40 of 80 items right, and so many more at the end."""
    scores = tuple([1.0] * (40 + round(80 * by)) + [0.0] * (40 - round(80 * by)))
    before = tuple([1.0] * 40 + [0.0] * 40)
    looks = [
        replace(point, scores={"harm": scores if point.spent.steps else before})
        for point in trace.points
    ]
    return replace(trace, points=tuple(looks), weights=weights)


def test_what_rounding_moves_one_way_is_no_rounding(made: Path) -> None:
    """On another processor each trial may be off by an interval, but not all of them downwards."""
    own = [one for one in Store(made).planned() if one.trial.subject == "npo" and one.losses]
    base = {one.trial.key: _moved(one, 0.0, "there") for one in own}
    here = machine() | {"arithmetic": "of another processor"}
    signs = [0.0, 0.025, -0.025, 0.05, -0.05]
    for moves, agrees in (
        ([signs[n % 5] for n in range(len(own))], True),
        ([0.075 + signs[n % 3] for n in range(len(own))], False),
    ):
        now = {
            key: Again(trace=_moved(trace, by, "here"))
            for (key, trace), by in zip(base.items(), moves, strict=True)
        }
        found = compare(made, base, now, base, here)
        assert {one.verdict for one in found.found} <= {"same", "rounding"}
        assert found.agrees == agrees, found.together
        assert bool(found.together) != agrees
    assert "harm of npo is" in found.together[0]
    assert "lower on disk" in found.together[0]


# -- models that were made otherwise ---------------------------------------------------------------


def _made_again(run: Path, scratch: Path, *, elsewhere: bool = False) -> Remade:
    study = read_config(run).study
    [job] = makings(run, study, draw_models(run, study, 0.2, 1), scratch)
    failed = make_again([job], Inline())
    return agree(job, failed.get(job.subject.name, ""), elsewhere=elsewhere)


def _another_models_weights(run: Path) -> None:
    """The whole run is of a model that the defence never made: the weights of one that never
    learned lie in its folder, and all trials would come out again."""
    folder, other = model_of(run, "npo"), Path(_folder_of(run, "oracle"))
    shutil.copy(other / "model.safetensors", folder / "model.safetensors")
    edit(folder / "titer.json", lambda facts: facts.update(weights="0" * 16))


def _folder_of(run: Path, name: str) -> str:
    study = read_config(run).study
    return next(one.folder for one in study.subjects if one.name == name)


def _cheap(run: Path) -> None:
    """The defence cost a thousandth of what it did."""
    edit(model_of(run, "npo") / "titer.json", lambda facts: facts["spent"].update(flops=1e6))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("forge", "verdict", "why"),
    [
        (None, "same", ""),
        (_another_models_weights, "differs", "weights"),
        (_cheap, "differs", "spent"),
    ],
)
def test_a_model_is_what_its_defence_makes(
    run: Path, tmp_path: Path, forge: Forge | None, verdict: str, why: str
) -> None:
    if forge:
        forge(run)
    found = _made_again(run, tmp_path / "scratch")
    assert found.verdict == verdict
    assert why in found.why


@pytest.mark.slow
def test_elsewhere_a_model_made_again_behaves_alike(run: Path, tmp_path: Path) -> None:
    _cheap(run)
    assert _made_again(run, tmp_path / "scratch", elsewhere=True).verdict == "rounding"


def test_a_model_that_does_not_say_how_it_was_made_is_a_sentence(run: Path, tmp_path: Path) -> None:
    (model_of(run, "npo") / "titer.json").unlink()
    with pytest.raises(BadInput, match="does not say how it was made"):
        _made_again(run, tmp_path)


# -- with what probability -------------------------------------------------------------------------


def test_looks_at_the_models_as_released_are_always_run_again(made: Path) -> None:
    traces = recorded(made)
    drawn = draw(traces, 0.01, 3)
    looks = {one.trial.label for key, one in traces.items() if key in drawn.looks}
    assert looks == {"none", "weights", "splits"}
    assert len(drawn.drawn) == 1
    assert not set(drawn.looks) & set(drawn.drawn)


@pytest.mark.parametrize("share", [0.1, 0.2, 0.35, 1.0])
def test_a_trial_is_drawn_with_the_chance_that_is_said(made: Path, share: float) -> None:
    """As often as the sample says, and of several forged ones at least one as often as the docs."""
    traces = recorded(made)
    drawn = [set(draw(traces, share, seed).drawn) for seed in range(400)]
    said = draw(traces, share, 0)
    assert len(said.drawn) == math.ceil(share * said.total)
    assert said.chance >= 1 / math.ceil(1 / share)
    trained = [key for key in traces if key not in said.looks]
    for key in trained[:5]:
        often = sum(key in one for one in drawn) / len(drawn)
        assert often > said.chance - 0.08
    npo = [key for key in trained if traces[key].trial.subject == "npo"]
    row = [key for key in npo if traces[key].trial.row == "M05"]
    for forged in (npo, row, npo[::4], trained[::7]):
        caught = sum(bool(one & set(forged)) for one in drawn) / len(drawn)
        assert caught > 1 - (1 - said.chance) ** len(forged) - 0.08
    caught = sum(bool(one & set(npo)) for one in drawn) / len(drawn)
    assert caught == 1 or len(npo) < 2 / said.chance, "no model is passed over"


def test_the_part_is_drawn_by_the_seed_alone(made: Path) -> None:
    traces = recorded(made)
    back = dict(reversed(traces.items()))
    assert draw(traces, 0.2, 0) == draw(back, 0.2, 0)
    assert draw(traces, 0.2, 0) != draw(traces, 0.2, 1)
