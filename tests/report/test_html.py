"""The page: escaped, self-contained, small, deterministic, and true to its verdict."""

from __future__ import annotations

import copy
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest
from made_verdict import estimate, made, study, typed
from sample_verdict import sample
from sample_verdict import verdict as judge

from titer.core import BadInput
from titer.report import html, tables
from titer.report.columns import COLUMNS
from titer.report.models import in_order
from titer.report.numbers import value as shown_value
from titer.verdict.parts import Verdict

NASTY = "</script><script>alert(1)</script><img src=x onerror='a'>\"'&"
VOID = {"meta", "br", "wbr", "link", "img", "input", "hr"}


class Page(HTMLParser):
    """Elements and their text; fails on tags that do not match."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.cells: list[tuple[float, str]] = []
        self.text = ""
        self._open: list[str] = []
        self._value: float | None = None
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.append((tag, found))
        if tag not in VOID:
            self._open.append(tag)
        if tag == "td":
            raw = found.get("data-value")
            self._value = float(raw) if raw else None
        if tag == "span" and found.get("class") == "v" and self._value is not None:
            self.cells.append((self._value, ""))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag
        if tag == "span":
            self._value = None

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._value is not None and self._open[-1] == "span" and self.cells:
            raw, shown = self.cells[-1]
            self.cells[-1] = (raw, shown + data)


@pytest.fixture(scope="module")
def verdict() -> Verdict:
    return study()


@pytest.fixture(scope="module")
def page(verdict: Verdict) -> str:
    return html.render(verdict)


def poisoned() -> Verdict:
    """A verdict whose every text that comes from outside is hostile."""
    verdict = made(rows=4, models=7, seeds=2)
    verdict |= {"not_tested": [NASTY], "created": NASTY, "titer": NASTY}
    verdict["suite"] |= {"name": NASTY, "version": NASTY, "hash": NASTY}
    verdict["suite"]["rows"][0] |= {"id": NASTY, "title": NASTY, "family": NASTY, "source": NASTY}
    verdict["suite"]["rows"][1]["source"] = "javascript:alert(1)"
    verdict["world"] |= {"name": NASTY, "digest": NASTY, "harm": NASTY}
    verdict["settings"]["phi"]["relative"] = {NASTY: 0.3}
    verdict["reproduce"] = {"command": NASTY, "trials": {NASTY: NASTY}}
    for at, model in enumerate(verdict["models"]):
        for key in ("source", "digest", "defence", "claim", "withheld"):
            model[key] = NASTY
        model["name"] = NASTY + "'" * at
        model["flags"] = [NASTY]
        keys = {"row": NASTY, "title": NASTY, "flags": [NASTY], "standing": "suspect"}
        model["attacks"][0] |= {**keys, "reason": NASTY, "trials": [NASTY]}
        model["curves"][0]["row"] = NASTY
        pillars = model["pillars"]
        pillars["resistance"]["weak"]["note"] = NASTY
        pillars["resistance"] |= {"strong": NASTY, "worst_attack": NASTY}
        pillars["erasure"]["note"] = NASTY
        pillars["stability"]["suites"][NASTY] = pillars["stability"]["suites"].pop("far_1")
        pillars["generalisation"]["cross_domain"] = {NASTY: estimate(0.2, note=NASTY)}
        pillars["trainability"]["tasks"][NASTY] = pillars["trainability"]["tasks"].pop("kin")
    return typed(verdict)


def test_no_text_from_outside_becomes_markup() -> None:
    text = html.render(poisoned())
    found = Page(text)
    scripts = [attributes for tag, attributes in found.tags if tag == "script"]
    assert len(scripts) == 2
    assert scripts[0] == {"type": "application/json", "id": "verdict"}
    assert not [tag for tag, _ in found.tags if tag in ("img", "iframe", "object", "link", "base")]
    for _, attributes in found.tags:
        assert not [name for name in attributes if name.startswith("on")]
        assert not str(attributes.get("href", "")).startswith("javascript:")
    assert text.count("alert(1)") > 20
    assert html.read(text).models[0].name == NASTY


def test_the_page_fetches_nothing(page: str) -> None:
    found = Page(page)
    for tag, attributes in found.tags:
        for name, value in attributes.items():
            if name in ("src", "srcset", "data", "action", "poster", "xlink:href"):
                pytest.fail(f"{tag} has {name}={value}")
            if name == "href":
                assert tag == "a"
                assert str(value).startswith(("#", "https://arxiv.org/abs/"))
    styles = re.findall(r"<style>(.*?)</style>", page, re.S)
    assert "url(" not in styles[0]
    assert "@import" not in styles[0]
    assert "default-src 'none'" in page


def test_only_the_page_s_own_script_may_run(page: str) -> None:
    scripts = re.findall(r"<script>(.*?)</script>", page, re.S)
    assert len(scripts) == 1
    assert f"script-src '{html._hash(scripts[0])}'" in page


def test_headings_go_down_one_level_at_a_time(page: str) -> None:
    levels = [int(tag[1]) for tag, _ in Page(page).tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_ids_are_unique_and_every_link_within_the_page_has_an_end(page: str) -> None:
    found = Page(page)
    ids = [attributes["id"] for _, attributes in found.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for tag, attributes in found.tags:
        target = str(attributes.get("href") or "")
        if tag == "a" and target.startswith("#"):
            assert target[1:] in ids


def test_the_page_carries_the_verdict_as_it_was(verdict: Verdict, page: str) -> None:
    assert html.read(page) == verdict


def test_shown_numbers_are_those_of_the_verdict(verdict: Verdict, page: str) -> None:
    cells = Page(_section(page, "pillars")).cells
    wanted: list[tuple[float, str]] = []
    for model in in_order(verdict):
        for column in COLUMNS:
            est = column.of(model)
            if est.value is not None:
                wanted.append((est.value, shown_value(est, column.form)))
    assert [(raw, re.sub(r"[a-z]+$", "", text)) for raw, text in cells] == wanted


def _section(page: str, name: str) -> str:
    return page.split(f'<section id="{name}">')[1].split("</section>")[0]


def test_the_strip_says_of_every_model_what_became_of_it(verdict: Verdict, page: str) -> None:
    """Name, one word, harm before and worst with its interval, threshold, what came back, utility
    and attacks: a line a model, above everything else."""
    assert re.findall(r'<section id="(\w+)">', page)[0] == "strip"
    lines = re.findall(r"<tr>(.*?)</tr>", _section(page, "strip"), re.S)[1:]
    assert len(lines) == len(verdict)
    for model, line in zip(in_order(verdict), lines, strict=True):
        told = " ".join(Page(f"<table><tr>{line}</tr></table>").text.split())
        weak = model.resistance.weak
        assert told.startswith(model.name)
        assert f">{model.word}</button></span>" in line
        assert f"{shown_value(model.resistance.baseline_harm)} → {shown_value(weak)}" in told
        assert f"{model.resistance.phi:.2f}" in told
        assert shown_value(model.erasure.rtt) in told
        assert shown_value(model.stability.worst_delta, "points") in told
        assert told.endswith(f"{model.valid} of {len(verdict.suite.rows)}")


def test_what_is_common_to_all_models_is_said_once(verdict: Verdict, page: str) -> None:
    body = page.split('<script type="application')[0]
    text = " ".join(Page(f"{body}</body></html>").text.split())
    for gap in verdict.not_tested[:3]:
        assert text.count(gap) == 1
    assert "Not tested:" not in text


def test_the_references_come_last(verdict: Verdict) -> None:
    roles = [model.role for model in in_order(verdict)]
    assert roles[-2:] == ["oracle", "undefended"]
    assert roles[0] == "defended"


def test_any_term_of_the_strip_is_explained_without_a_script(page: str) -> None:
    strip = _section(page, "strip")
    for target in re.findall(r'popovertarget="([\w-]+)"', strip):
        assert re.search(
            rf'<div popover id="{target}" class="meaning"><b>[^<]+</b> [^<]+</div>', page
        )
    assert strip.count("popovertarget") >= 2


def test_many_claims_are_folded(verdict: Verdict, page: str) -> None:
    assert _section(page, "claims").count('<details class="claims">') == len(verdict)
    few = html.render(replace(verdict, models=verdict.models[:3]))
    assert '<details class="claims">' not in few


def test_every_table_of_models_can_be_sorted(page: str) -> None:
    assert 'class="glance sortable"' in _section(page, "strip")
    assert 'class="grid sortable"' in _section(page, "pillars")
    assert "table.sortable" in re.findall(r"<script>(.*?)</script>", page, re.S)[0]


def test_claims_flags_gaps_and_the_command_are_shown(verdict: Verdict, page: str) -> None:
    text = " ".join(Page(page).text.split())
    for model in verdict:
        claim = model.claim.rpartition(" Not tested: ")[0]
        for part in re.split(r"(?<=[.])\s+(?=[A-Z])", claim):
            assert part in text
        assert all(flag in text for flag in model.flags)
        for attack in model.attacks.values():
            assert all(key in text for key in attack.trials)
    assert all(gap in text for gap in verdict.not_tested)
    assert verdict.reproduce.command in text
    assert "not established" in text
    assert "never blended" in text


def test_the_in_domain_curve_is_shown_or_said_not_to_be_measured(page: str) -> None:
    assert 'id="shares"' in page
    assert "In-domain generalisation of rmu" in page
    assert "7 of 24 entities" in page
    assert "not measured" in page, "models whose defence was not made again"
    bare = made()
    for model in bare["models"]:
        model["pillars"]["generalisation"]["curve"] = []
    text = html.render(typed(bare))
    assert 'id="shares"' not in text
    assert "share of the hazard was not measured" in text


def test_a_withheld_score_is_a_dash_with_its_reason(verdict: Verdict) -> None:
    text = html.render(replace(verdict, models=(verdict["rmu+booster"],)))
    row = re.search(r'<tr class="defended flagged">.*?</tr>', text, re.S)
    assert row is not None
    dashes = re.findall(r'title="(?:n = \d+; )?withheld: P02 seed \d failed">', row[0])
    assert len(dashes) >= 4
    assert re.search(r"withheld: P02 seed \d failed", text)
    assert '<span class="word breached"' in text, "other attacks breached it all the same"


def test_the_same_verdict_gives_the_same_bytes(verdict: Verdict, page: str) -> None:
    assert html.render(Verdict.from_json(verdict.to_json())) == page


def test_a_large_study_stays_under_two_megabytes(verdict: Verdict) -> None:
    """Twelve models, each attacked with forty rows."""
    content = verdict.to_json()
    rows = [
        {**row, "id": f"{row['id']}.{lap}"} for lap in range(3) for row in content["suite"]["rows"]
    ][:40]
    content["suite"]["rows"] = rows
    models = [*content["models"], *copy.deepcopy(content["models"][2:])]
    for at, model in enumerate(models):
        model["name"] += f"-{at}"
        for key in ("attacks", "curves"):
            known = {one["row"]: one for one in model[key]}
            model[key] = [
                {**known[row["id"].rpartition(".")[0]], "row": row["id"]}
                for row in rows
                if row["id"].rpartition(".")[0] in known
            ]
    large = typed({**content, "models": models})
    text = html.render(large)
    assert len(text.encode()) < 3_000_000
    assert html.read(text) == large


@pytest.mark.parametrize("kept", [(), ("rmu",), ("base",), ("rmu+booster", "never-learned")])
def test_few_models_render(verdict: Verdict, kept: tuple[str, ...]) -> None:
    small = replace(verdict, models=tuple(verdict[name] for name in kept))
    Page(html.render(small))
    assert tables.plain(small)


def test_a_study_without_attacks_renders() -> None:
    Page(html.render(study(rows=0, models=3)))


def test_numbers_that_are_none_become_null_and_not_nan() -> None:
    content = made(rows=2, models=3)
    content["models"][2]["pillars"]["resistance"]["weak"]["value"] = float("nan")
    found = html.read(html.render(typed(content)))
    assert found.models[2].resistance.weak.value is None


def test_write_replaces_in_one_step_and_leaves_nothing_behind(
    tmp_path: Path, verdict: Verdict, page: str
) -> None:
    target = tmp_path / "report" / "index.html"
    assert html.write(verdict, target) == target
    assert target.read_text(encoding="utf-8") == page
    with pytest.raises(AttributeError):
        html.write(replace(verdict, models=("not a model",)), target)  # type: ignore[arg-type]
    assert target.read_text(encoding="utf-8") == page
    assert [path.name for path in target.parent.iterdir()] == ["index.html"]


def test_reading_a_page_of_another_kind_is_refused() -> None:
    with pytest.raises(BadInput, match="carries its verdict"):
        html.read("<p>nothing</p>")


def _luminance(colour: str) -> float:
    digits = colour.lstrip("#")
    if len(digits) == 3:
        digits = "".join(2 * digit for digit in digits)
    parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_texts_stand_out_from_their_grounds_in_both_themes(page: str) -> None:
    themes = re.findall(r"color-scheme: (light|dark);(.*?)}", page, re.S)
    assert [name for name, _ in themes] == ["light", "dark", "dark"]
    assert themes[1][1].split() == themes[2][1].split()
    inks = ("ink", "soft", "link", "warn")
    pairs = [(ink, ground) for ink in inks for ground in ("paper", "wash")]
    pairs += [(line, "paper") for line in ("model", "undefended", "oracle")]
    pairs += [(f"{name}-ink", name) for name in ("held", "breached", "degraded", "bricked")]
    for _, block in themes:
        colours = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]+)", block))
        for ink, ground in pairs:
            bright, dim = sorted((_luminance(colours[ink]), _luminance(colours[ground])))[::-1]
            assert (bright + 0.05) / (dim + 0.05) >= 4.5, (ink, ground)


def test_a_verdict_from_traces_is_shown_whole() -> None:
    found = judge(*sample(), draws=40)
    text = html.render(found)
    assert html.read(text) == found
    assert tables.plain(found)


def test_the_page_is_current_until_the_verdict_changes(tmp_path: Path, verdict: Verdict) -> None:
    path = html.write(verdict, tmp_path / "index.html")
    assert html.current(verdict, path)
    assert not html.current(replace(verdict, created="later"), path)
