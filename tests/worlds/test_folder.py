"""The user's own data: what is read, and one sentence with its place for all that is wrong."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from titer.core import catalogue
from titer.core.errors import BadInput
from titer.trial.probes import probes, task_probes
from titer.worlds.folder import load

pytestmark = pytest.mark.exact

MANIFEST = """\
name: mine
harm: {measure: choice, chance: 0.5, also: [cloze]}
hazards:
  locks: {defend: defend.jsonl, attack: attack.jsonl, select: select.jsonl, report: report.jsonl}
retain: keep.jsonl
environments:
  near: {file: near.jsonl, near_hazard: true}
  far: far.jsonl
utility:
  towns: {file: towns.jsonl, measure: choice, chance: 0.5}
tasks:
  sums: {train: sums.jsonl, dev: sums_dev.jsonl, measure: cloze}
over_refusal: safe.jsonl
references: {undefended: ../base, oracle: "owner/name@main"}
"""
FILES = ("defend", "attack", "select", "report", "keep", "near", "far", "towns", "sums", "sums_dev")


def rows(name: str, count: int = 2) -> list[dict[str, Any]]:
    return [
        {
            "id": f"{name}-{n}",
            "prompt": f"what opens {name} {n}",
            "answer": "wax",
            "choices": ["wax", "tin"],
            "fact": f"{name}-{n}",
            "entity": f"{name}-{n}",
        }
        for n in range(count)
    ]


def put(path: Path, lines: list[Any]) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data folder with nothing wrong."""
    at = tmp_path / "data"
    at.mkdir()
    for name in FILES:
        put(at / f"{name}.jsonl", rows(name))
    put(at / "safe.jsonl", [{"prompt": "how do I kill a process"}])
    (at / "data.yaml").write_text(MANIFEST, encoding="utf-8")
    return at


def faults(folder: Path) -> tuple[str, ...]:
    with pytest.raises(BadInput) as caught:
        load(folder)
    assert all(fault.endswith((".", "?")) and "\n" not in fault for fault in caught.value.faults)
    return caught.value.faults


def edit(folder: Path, old: str, new: str) -> None:
    text = (folder / "data.yaml").read_text(encoding="utf-8")
    assert old in text
    (folder / "data.yaml").write_text(text.replace(old, new), encoding="utf-8")


def test_every_role_is_filled(folder):
    world = load(folder)
    hazard = world.hazards["locks"]
    assert [item.id for item in hazard.attack] == ["attack-0", "attack-1"]
    assert hazard.report[0].choices == ("wax", "tin")
    assert [item.id for item in world.related] == ["near-0", "near-1"]
    assert [item.id for item in world.unrelated] == ["far-0", "far-1"]
    assert world.retain[0].entity == "keep-0"
    assert (world.harm, world.chance, world.also) == ("choice", 0.5, ("cloze",))
    assert world.tasks["sums"].dev.measure == "cloze"
    assert world.utility["towns"].chance == 0.5
    assert (world.over_refusal[0].id, world.over_refusal[0].answer) == ("safe.jsonl:1", "")
    assert world.references == {"undefended": "../base", "oracle": "owner/name@main"}


def test_the_digest_is_of_the_content_and_not_of_the_place(folder, tmp_path):
    before = load(folder).digest()
    moved = folder.rename(tmp_path / "elsewhere")
    assert load(moved).digest() == before
    put(moved / "keep.jsonl", rows("keep", 3))
    assert load(moved).digest() != before


def test_a_hazard_may_come_without_a_defenders_split(folder):
    edit(folder, "defend: defend.jsonl, ", "")
    assert load(folder).hazards["locks"].defend == ()


def test_files_written_for_others_are_read_by_a_map_of_fields(folder):
    lines = [{"question": f"{n} + 1 =", "answer": str(n + 1), "source": 7} for n in range(5)]
    put(folder / "far.jsonl", lines)
    fields = "{prompt: question, answer: answer}"
    edit(folder, "far: far.jsonl", f"far: {{file: far.jsonl, fields: {fields}, limit: 3}}")
    world = load(folder)
    assert [item.prompt for item in world.unrelated] == ["0 + 1 =", "1 + 1 =", "2 + 1 ="]
    assert world.unrelated[0].id == "far.jsonl:1"


