"""What leaves a report: the same bytes each time, numbers that are the verdict's, names that are
text wherever they land."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import shutil
import subprocess
from copy import deepcopy
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml
from made_verdict import made

from titer.core.errors import BadInput
from titer.report import cards, figures
from titer.report._paper import Drawn, on_paper, to_svg
from titer.report._tables_out import csv_tables, latex, latex_tables
from titer.report.export import export

NASTY = r"=cmd()|\input{x}%_&$#{}~^<b>`*[a](b)"
PRESENTATION = ("fill", "stroke")


@pytest.fixture(scope="module")
def verdict() -> dict[str, Any]:
    """A made-up verdict with what a real one has besides, and a model with a hostile name."""
    content = made(rows=8)
    content |= {"lm_eval": [], "titer": "0.0.0", "created": "2026-01-02"}
    content["models"][4]["name"] = NASTY
    return content


def _drawings(verdict: dict[str, Any]) -> dict[str, str]:
    models = verdict["models"]
    return {
        "recovery": figures.recovery(models[4], models[0], models[1], chance=0.25, last=3000),
        "pareto": figures.pareto(models, "weak", margin=0.02),
        "heatmap": figures.heatmap(verdict["suite"]["rows"], models),
    }


def _shapes(drawn: Drawn) -> list[Drawn]:
    kinds = ("line", "rect", "circle", "polygon", "path", "text")
    return [one for one in drawn.each() if one.tag in kinds]


# -- figures ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["recovery", "pareto", "heatmap"])
def test_a_figure_on_paper_needs_no_style_sheet(verdict: dict[str, Any], name: str) -> None:
    figure = on_paper(_drawings(verdict)[name])
    text = to_svg(figure, 89.0)
    root = ElementTree.fromstring(text)
    assert root.attrib["width"] == "89mm"
    _, _, across, down = map(float, root.attrib["viewBox"].split())
    assert float(root.attrib["height"].removesuffix("mm")) == pytest.approx(
        89 * down / across, 1e-3
    )
    for leftover in ("class=", "var(", "style=", "<style", "none;"):
        assert leftover not in text
    for one in _shapes(figure):
        painted = [one.attributes.get(key, "none") for key in PRESENTATION]
        # Tiles without an outcome are outlines; a text that is black takes the page's ink.
        assert any(value != "none" for value in painted), one
        for value in painted:
            assert value == "none" or re.fullmatch(r"#[0-9a-f]{3,6}", value), one


def test_the_light_page_is_what_is_printed(verdict: dict[str, Any]) -> None:
    figure = on_paper(_drawings(verdict)["recovery"])
    [line] = [one for one in figure.each() if one.attributes.get("stroke-width") == "3"]
    assert line.attributes["stroke"] == "#3646a3"
    assert line.attributes["fill"] == "none"
    labels = [one for one in figure.each() if one.text.endswith("worst attack")]
    assert [one.attributes["font-weight"] for one in labels] == ["600"]
    tiles = [
        one.attributes["fill"]
        for one in on_paper(_drawings(verdict)["heatmap"]).each()
        if one.attributes.get("rx") == "2.5"
    ]
    assert {"#d5e5f5", "#b13f0a"} <= set(tiles), "the tile's colour is a variable of its cell"


def test_pdf_has_the_size_the_fonts_and_no_date(verdict: dict[str, Any]) -> None:
    pytest.importorskip("matplotlib")
    from titer.report._pdf import to_pdf

    figure = on_paper(_drawings(verdict)["pareto"])
    one, two = to_pdf(figure, 89.0), to_pdf(figure, 89.0)
    assert one == two
    assert b"/CreationDate" not in one
    assert b"/FontFile2" in one, "the font is inside"
    _, _, across, down = map(float, figure.attributes["viewBox"].split())
    [box] = re.findall(rb"/MediaBox \[ 0 0 ([\d.]+) ([\d.]+) \]", one)
    wide = 89 * 72 / 25.4
    assert [float(side) for side in box] == pytest.approx([wide, wide * down / across], abs=0.01)


def test_a_path_that_cannot_be_drawn_is_no_silence() -> None:
    pytest.importorskip("matplotlib")
    from titer.report._pdf import to_pdf

    odd = Drawn("path", {"d": "M0,0C1,1 2,2 3,3", "fill": "#000"}, "", ())
    page = Drawn("svg", {"viewBox": "0 0 10 10"}, "", (odd,))
    with pytest.raises(ValueError, match="'C'"):
        to_pdf(page, 20.0)


def test_arcs_end_where_they_should() -> None:
    from titer.report._pdf import _path

    points, codes = _path({"d": "M10,5.8a4.2,4.2 0 0 0 0,8.4z"})
    assert points[0] == points[-1] == (10.0, 5.8)
    assert points[-2] == pytest.approx((10.0, 14.2))
    assert min(x for x, _ in points) == pytest.approx(5.8), "the half to the left"
    assert all((x - 10) ** 2 + (y - 10) ** 2 == pytest.approx(4.2**2) for x, y in points)
    assert codes[0] == 1
    assert codes[-1] == 79


# -- tables ----------------------------------------------------------------------------------------


def test_csv_holds_every_number_as_it_is(verdict: dict[str, Any]) -> None:
    rows = list(csv.DictReader(io.StringIO(csv_tables(verdict)["pillars"])))
    model = verdict["models"][2]
    [found] = [r for r in rows if r["model"] == model["name"] and r["number"] == "weak"]
    est = model["pillars"]["resistance"]["weak"]
    assert [float(found[end]) for end in ("value", "low", "high")] == [
        est["value"],
        est["low"],
        est["high"],
    ]
    attacks = list(csv.DictReader(io.StringIO(csv_tables(verdict)["attacks"])))
    assert len(attacks) == 4 * sum(len(model["attacks"]) for model in verdict["models"])


def test_a_name_is_no_formula_in_a_spreadsheet(verdict: dict[str, Any]) -> None:
    rows = csv.DictReader(io.StringIO(csv_tables(verdict)["attacks"]))
    names = {row["model"] for row in rows}
    assert f"'{NASTY}" in names
    assert not any(name.startswith("=") for name in names)


def test_latex_is_whole_and_a_name_is_no_command(verdict: dict[str, Any]) -> None:
    for text in latex_tables(verdict).values():
        assert r"\input" not in text.replace(r"\textbackslash{}input", "")
        body = "\n".join(line for line in text.splitlines() if not line.startswith("%"))
        bare = re.sub(r"\\[{}%&$#_]", "", body)
        assert bare.count("{") == bare.count("}")
        assert bare.count("$") % 2 == 0
        columns = len(verdict["models"])
        cells = [line for line in bare.splitlines() if line.startswith(r"\quad")]
        assert cells
        assert {line.count("&") for line in cells} == {columns}
        assert text.isascii()


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("50 %", r"50 \%"),
        ("≥\u202f1.2×", r"$\geq$\,1.2$\times$"),
        ("a\x00b", "a b"),
        ("−1", "$-$1"),
        ("a--b—c", r"a-{}-b\textemdash{}c"),
        ("é e\u0301 λ 東", r"\'{e} \'{e} $\lambda$ \texttt{U+6771}"),
    ],
)
def test_latex_text(raw: str, shown: str) -> None:
    assert latex(raw) == shown


@pytest.mark.slow
def test_latex_sets_the_tables(verdict: dict[str, Any], tmp_path: Path) -> None:
    """Whatever a model is called; the page says what the tables say."""
    if not (program := shutil.which("pdflatex")):
        pytest.skip("needs pdflatex")
    content = deepcopy(verdict)
    printable = "".join(map(chr, range(32, 127)))
    names = (f"[x] {printable}", "Éléonore ñ ø ß ½ 東京 λΩ 🔥 e\u0301 “q” 10⁻⁴ «»", "a--b")
    for model, name in zip(content["models"][2:], names, strict=False):
        model["name"] = name
    parts = []
    for name, text in latex_tables(content).items():
        (tmp_path / f"{name}.tex").write_text(text, encoding="utf-8")
        parts.append(rf"\input{{{name}}}\par")
    document = r"\documentclass{article}\usepackage[T1]{fontenc}\usepackage{booktabs,amssymb}"
    for head in (document, document.replace(r"\usepackage[T1]{fontenc}", "")):
        body = "\n".join([head, r"\begin{document}\tiny", *parts, r"\end{document}"])
        (tmp_path / "paper.tex").write_text(body, encoding="utf-8")
        words = [program, "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, check=False)
        said = done.stdout.decode("utf-8", "replace")
        assert not done.returncode, said[-1500:]
        assert "Missing character" not in (tmp_path / "paper.log").read_text("utf-8", "replace")


# -- cards -----------------------------------------------------------------------------------------


def test_a_card_reads_back_as_the_hub_reads_it(verdict: dict[str, Any]) -> None:
    from huggingface_hub import ModelCard

    for model in verdict["models"]:
        card = ModelCard(cards.model_card(verdict, model, "owner/base"))
        assert card.data.base_model == "owner/base"
        by_type = {one.metric_type: one for one in card.data.eval_results or ()}
        weak = model["pillars"]["resistance"]["weak"]
        assert ("weak" in by_type) == (weak["value"] is not None)
        if weak["value"] is not None:
            assert by_type["weak"].metric_value == weak["value"]
            assert by_type["weak"].dataset_revision == verdict["suite"]["hash"]
        assert "<b>" not in card.text.replace(r"\<b\>", "")


def test_a_withheld_model_says_so_and_has_no_score(verdict: dict[str, Any]) -> None:
    model = next(model for model in verdict["models"] if model["withheld"])
    card = cards.model_card(verdict, model)
    assert "**Withheld**" in card
    assert "type: weak\n" not in card


@pytest.mark.parametrize("out", ["'/home/me/my runs'", "/home/me/runs"])
def test_a_card_does_not_say_where_it_was_measured(verdict: dict[str, Any], out: str) -> None:
    content = deepcopy(verdict)
    command = f"titer bench a/b --data /home/me/data --seeds 1 --out {out} --cap 2"
    content["reproduce"]["command"] = command
    card = cards.model_card(content, content["models"][2])
    assert "titer bench a/b --data data --seeds 1 --cap 2" in card
    assert "/home/me" not in card


def test_evaluation_results_are_the_hubs_layout(verdict: dict[str, Any]) -> None:
    from huggingface_hub import parse_eval_result_entries

    model = verdict["models"][2]
    text = cards.evaluation_results(verdict, model, "owner/suite")
    entries = {one.task_id: one for one in parse_eval_result_entries(yaml.safe_load(text))}
    assert entries["weak"].value == model["pillars"]["resistance"]["weak"]["value"]
    assert entries["weak"].dataset_id == "owner/suite"
    assert "95 % interval [" in str(entries["weak"].notes)


# -- the folder ------------------------------------------------------------------------------------


def _hashes(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_the_same_verdict_gives_the_same_bytes(verdict: dict[str, Any], tmp_path: Path) -> None:
    small = {**verdict, "models": verdict["models"][:3]}
    files = export(small, tmp_path / "one")
    export(json.loads(json.dumps(small)), tmp_path / "two")
    hashes = _hashes(tmp_path / "one")
    assert hashes == _hashes(tmp_path / "two")
    assert sorted(hashes) == files
    assert {"tables/pillars.tex", "figures/outcomes.svg", "cards/npo/README.md"} <= set(files)
    assert not [name for name in files if name.startswith("cards/base")], "references have no card"


def test_names_that_are_alike_on_disk_stay_apart(
    verdict: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from titer.report import _pdf

    monkeypatch.setattr(_pdf, "available", lambda: False)
    content = deepcopy({**verdict, "models": verdict["models"][:4]})
    content["models"][2]["name"], content["models"][3]["name"] = "../a b", "..-a/b"
    files = export(content, tmp_path / "out")
    found = sorted({name.split("/")[1] for name in files if name.startswith("cards/")})
    assert found == ["a-b", "a-b-2"]
    assert not [name for name in files if name.endswith(".pdf")], "no matplotlib, no PDF"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_what_is_no_export_is_not_overwritten(verdict: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("dear reader")
    with pytest.raises(BadInput, match="no export"):
        export(verdict, tmp_path)
    assert (tmp_path / "thesis.tex").read_text() == "dear reader"


@pytest.mark.parametrize(
    ("given", "said"), [({"width": 3.0}, "--width 3"), ({"dataset": "suite"}, "owner/name")]
)
def test_bad_settings(
    verdict: dict[str, Any], tmp_path: Path, given: dict[str, Any], said: str
) -> None:
    with pytest.raises(BadInput, match=said):
        export(verdict, tmp_path / "out", **given)
    assert not (tmp_path / "out").exists()
