"""lm-eval's results stand beside a study's utility and change nothing else."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from made_verdict import made
from tests.lm_eval_file import write

from titer.core.errors import BadInput
from titer.report import lm_eval, tables
from titer.report._beside import beside as grids

MODELS = [
    {"name": "base", "role": "undefended"},
    {"name": "npo", "role": "defended"},
    {"name": "rmu", "role": "defended"},
]
NAMES = [model["name"] for model in MODELS]


def _shown(root: Path) -> dict[tuple[str, str], dict[str, Any]]:
    return {(one["model"], one["metric"]): one for one in lm_eval.beside(root, MODELS)}


def test_metrics_come_with_their_errors(tmp_path: Path) -> None:
    content = lm_eval.read(write(tmp_path / "results.json"))
    acc, norm = content["results"]
    assert (acc["metric"], acc["value"], acc["stderr"], acc["n"]) == ("acc", 0.85, 0.0464, 60)
    assert (norm["metric"], norm["value"], norm["stderr"]) == ("acc_norm", 0.9, None)
    assert content["lm_eval"] == "0.4.13"
    assert "/home/me" not in json.dumps(content), "where it was measured is nobody's business"


def test_defended_and_undefended_stand_side_by_side(tmp_path: Path) -> None:
    before = write(tmp_path / "base.json")
    after = write(tmp_path / "npo.json", **{"acc,none": 0.75, "acc_stderr,none": 0.056})
    lm_eval.keep(tmp_path, NAMES, {"base": before, "npo": after})
    found = _shown(tmp_path)
    assert found["base", "acc"]["change"] is None
    change = found["npo", "acc"]["change"]
    assert change["value"] == pytest.approx(-0.10)
    half = 1.959964 * math.hypot(0.056, 0.0464)
    assert [change["low"], change["high"]] == pytest.approx([-0.10 - half, -0.10 + half])
    assert found["npo", "acc_norm"]["change"]["low"] is None, "no error, no interval"
    assert not [key for key in found if key[0] == "rmu"]


def test_all_right_is_no_certainty(tmp_path: Path) -> None:
    right = {"acc,none": 1.0, "acc_stderr,none": 0.0}
    files = {name: write(tmp_path / f"{name}.json", **right) for name in ("base", "npo")}
    lm_eval.keep(tmp_path, NAMES, files)
    found = _shown(tmp_path)["npo", "acc"]
    low = 60 / (60 + 1.959964**2)  # Wilson's lower end for 60 of 60
    assert [found["score"]["low"], found["score"]["high"]] == pytest.approx([low, 1.0])
    assert [found["change"]["low"], found["change"]["high"]] == pytest.approx([low - 1, 1 - low])


@pytest.mark.parametrize(
    "changed",
    [
        {"n-shot": {"fabula_far": 5}},
        {"versions": {"fabula_far": 2.0}},
        {"n-samples": {"fabula_far": {"original": 60, "effective": 30}}},
        {"chat_template_sha": "abc"},
    ],
)
def test_what_was_not_asked_alike_is_not_compared(tmp_path: Path, changed: dict[str, Any]) -> None:
    files = {"base": write(tmp_path / "b.json"), "npo": write(tmp_path / "n.json", **changed)}
    lm_eval.keep(tmp_path, NAMES, files)
    change = _shown(tmp_path)["npo", "acc"]["change"]
    assert change["value"] is None
    assert "not compared" in change["note"]


def test_it_is_shown_and_enters_no_number_of_ours(tmp_path: Path) -> None:
    lm_eval.keep(tmp_path, NAMES, {"npo": write(tmp_path / "npo.json")})
    bare = {**made(models=3), "lm_eval": []}
    verdict = {**bare, "lm_eval": lm_eval.beside(tmp_path, MODELS)}
    assert grids(bare) == []
    [grid] = grids(verdict)
    assert [head for head, _ in grid.heads] == ["fabula_far acc", "fabula_far acc_norm"]
    cells = {model["name"]: [one.value for one in row] for model, row in grid.rows}
    assert cells["npo"] == ["0.85", "0.90"]
    assert cells["base"] == ["—", "—"]
    told = tables.plain(verdict, 200)
    assert "lm-eval: npo: fabula_far acc: 0.85 [0.76, 0.94]." in told
    without = [line for line in told.splitlines() if not line.startswith("lm-eval:")]
    assert without == tables.plain(bare, 200).splitlines()


def _grouped(path: Path, **law: Any) -> Path:
    """Groups within a group as lm-eval 0.4 writes them: scores and versions at every level, aliases
    that are indented, shots, items and configurations of the tasks alone."""
    leaves = {"mmlu_law": 0.5, "mmlu_logic": 0.25, "mmlu_physics": 0.75}
    groups = {
        "mmlu": ["mmlu_humanities", "mmlu_stem"],
        "mmlu_humanities": ["mmlu_law", "mmlu_logic"],
        "mmlu_stem": ["mmlu_physics"],
    }

    def score(value: float, alias: str) -> dict[str, Any]:
        return {"alias": alias, "acc,none": value, "acc_stderr,none": 0.05}

    scores = {
        "mmlu": score(0.5, "mmlu"),
        "mmlu_humanities": score(0.375, " - humanities"),
        "mmlu_stem": score(0.75, " - stem"),
        **{name: score(value, f"  - {name}") for name, value in leaves.items()},
        "gsm8k": {
            "alias": "gsm8k",
            "exact_match,strict-match": 0.1,
            "exact_match_stderr,strict-match": 0.01,
            "exact_match,flexible-extract": 0.2,
            "exact_match_stderr,flexible-extract": "N/A",
        },
        "open": {"alias": "open", "bypass,none": 999},
        "arc": {" ": " ", "alias": "arc"},
    }
    tasks = [*leaves, "gsm8k", "open"]
    configs: dict[str, dict[str, Any]] = {
        name: {"task": name, "doc_to_text": f"<function text at {hex(id(scores))}>"}
        for name in tasks
    }
    configs["mmlu_law"] |= law
    content = {
        "results": scores,
        "groups": {name: scores[name] for name in groups},
        "group_subtasks": {**groups, **{name: [] for name in tasks}, "arc": ["gsm8k"]},
        "configs": configs,
        "versions": {**dict.fromkeys(groups, 2), **dict.fromkeys(tasks, 1.0)},
        "n-shot": dict.fromkeys(tasks, 0),
        "higher_is_better": {name: {"acc": True} for name in scores},
        "n-samples": {name: {"original": 200, "effective": 100} for name in tasks},
        "config": {"model": "hf", "limit": 100.0, "random_seed": 0},
    }
    path.write_text(json.dumps(content))
    return path


def test_groups_stand_for_their_tasks(tmp_path: Path) -> None:
    content = lm_eval.read(_grouped(tmp_path / "results.json"))
    found = {(one["task"], one["filter"]): one for one in content["results"]}
    assert len(found) == 8, "a task without metrics and a group without a score are none"
    assert [found[name, "none"]["n"] for name in ("mmlu", "mmlu_humanities", "mmlu_law")] == [
        300,
        200,
        100,
    ]
    assert found["mmlu_law", "none"]["group"] == found["mmlu_stem", "none"]["group"] == "mmlu"
    assert found["gsm8k", "strict-match"]["group"] == "", "its group has no score of its own"
    assert found["gsm8k", "flexible-extract"]["stderr"] is None
    lm_eval.keep(tmp_path, NAMES, {"npo": tmp_path / "results.json"})
    shown = [(one["task"], one["filter"]) for one in lm_eval.beside(tmp_path, MODELS)]
    assert shown == [("gsm8k", "flexible-extract"), ("gsm8k", "strict-match"), ("mmlu", "none")]


def test_a_group_is_compared_where_all_its_tasks_were_asked_alike(tmp_path: Path) -> None:
    """Functions whose address in memory is all that differs are the same."""
    same, base = _grouped(tmp_path / "same.json"), _grouped(tmp_path / "base.json")
    other = _grouped(tmp_path / "other.json", num_fewshot=5)
    lm_eval.keep(tmp_path, NAMES, {"base": base, "npo": same, "rmu": other})
    shown = {(one["model"], one["task"]): one for one in lm_eval.beside(tmp_path, MODELS)}
    assert shown["npo", "mmlu"]["change"]["value"] == 0
    assert shown["rmu", "mmlu"]["change"]["value"] is None
    assert shown["rmu", "gsm8k"]["change"]["value"] == 0


def test_a_group_within_itself_ends(tmp_path: Path) -> None:
    given = {"fabula_far": ["round"], "round": ["fabula_far"]}
    both = {name: {"acc,none": 0.5} for name in given}
    content = lm_eval.read(write(tmp_path / "x.json", group_subtasks=given, results=both))
    assert len(content["results"]) == 2


def test_what_lies_beside_the_file_says_where_it_is(tmp_path: Path) -> None:
    results = write(tmp_path / "results_2026-01-01.json")
    samples = tmp_path / "samples_fabula_far_2026-01-01.jsonl"
    samples.write_text('{"doc_id": 0}\n{"doc_id": 1}\n')
    with pytest.raises(BadInput, match=f"is a folder; give one of {results}"):
        lm_eval.read(tmp_path)
    with pytest.raises(BadInput, match="holds samples"):
        lm_eval.read(samples)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            '{"results": {"a": {"acc,none": 1' + "0" * 400 + '}}, "versions": {}, "n-shot": {}}',
            "no",
        ),
        ('{"results": {"a": {"acc": 0.5, "acc_stderr": 0.1}}, "versions": {}}', "no results file"),
        ("{", "not JSON"),
        ("[]", "no results file"),
        ('{"results": {"a": {"acc,none": 1}}}', "no results file"),
        ('{"results": {}, "versions": {}, "n-shot": {}}', "no metric"),
        ('{"results": {"a": {"acc,none": NaN}}, "versions": {}, "n-shot": {}}', "no metric"),
        ('{"results": {"a": {"acc,none": true}}, "versions": {}, "n-shot": {}}', "no metric"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(BadInput, match=said):
        lm_eval.read(tmp_path / "x.json")


def test_all_faults_at_once_and_nothing_is_written(tmp_path: Path) -> None:
    good = write(tmp_path / "good.json")
    given = {"npo": good, "nppo": good, "base": tmp_path / "missing.json"}
    with pytest.raises(BadInput) as caught:
        lm_eval.keep(tmp_path / "run", NAMES, given)
    assert len(caught.value.faults) == 2
    assert "Did you mean 'npo'" in str(caught.value)
    assert not (tmp_path / "run").exists()
