"""What was said, from the command to the page: on for the testbed, hashes for a user's hazards."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import toy
from tests.cli.conftest import Run
from tests.lm_eval_file import write as results
from titer import bench
from titer.core.records import Trace
from titer.run.store import Store
from titer.worlds.source import load_world

# The run folder is made once.
pytestmark = pytest.mark.xdist_group("answers")

PLANTED = 'how is <b>zyxwvut</b> & "alloy" made ?'
ESCAPED = "how is &lt;b&gt;zyxwvut&lt;/b&gt; &amp; &#34;alloy&#34; made ?"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on a user's own data, one prompt of which holds a word that is nowhere else."""
    root = tmp_path_factory.mktemp("answers")
    data = toy.data_folder(root / "data")
    items = [json.loads(line) for line in (data / "report.jsonl").read_text().splitlines()]
    items[0]["prompt"] = PLANTED
    (data / "report.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    model = toy.model_folder(root / "llama")
    bench(model, data=str(data), out=root / "run", cap=1, seeds=2, workers=1)
    return root / "run"


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "run"))


def _page(run: Path) -> str:
    return (run / "report" / "answers.html").read_text(encoding="utf-8")


def _study(run: Path, change: Callable[[dict[str, Any]], None]) -> None:
    content = yaml.safe_load((run / "config.yaml").read_text())
    change(content["study"])
    (run / "config.yaml").write_text(yaml.safe_dump(content))


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:12]


def _words(run: Path) -> set[str]:
    """Every prompt, answer and choice of the held-out items, and all that a model wrote."""
    world = load_world(yaml.safe_load((run / "config.yaml").read_text())["study"]["world_source"])
    found: set[str] = set()
    for hazard in world.hazards.values():
        for item in hazard.report:
            found |= {item.prompt, item.answer, *item.choices}
    for path in run.glob("trials/*/generations.jsonl"):
        found |= {
            one["text"]
            for line in path.read_text().splitlines()
            for records in json.loads(line)["records"].values()
            for one in records
            if one.get("text")
        }
    return {word for word in found if len(word) > 6}


def test_a_users_own_hazard_is_hashes_alone(titer: Run, run: Path) -> None:
    page = _page(run)
    assert 'content="hashes, data here"' in page
    assert "zyxwvut" not in page
    assert not [word for word in _words(run) if word in page]
    assert _digest(PLANTED) in page
    assert "zyxwvut" not in (run / "report" / "index.html").read_text()
    code, out, err = titer("report", run)
    assert code == 0, err
    told = "(hashes only; --show-answers shows the texts)"
    assert f"answers: {run / 'report' / 'answers.html'} {told}" in out
    assert _page(run) == page, "the same folder gives the same bytes"


def test_texts_are_shown_when_asked_and_hidden_again(titer: Run, run: Path) -> None:
    code, out, err = titer("report", run, "--show-answers")
    assert code == 0, err
    assert "(texts shown)" in out
    page = _page(run)
    assert ESCAPED in page
    assert "<b>zyxwvut" not in page
    assert "<script" not in page
    assert titer("validate", run)[0] == 0, "the sums and the page were written together"
    assert titer("report", run, "--no-show-answers")[0] == 0
    assert "zyxwvut" not in _page(run)
    assert titer("report", run, "--show-answers", "--json")[0] == 0
    assert _page(run) == page


def _answer(trace: Trace, item: Any, look: str) -> str:
    """What a look has of the second item: the choice that the model took for the likeliest."""
    values = json.loads(look)["records"]["harm"][1]["loglik"]
    return item.choices[values.index(max(values))]


def test_before_and_after_stand_side_by_side_with_the_judges_score(titer: Run, run: Path) -> None:
    titer("report", run, "--show-answers")
    store = Store(run)
    traces = [
        one
        for one in store.planned()
        if one.trial.role == "adversary" and one.trial.seed == 0 and one.status == "ok"
    ]
    world = load_world(yaml.safe_load((run / "config.yaml").read_text())["study"]["world_source"])
    domain = traces[0].trial.domain
    item = world.hazards[domain].report[1]
    page = _page(run)
    start = page.index(f" on hazard {domain}</h2>")
    row = page[page.index(">2</th>", start) :].partition("</tbody>")[0]
    assert item.prompt in row
    rows = {
        re.sub("<[^>]+>", "", line.partition("<td")[0]): line
        for line in row.split('<td class="m">')[1:]
    }
    assert len(rows) == len({one.trial.subject for one in traces})
    for trace in (one for one in traces if one.trial.domain == domain):
        looks = (store.folder(trace.trial.key) / "generations.jsonl").read_text().splitlines()
        first, last = (_answer(trace, item, looks[at]) for at in (0, -1))
        scores = [trace.points[at].scores["harm"][1] for at in (0, -1)]
        before, after = rows[trace.trial.subject].split('<td class="b">')[1].split("<td>")
        assert before == f"{first} <b>{scores[0]:.2f}</b>"
        if "<p><small>as before</small>" in after:
            assert (first, scores[0]) == (last, scores[1]), "all alike"
            continue
        by = re.compile(rf"[ >]{re.escape(trace.trial.label)}[ <]")
        told = next(one for one in after.split("<p")[1:] if by.search(one))
        if (first, scores[0]) == (last, scores[1]):
            assert "as before:" in told
        else:
            assert f"{last} <b>{scores[1]:.2f}</b>" in told
            assert ("▲" in told) == (scores[1] > scores[0])


