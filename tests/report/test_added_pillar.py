"""One file more is one pillar more: scored, written, read back, and shown everywhere."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sample_verdict import sample, verdict

import titer.pillars
from titer.core.errors import BadInput
from titer.pillars.listing import listed
from titer.report import html, tables
from titer.report.export import export
from titer.verdict.parts import Verdict

DRAWS = 20
PILLAR = '''
"""Patience: how long attackers trained, whatever came of it."""

from dataclasses import dataclass

from titer.core import Estimate
from titer.core.units import Steps
from titer.pillars.ground import Ground
from titer.pillars.listing import Number, Pillar

PILLAR = Pillar(
    title="Patience",
    place=9,
    numbers=(Number(key="days", title="Days of toil", form="steps", says="of an attacker"),),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    days: Steps
    luck: Steps


def score(ground: Ground) -> Patience:
    toil = float(len(ground.mine.rows)) + 12340.0
    return Patience(
        days=Estimate(value=toil, low=toil - 1, high=toil + 1, n=3),
        luck=Estimate(value=7.0),
    )
'''


@pytest.fixture
def patience(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    folder = tmp_path / "more"
    folder.mkdir()
    (folder / "patience.py").write_text(PILLAR)
    monkeypatch.setattr(titer.pillars, "__path__", [*titer.pillars.__path__, str(folder)])
    yield
    sys.modules.pop("titer.pillars.patience", None)


@pytest.mark.usefixtures("patience")
def test_a_pillar_in_another_folder_is_seen_everywhere(tmp_path: Path) -> None:
    assert list(listed())[-1] == "patience"
    found = verdict(*sample(), draws=DRAWS)
    rows = len(found.suite.rows)
    content = json.loads(json.dumps(found.to_json()))
    wrote = content["models"][2]["pillars"]["patience"]
    assert wrote["days"]["value"] == 12340 + rows
    again = Verdict.from_json(content)
    assert again == found
    assert again["npo"].pillars["patience"].luck.value == 7
    assert "Days of toil" in tables.plain(found)
    assert f"{12340 + rows:,}" in tables.plain(found)
    page = html.render(found)
    for text in ("Patience", "Days of toil", "of an attacker", f"{12340 + rows:,}"):
        assert text in page
    assert html.read(page) == found
    assert found.to_frame().loc["npo", "days_low"] == 12339 + rows
    export(found, tmp_path / "out")
    text = (tmp_path / "out/tables/pillars.csv").read_text(encoding="utf-8")
    lines = list(csv.DictReader(io.StringIO(text)))
    mine = [line for line in lines if (line["pillar"], line["model"]) == ("patience", "npo")]
    assert [float(line["value"]) for line in mine] == [12340 + rows]
    assert "Patience" in (tmp_path / "out/tables/pillars.tex").read_text(encoding="utf-8")


@pytest.mark.usefixtures("patience")
def test_what_a_pillar_found_is_read_back_whole() -> None:
    content = verdict(*sample(), draws=DRAWS).to_json()
    del content["models"][1]["pillars"]["patience"]["days"]
    with pytest.raises(BadInput, match=r"models\.1\.pillars\.patience\.days: field required"):
        Verdict.from_json(content)


def test_without_its_file_the_other_pillars_say_the_same() -> None:
    found = verdict(*sample(), draws=DRAWS)
    assert "patience" not in found["npo"].pillars
    assert "Patience" not in html.render(found)