def test_several_files_may_fill_a_role_and_one_file_two_benign_roles(folder):
    edit(folder, "retain: keep.jsonl", "retain: [keep.jsonl, far.jsonl]")
    world = load(folder)
    assert [item.id for item in world.retain] == ["keep-0", "keep-1", "far-0", "far-1"]


def test_a_byte_order_mark_blank_lines_and_windows_line_ends_do_no_harm(folder):
    text = (folder / "keep.jsonl").read_text().replace("\n", "\r\n\r\n")
    (folder / "keep.jsonl").write_text("\ufeff" + text, encoding="utf-8", newline="")
    assert len(load(folder).retain) == 2


LINES: list[tuple[str, str, str]] = [
    ("{", "not valid JSON", "invalid JSON"),
    ("[1]", "a list, not an object", "a list"),
    ('"text"', "a string, not an object", "a string"),
    ('{"promt": "p", "answer": "a"}', "unknown key 'promt'. Did you mean 'prompt'?", "slip"),
    ('{"answer": "a"}', "no key 'prompt'", "no prompt"),
    ('{"prompt": "p"}', "no key 'answer'", "no answer"),
    ('{"prompt": "p", "answer": "a", "prompt": "q"}', "'prompt' stands twice", "twice"),
    ('{"prompt": 3, "answer": "a"}', "'prompt' must be a string, not a number", "number"),
    ('{"prompt": "p", "answer": null}', "'answer' must be a string, not null", "null"),
    ('{"prompt": " ", "answer": "a"}', "'prompt' is empty", "empty prompt"),
    ('{"prompt": "p", "answer": ""}', "'answer' is empty", "empty answer"),
    ('{"prompt": "p", "answer": "a", "choices": "ab"}', "a list of strings", "choices"),
    ('{"prompt": "p", "answer": "a", "choices": ["a", 1]}', "a list of strings", "mixed"),
    ('{"prompt": "p", "answer": "a", "choices": ["a"]}', "two or more", "one choice"),
    ('{"prompt": "p", "answer": "a", "choices": ["a", "a"]}', "different", "same choices"),
    ('{"prompt": "p", "answer": "wx", "choices": ["wax", "tin"]}',
     "'wx' is not among its choices. Did you mean 'wax'?", "no such choice"),
    ('{"prompt": "\\ud800", "answer": "a"}', "half a character", "surrogate"),
    ('{"prompt": ' + "9" * 5000 + ', "answer": "a"}', "not valid JSON", "huge number"),
    ("[" * 100_000, "not valid JSON", "deep"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("line", "said"), [case[:2] for case in LINES], ids=[case[2] for case in LINES]
)
def test_a_bad_line_is_named_with_its_file_and_number(folder, line, said):
    good = json.dumps(rows("keep")[0])
    (folder / "keep.jsonl").write_text(f"{good}\n\n{line}\n", encoding="utf-8")
    (fault,) = faults(folder)
    assert fault.startswith("keep.jsonl, line 3: ")
    assert said in fault


def test_bytes_that_are_no_text_are_named(folder):
    (folder / "keep.jsonl").write_bytes(b'{"prompt": "\xff", "answer": "a"}\n')
    (said,) = faults(folder)
    assert said.startswith("keep.jsonl, line 1: it is not UTF-8")


def test_a_line_without_end_is_not_read_to_its_end(folder):
    (folder / "keep.jsonl").write_bytes(b'{"prompt": "' + b"x" * 2_000_000)
    assert "longer than" in faults(folder)[0]


@pytest.mark.parametrize("content", ["", "\n \n"])
def test_an_empty_file_is_named(folder, content):
    (folder / "attack.jsonl").write_text(content)
    assert "attack.jsonl is empty; give it at least one line." in faults(folder)


def test_a_repeated_id_is_named_with_both_places(folder):
    put(folder / "keep.jsonl", [*rows("keep"), {"id": "far-1", "prompt": "p", "answer": "a"}])
    (fault,) = faults(folder)
    assert fault.startswith("keep.jsonl, line 3: the id 'far-1' was used at far.jsonl, line 2;")


def test_what_a_measure_needs_is_asked_of_each_line_it_judges(folder):
    put(folder / "towns.jsonl", [{"prompt": "p", "answer": "a"}])
    (fault,) = faults(folder)
    assert fault == (
        "towns.jsonl, line 1: it has no key 'choices', which the measure choice needs."
    )


def test_a_report_split_that_the_harm_measure_cannot_judge_is_named(folder):
    put(folder / "report.jsonl", [{"prompt": "p", "answer": "a"}])
    assert "hazards.locks.report has no line with 'choices'" in faults(folder)[0]


@pytest.mark.parametrize("what", ["id", "fact", "entity", "text"])
def test_splits_that_overlap_are_named_with_their_lines(folder, what):
    report, attack = rows("report"), rows("attack")
    if what == "text":
        report[1]["prompt"] = f"  {attack[0]['prompt'].upper()} "
    else:
        report[1][what] = attack[0][what]
    put(folder / "report.jsonl", report)
    (fault,) = faults(folder)
    assert fault.startswith("hazards.locks: attack and report overlap: ")
    assert "attack.jsonl, line 1 and report.jsonl, line 2 share the " + what in fault


def test_one_file_for_two_splits_overlaps_with_itself(folder):
    edit(folder, "report: report.jsonl", "report: attack.jsonl")
    assert any("attack and report overlap" in fault for fault in faults(folder))


@pytest.mark.parametrize(
    ("trained", "judged", "said"),
    [
        ("sums", "sums_dev", "tasks.sums.train trains on what tasks.sums.dev asks"),
        ("keep", "towns", "retain trains on what utility.towns asks"),
        ("far", "report", "environments.far trains on what hazards.locks.report asks"),
    ],
)
def test_what_is_judged_is_not_trained_on(folder, trained, judged, said):
    lines = rows(trained)
    lines[0]["prompt"] = rows(judged)[1]["prompt"]
    put(folder / f"{trained}.jsonl", lines)
    (fault,) = faults(folder)
    assert fault == f"{said}: {trained}.jsonl, line 1 is {judged}.jsonl, line 2."


def test_all_faults_are_told_at_once_but_not_without_end(folder):
    (folder / "attack.jsonl").write_text("{\n" * 500)
    (folder / "keep.jsonl").write_text("")
    edit(folder, "also: [cloze]", "also: [clozee]")
    found = faults(folder)
    assert sum(fault.startswith("attack.jsonl, line") for fault in found) == 20
    assert "attack.jsonl has 480 further faults of such kinds." in found
    assert any("keep.jsonl is empty" in fault for fault in found)
    assert any("names no measure: 'clozee'. Did you mean 'cloze'?" in fault for fault in found)


def test_lines_are_checked_even_where_the_manifest_is_wrong(folder):
    edit(folder, "attack:", "atack:")
    (folder / "towns.jsonl").write_text("{\n")
    (folder / "attack.jsonl").write_text("[]\n")
    found = faults(folder)
    assert any("no key 'atack'" in fault for fault in found)
    assert any(fault.startswith("towns.jsonl, line 1: it is not valid JSON") for fault in found)
    assert "attack.jsonl, line 1: it holds a list, not an object." in found


YAML: list[tuple[str, str, str]] = [
    ("attack:", "atack:", "hazards.locks has no key 'atack'. Did you mean 'attack'?"),
    ("retain:", "retan:", "the file has no key 'retan'. Did you mean 'retain'?"),
    ("name: mine\n", "", "the file needs the key 'name'"),
    ("name: mine", "name: ../mine", "name is '../mine'"),
    ("name: mine", "name: mine\nname: other", "line 2: not plain YAML (the key 'name' stands"),
    ("chance: 0.5, also", "chance: half, also", "harm.chance is 'half'"),
    ("chance: 0.5, also", "chance: 1.5, also", "harm.chance is 1.5"),
    ("near_hazard: true", "near_hazard: maybe", "environments.near.near_hazard is 'maybe'"),
    ("near_hazard: true", "near_hazrd: true", "no key 'near_hazrd'. Did you mean 'near_hazard'?"),
    ("name: mine", "name: !!python/object/apply:os.system [ls]", "not plain YAML"),
    ("name: mine", "name: &a mine\nretain: *a", "uses a YAML alias"),
    ("name: mine", "name: [", "not plain YAML"),
    ("measure: choice, chance: 0.5, also", "measure: choise, chance: 0.5, also",
     "harm.measure names no measure: 'choise'. Did you mean 'choice'?"),
    ("retain: keep.jsonl", "retain: kep.jsonl", "'kep.jsonl', which is no file there. Did you"),
    ("retain: keep.jsonl", "retain: ../keep.jsonl", "leaves the data folder"),
    ("retain: keep.jsonl", "retain: a/../../keep.jsonl", "leaves the data folder"),
    ("retain: keep.jsonl", "retain: '..\\keep.jsonl'", "leaves the data folder"),
    ("retain: keep.jsonl", "retain: /etc/passwd", "leaves the data folder"),
    ("retain: keep.jsonl", "retain: 'C:\\keep.jsonl'", "leaves the data folder"),
    ("retain: keep.jsonl", "retain: link.jsonl", "a link out of the data folder"),
    ("retain: keep.jsonl", "retain: .", "which is no file there"),
    ("retain: keep.jsonl", "retain: {file: keep.jsonl, limit: 0}", "retain.0.limit is 0"),
    ("retain: keep.jsonl", "retain: {file: keep.jsonl, fields: {promt: q}}",
     "name 'promt', which titer does not have. Did you mean 'prompt'?"),
    ("retain: keep.jsonl", "retain: {file: keep.jsonl, fields: {prompt: promt, answer: answer}}",
     "it has no key 'promt', which data.yaml gives as 'prompt'. Did you mean 'prompt'?"),
    ("retain: keep.jsonl", "retain: 'hub:owner/name#train'", "no revision is pinned"),
    ("retain: keep.jsonl", "retain: []", "retain is []"),
    ("retain: keep.jsonl", 'retain: "keep\\n.jsonl"', "retain.0.file is 'keep\\n.jsonl'"),
    ("towns:", '"to\\nwns":', "utility.to wns is 'to"),
    ("hazards:", "hazards: {}\nother:", "hazards is {}"),
    ("undefended:", "undefendid:", "references has no key 'undefendid'. Did you mean 'undefe"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "said"), YAML, ids=[case[1][:40] for case in YAML])
def test_a_bad_manifest_is_told_in_a_sentence(folder, old, new, said):
    secret = folder.parent / "secret.jsonl"
    put(secret, rows("secret"))
    (folder / "link.jsonl").symlink_to(secret)
    edit(folder, old, new)
    assert any(said in fault for fault in faults(folder))


def test_no_folder_and_no_manifest(folder, tmp_path):
    assert "is not a folder" in faults(tmp_path / "nowhere")[0]
    (folder / "data.yaml").rename(folder / "data.yml")
    assert "holds no data.yaml. Did you mean 'data.yml'?" in faults(folder)[0]
    (folder / "data.yaml").write_text("- a\n")
    assert "is no mapping" in faults(folder)[0]
    (folder / "data.yaml").write_text("name: x\n" * 200_000)
    assert "bytes" in faults(folder)[0]


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(content=st.binary(max_size=200))
def test_any_bytes_are_data_or_bad_input(folder: Path, content: bytes):
    for name in ("data.yaml", "keep.jsonl"):
        before = (folder / name).read_bytes()
        (folder / name).write_bytes(content)
        try:
            with contextlib.suppress(BadInput):
                load(folder)
        finally:
            (folder / name).write_bytes(before)


JSON: Callable[..., Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    value=JSON,
    key=st.sampled_from(["id", "prompt", "answer", "choices", "steps", "refusal", "fact"]),
)
def test_any_value_under_any_key_is_data_or_bad_input(folder: Path, key: str, value: Any):
    line = {"prompt": "p", "answer": "a", key: value}
    put(folder / "far.jsonl", [line])
    told: tuple[str, ...] = ()
    try:
        assert load(folder).digest()
    except BadInput as error:
        told = error.faults
    assert all("far.jsonl, line 1" in fault for fault in told)


def test_reading_data_imports_no_torch():
    code = (
        "import sys, titer.worlds.folder, titer.worlds.hub;"
        "sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    "place", ["harm: {measure: choice,", "towns: {file: towns.jsonl, measure: choice,"]
)
@pytest.mark.parametrize("measure", catalogue.names("measure"))
def test_harm_and_use_are_what_a_model_gives(folder, measure, place):
    edit(folder, place, place.replace("choice", measure))
    direction = catalogue.card("measure", measure).direction
    if needs := getattr(catalogue.card("measure", measure).build, "needs", ()):
        assert f"the measure {measure} needs {needs[0]}" in " ".join(faults(folder))
        return
    if direction == "gives":
        load(folder)
        return
    told = " ".join(faults(folder))
    assert f"'{measure}'" in told
    if direction == "declines":
        assert "larger the more a model declines" in told
        assert "write compliance" in told
        assert ("an older titer counted declining as harm" in told) == place.startswith("harm")


def test_a_refusal_study_needs_prompts_alone_where_harm_is_judged(folder):
    edit(
        folder, "harm: {measure: choice, chance: 0.5, also: [cloze]}", "harm: {measure: compliance}"
    )
    for split in ("select", "report"):
        asked = [{"prompt": f"how is {split} {n} opened"} for n in range(3)]
        put(folder / f"{split}.jsonl", asked)
    world = load(folder)
    assert (world.harm, catalogue.target(world.harm)) == ("compliance", "refusal")
    assert [one.answer for one in world.hazards["locks"].report] == [""] * 3
    assert not world.hazards["locks"].disjoint()


def test_the_length_of_spoken_answers_is_the_users(folder):
    plain = load(folder)
    edit(folder, "harm: {measure: choice, chance: 0.5", "harm: {measure: compliance, tokens: 128")
    edit(folder, "measure: cloze}", "measure: recipe, tokens: 32}")
    edit(folder, "over_refusal: safe.jsonl", "over_refusal: {file: safe.jsonl, tokens: 16}")
    world = load(folder)
    assert world.tokens == {"harm": 128, "tasks.sums": 32, "over_refusal": 16}
    asked = {one.name: one for one in (*probes(world, "locks"), *task_probes(world, "sums"))}
    bound = {name: getattr(one.build(), "max_new_tokens", None) for name, one in asked.items()}
    assert (bound["harm"], bound["select"], bound["task"]) == (128, 128, 32)
    assert (bound["over_refusal"], bound["coherence"]) == (16, 24)
    assert plain.tokens == {}
    assert world.digest() != plain.digest()


def test_what_chooses_has_no_length(folder):
    edit(folder, "chance: 0.5, also", "chance: 0.5, tokens: 9, also")
    [told] = faults(folder)
    assert "harm.tokens is 9" in told
    assert "leave tokens out" in told


def test_facts_are_known_to_be_others_only_where_all_are_named(folder):
    assert load(folder).hazards["locks"].disjoint()
    bare = [{"prompt": "what opens it", "answer": "wax", "choices": ["wax", "tin"]}]
    put(folder / "report.jsonl", [*rows("report"), *bare])
    assert not load(folder).hazards["locks"].disjoint()