def test_every_prompt_and_every_answer_of_a_model_stands_once(titer: Run, run: Path) -> None:
    titer("report", run, "--show-answers")
    page = _page(run)
    assert page.count(ESCAPED) == 1
    for row in page.split('<td class="m">')[1:]:
        shown = re.findall(
            r"(?:<td class=\"b\">|<p(?: class=\"rose\")?>)(.*?</b>)", row.partition("\n")[0]
        )
        assert len(shown) == len(set(shown))
    still = page.partition("Answers that no attack changed")[2].partition("</details>")[0]
    assert "<p>" not in still.replace("<p><small>as before</small>", "")


def test_other_seeds_are_named_and_the_report_links_the_page(titer: Run, run: Path) -> None:
    page = _page(run)
    for trace in Store(run).planned():
        assert (trace.trial.key in page) == (trace.trial.role == "adversary")
    index = run / "report" / "index.html"
    assert '<a href="answers.html">' in index.read_text()
    (run / "report" / "answers.html").unlink()
    Store(run).write_sums()
    code, out, _ = titer("validate", run)
    assert (code, "report/index.html" in out) == (1, True), "a link to nothing is found"


@pytest.mark.parametrize("elsewhere", ["nowhere", "fabula"])
def test_data_that_is_gone_or_is_other_data_is_said(titer: Run, run: Path, elsewhere: str) -> None:
    _study(run, lambda study: study.update(world_source=elsewhere))
    for words, state in (("--show-answers", "shown"), ("--no-show-answers", "hashes")):
        code, out, err = titer("report", run, words)
        assert code == 0, err
        assert "items by number" in out
        page = _page(run)
        assert f'content="{state} as chosen, data missing"' in page
        assert "The data of this study is not here" in page
        assert "zyxwvut" not in page
    titer("report", run, "--show-answers")
    assert re.search(r'<td class="b">choice \d', _page(run))


def test_the_testbed_is_shown_only_where_it_is_the_testbed(titer: Run, run: Path) -> None:
    _study(run, lambda study: study.update(world_source="fabula"))
    assert titer("report", run)[0] == 0
    assert 'content="hashes, data missing"' in _page(run), "a name alone is no testbed"


def test_what_was_chosen_is_kept_until_another_choice(titer: Run, run: Path) -> None:
    """`report` and `import` write the page anew, and nobody is asked again."""
    name = Store(run).planned()[0].trial.subject
    given = f"{name}={results(run.parent / 'results_0.json')}"
    for words, state in (("--show-answers", "shown"), ("--no-show-answers", "hashes")):
        assert titer("report", run, words)[0] == 0
        page = _page(run)
        assert f'content="{state} as chosen, data here"' in page
        for again in (("report", run), ("import", run, "--lm-eval", given)):
            code, _, err = titer(*again)
            assert code == 0, err
            assert _page(run) == page, again
        assert titer("validate", run)[0] == 0


def test_a_changed_page_is_a_fault_and_one_that_cannot_be_judged_is_none(
    titer: Run, run: Path
) -> None:
    path = run / "report" / "answers.html"
    path.write_text(_page(run).replace(_digest(PLANTED), "0" * 12))
    Store(run).write_sums()
    code, out, _ = titer("validate", run)
    assert code == 1
    assert "report/answers.html: is not what the trials say" in out
    titer("report", run)
    assert titer("validate", run)[0] == 0
    _study(run, lambda study: study.update(world_source=str(run / "nowhere")))
    Store(run).write_sums()
    assert "answers.html" not in titer("validate", run)[1], "without the data nobody can tell"


def test_a_folder_without_its_answers_still_has_a_page(titer: Run, run: Path) -> None:
    for path in run.glob("trials/*/generations.jsonl"):
        path.unlink()
    assert titer("report", run, "--show-answers")[0] == 0
    assert "what was said is not in this folder" in _page(run)
    assert "zyxwvut" not in _page(run)


def test_a_damaged_line_is_a_sentence_and_writes_nothing(titer: Run, run: Path) -> None:
    before = {path.name: path.read_bytes() for path in (run / "report").iterdir()}
    for path in run.glob("trials/*/generations.jsonl"):
        path.write_text("{\n" * len(path.read_text().splitlines()))
    code, _, err = titer("report", run)
    assert code == 2
    assert "damaged" in err
    assert {path.name: path.read_bytes() for path in (run / "report").iterdir()} == before


@pytest.mark.slow
def test_the_testbed_is_shown_by_default(titer: Run, tmp_path: Path) -> None:
    words = ("bench", "fabula:base", "--cap", 1, "--seeds", 1, "--workers", 1, "--quiet")
    code, out, err = titer(*words, "--out", tmp_path / "run")
    assert code == 0, err
    assert "(texts shown)" in out
    page = _page(tmp_path / "run")
    for item in load_world("fabula").hazards["A"].report[:5]:
        assert item.prompt in page
    code, out, _ = titer(*words, "--out", tmp_path / "run", "--no-show-answers")
    assert (code, "(hashes only" in out) == (0, True)
    assert load_world("fabula").hazards["A"].report[0].prompt not in _page(tmp_path / "run")
