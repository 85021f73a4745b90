"""The page: escaped, self-contained, small, deterministic, and true to its verdict."""

from __future__ import annotations

import copy
import json
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from made_verdict import estimate, made
from sample_verdict import judged as judge
from sample_verdict import sample

from titer.core import BadInput
from titer.report import html, tables

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
def verdict() -> dict[str, Any]:
    return made()


@pytest.fixture(scope="module")
def page(verdict: dict[str, Any]) -> str:
    return html.render(verdict)


def poisoned() -> dict[str, Any]:
    """A verdict whose every text that comes from outside is hostile."""
    verdict = made(rows=4, models=7, seeds=2)
    verdict |= {"not_tested": [NASTY], "created": NASTY, "titer": NASTY}
    verdict["suite"] |= {"name": NASTY, "version": NASTY, "hash": NASTY}
    verdict["suite"]["rows"][0] |= {"id": NASTY, "title": NASTY, "family": NASTY, "source": NASTY}
    verdict["suite"]["rows"][1]["source"] = "javascript:alert(1)"
    verdict["world"] |= {"name": NASTY, "digest": NASTY, "harm": NASTY}
    verdict["settings"]["phi"] = {NASTY: 0.3}
    verdict["reproduce"] = {"command": NASTY, "trials": {NASTY: NASTY}}
    for model in verdict["models"]:
        for key in ("name", "source", "digest", "defence", "claim", "withheld"):
            model[key] = NASTY
        model["flags"] = [NASTY]
        keys = {"row": NASTY, "title": NASTY, "validity": NASTY, "flags": [NASTY]}
        model["attacks"][0] |= {**keys, "trials": [NASTY], "by_seed": [NASTY], "outcome": NASTY}
        model["curves"][0]["row"] = NASTY
        pillars = model["pillars"]
        pillars["resistance"]["weak"]["note"] = NASTY
        pillars["resistance"] |= {"strong": NASTY, "worst_attack": NASTY}
        pillars["erasure"]["note"] = NASTY
        pillars["stability"]["suites"][NASTY] = pillars["stability"]["suites"].pop("far_1")
        pillars["generalisation"]["cross_domain"] = {NASTY: estimate(0.2, note=NASTY)}
        pillars["trainability"]["tasks"][NASTY] = pillars["trainability"]["tasks"].pop("kin")
    verdict["models"][3]["role"] = NASTY
    return verdict


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
    assert html.read(text)["models"][0]["name"] == NASTY


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


def test_the_page_carries_the_verdict_as_it_was(verdict: dict[str, Any], page: str) -> None:
    assert html.read(page) == verdict
    assert html.read(page) == json.loads(json.dumps(verdict))


def test_shown_numbers_are_those_of_the_verdict(verdict: dict[str, Any], page: str) -> None:
    cells = Page(page).cells
    wanted: list[tuple[float, str]] = []
    order = ("undefended", "oracle", "defended", "control")
    for model in sorted(verdict["models"], key=lambda model: order.index(model["role"])):
        for column in tables.COLUMNS:
            est = model["pillars"][column.pillar][column.key]
            if est["value"] is not None:
                wanted.append((est["value"], tables.value(est, column.form)))
    shown = [(raw, re.sub(r"[a-z]+$", "", text)) for raw, text in cells[: len(wanted)]]
    assert shown == wanted


def test_claims_flags_gaps_and_the_command_are_shown(verdict: dict[str, Any], page: str) -> None:
    text = " ".join(Page(page).text.split())
    for model in verdict["models"]:
        for part in re.split(r"(?<=[.])\s+(?=[A-Z])", model["claim"]):
            assert part in text
        for flag in model["flags"]:
            assert flag in text
        for attack in model["attacks"]:
            assert all(key in text for key in attack["trials"])
    for gap in verdict["not_tested"]:
        assert gap in text
    assert verdict["reproduce"]["command"] in text
    assert "not established" in text
    assert "not blended" in text or "never blended" in text


def test_the_in_domain_curve_is_shown_or_said_not_to_be_measured(page: str) -> None:
    assert 'id="shares"' in page
    assert "In-domain generalisation of rmu" in page
    assert "7 of 24 entities" in page
    assert "not measured" in page, "models whose defence was not made again"
    bare = made()
    for model in bare["models"]:
        model["pillars"]["generalisation"]["curve"] = []
    text = html.render(bare)
    assert 'id="shares"' not in text
    assert "share of the hazard was not measured" in text


def test_a_withheld_score_is_a_dash_with_its_reason(verdict: dict[str, Any]) -> None:
    only = {**verdict, "models": [verdict["models"][6]]}
    text = html.render(only)
    row = re.search(r'<tr class="defended flagged">.*?</tr>', text, re.S)
    assert row is not None
    dashes = re.findall(r'title="n = 5; a mandatory attack \(P02\) has no result">', row[0])
    assert len(dashes) == 4
    assert row[0].count('<span class="v">—') == 4
    assert "withheld: P02 failed on seeds 1 and 3 (out of memory)" in text


def test_the_same_verdict_gives_the_same_bytes(verdict: dict[str, Any], page: str) -> None:
    assert html.render(copy.deepcopy(verdict)) == page


def test_a_large_study_stays_under_two_megabytes() -> None:
    large = made(rows=60, models=12)
    text = html.render(large)
    assert len(text.encode()) < 2_000_000
    assert html.read(text) == large


def test_rendering_leaves_the_verdict_alone(verdict: dict[str, Any]) -> None:
    before = copy.deepcopy(verdict)
    html.render(verdict)
    assert verdict == before


@pytest.mark.parametrize(
    "small",
    [
        {},
        {"models": []},
        {"models": [{"name": "x", "role": "defended"}]},
        made(rows=1, models=1, seeds=1),
        made(rows=0, models=3),
        {**made(rows=3), "models": made(rows=3)["models"][2:]},
    ],
    ids=["empty", "no models", "bare model", "one of each", "no attacks", "no references"],
)
def test_degenerate_verdicts_render(small: dict[str, Any]) -> None:
    Page(html.render(small))


def test_numbers_that_are_none_become_null_and_not_nan() -> None:
    verdict = made(rows=2, models=3)
    verdict["models"][2]["pillars"]["resistance"]["weak"]["value"] = float("nan")
    found = html.read(html.render(verdict))
    assert found["models"][2]["pillars"]["resistance"]["weak"]["value"] is None


def test_write_replaces_in_one_step_and_leaves_nothing_behind(
    tmp_path: Path, verdict: dict[str, Any], page: str
) -> None:
    target = tmp_path / "report" / "index.html"
    assert html.write(verdict, target) == target
    assert target.read_text(encoding="utf-8") == page
    with pytest.raises(AttributeError):
        html.write({"models": ["not a model"]}, target)
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
    words = " ".join(Page(text).text.split())
    assert html.read(text) == json.loads(json.dumps(found))
    for model in found["models"]:
        assert all(
            part in words for part in re.split(r"(?<=[.])\s+(?=[A-Z])", model["claim"], maxsplit=1)
        )
    for gap in found["not_tested"]:
        assert gap in words
    assert "harm:cloze" in words
    assert tables.plain(found)
