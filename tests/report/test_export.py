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
import zlib
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml
from made_verdict import made, typed

from titer.core.errors import BadInput
from titer.report import _paper, cards
from titer.report._paper import to_svg
from titer.report.export import export, to_csv
from titer.report.latex import latex
from titer.report.section import parts
from titer.report.sections.outcomes import heatmap
from titer.report.sections.pareto import pareto
from titer.report.sections.recovery import recovery
from titer.verdict.parts import Verdict

NASTY = r"=cmd()|\input{x}%_&$#{}~^<b>`*[a](b)"
PRESENTATION = ("fill", "stroke")


@pytest.fixture(scope="module")
def verdict() -> Verdict:
    """A made-up verdict, and a model with a hostile name."""
    content = made()
    content["models"][4]["name"] = NASTY
    return typed(content)


def _csv(verdict: Verdict) -> dict[str, str]:
    return {table.name: to_csv(table) for part in parts(verdict) for table in part.tables()}


def _latex(verdict: Verdict) -> dict[str, str]:
    return {k: v for part in parts(verdict) for k, v in (part.latex() or {}).items()}


def _drawings(verdict: Verdict) -> dict[str, str]:
    models = verdict.models
    return {
        "recovery": recovery(models[4], models[0], models[1], chance=0.25, last=300),
        "pareto": pareto(models, "weak", margin=0.02),
        "heatmap": heatmap(verdict.suite.rows, models),
    }


def _drawn(svg: str) -> list[ElementTree.Element]:
    kinds = ("line", "rect", "circle", "polygon", "path", "text")
    return [one for one in ElementTree.fromstring(svg).iter() if one.tag.split("}")[1] in kinds]


# -- figures ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["recovery", "pareto", "heatmap"])
def test_a_figure_on_paper_needs_no_style_sheet(verdict: Verdict, name: str) -> None:
    text = to_svg(_drawings(verdict)[name], 89.0)
    root = ElementTree.fromstring(text)
    assert root.attrib["width"] == "89mm"
    _, _, across, down = map(float, root.attrib["viewBox"].split())
    assert float(root.attrib["height"].removesuffix("mm")) == pytest.approx(
        89 * down / across, 1e-3
    )
    for leftover in ("class=", "var(", "style=", "<style", "none;", "paint-order"):
        assert leftover not in text
    for one in _drawn(text):
        painted = [one.get(key, "none") for key in PRESENTATION]
        # Tiles without an outcome are outlines; a text that is black takes the page's ink.
        assert any(value != "none" for value in painted), one.attrib
        for value in painted:
            assert value == "none" or re.fullmatch(r"#[0-9a-f]{3,6}", value), one.attrib


def test_the_light_page_is_what_is_printed(verdict: Verdict) -> None:
    figure = _drawn(to_svg(_drawings(verdict)["recovery"], 89.0))
    [line] = [one for one in figure if one.get("stroke-width") == "3"]
    assert line.get("stroke") == "#3646a3"
    assert line.get("fill") == "none"
    labels = [one for one in figure if (one.text or "").endswith("worst attack")]
    assert [one.get("font-weight") for one in labels] == ["600"]
    dots = [one for one in figure if one.tag.endswith("circle")]
    assert {one.get("opacity") for one in dots} == {None}, "opacity is not handed on"
    assert ".16" in {one.get("opacity") for one in figure}
    tiles = [
        one.get("fill")
        for one in _drawn(to_svg(_drawings(verdict)["heatmap"], 89.0))
        if one.get("rx") == "2.5"
    ]
    assert {"#d5e5f5", "#b13f0a"} <= set(tiles), "the tile's colour is a variable of its cell"


def test_a_name_stands_on_its_outline(verdict: Verdict) -> None:
    """Most programs paint a stroke over the fill, which would hide the letters."""
    figure = _drawn(to_svg(_drawings(verdict)["pareto"], 89.0))
    names = [one for one in figure if one.text == "trap"]
    assert [one.get("stroke") for one in names] == ["#fff", None]
    assert [one.get("fill") for one in names] == ["none", "#16191d"]


@pytest.fixture
def cairo() -> None:
    if not _paper.available():
        pytest.skip("needs CairoSVG and the system's cairo")


@pytest.mark.usefixtures("cairo")
def test_pdf_has_the_size_the_fonts_and_no_date(verdict: Verdict) -> None:
    svg = to_svg(_drawings(verdict)["pareto"], 89.0)
    one, two = _paper.to_pdf(svg), _paper.to_pdf(svg)
    assert one == two
    assert b"/CreationDate" not in one
    [title] = re.findall(rb"/Title <FEFF([0-9A-F]+)>", one)
    assert bytes.fromhex(title.decode()).decode("utf-16-be").startswith("Worst harm W(B)")
    assert b"/FontFile" in one, "the font is inside"
    _, _, across, down = map(float, ElementTree.fromstring(svg).attrib["viewBox"].split())
    [box] = re.findall(rb"/MediaBox \[ 0 0 ([\d.]+) ([\d.]+) \]", one)
    wide = 89 * 72 / 25.4
    assert [float(side) for side in box] == pytest.approx([wide, wide * down / across], abs=0.01)


@pytest.mark.usefixtures("cairo")
@pytest.mark.parametrize("name", ["recovery", "pareto", "heatmap"])
def test_pdf_is_painted_as_the_drawing_says(verdict: Verdict, name: str) -> None:
    """Every colour of the drawing is set on the page, and text is text that can be searched."""
    svg = to_svg(_drawings(verdict)[name], 89.0)
    pdf = _paper.to_pdf(svg)
    streams = b""
    for found in re.finditer(rb"stream\r?\n(.*?)endstream", pdf, flags=re.S):
        try:
            streams += zlib.decompress(found[1])
        except zlib.error:
            continue
    triples = re.findall(rb"(?:^|\s)([\d.]+) ([\d.]+) ([\d.]+) (?:rg|RG)\b", streams)
    painted = {tuple(round(255 * float(part)) for part in one) for one in triples}
    wanted = {one.get(key) for one in _drawn(svg) for key in PRESENTATION} - {None, "none"}
    for colour in wanted:
        full = colour[1:] if len(colour) == 7 else "".join(2 * char for char in colour[1:])
        assert tuple(bytes.fromhex(full)) in painted, colour
    assert b" Tf" in streams


# -- tables ----------------------------------------------------------------------------------------


def test_csv_holds_every_number_as_it_is(verdict: Verdict) -> None:
    rows = list(csv.DictReader(io.StringIO(_csv(verdict)["pillars"])))
    model = verdict.models[2]
    [found] = [r for r in rows if r["model"] == model.name and r["number"] == "weak"]
    est = model.resistance.weak
    assert [float(found[end]) for end in ("value", "low", "high")] == [est.value, *est.interval]
    attacks = list(csv.DictReader(io.StringIO(_csv(verdict)["attacks"])))
    assert len(attacks) == 4 * sum(len(model.attacks) for model in verdict)


def test_a_name_is_no_formula_in_a_spreadsheet(verdict: Verdict) -> None:
    rows = csv.DictReader(io.StringIO(_csv(verdict)["attacks"]))
    names = {row["model"] for row in rows}
    assert f"'{NASTY}" in names
    assert not any(name.startswith("=") for name in names)


def test_latex_is_whole_and_a_name_is_no_command(verdict: Verdict) -> None:
    for text in _latex(verdict).values():
        assert r"\input" not in text.replace(r"\textbackslash{}input", "")
        body = "\n".join(line for line in text.splitlines() if not line.startswith("%"))
        bare = re.sub(r"\\[{}%&$#_]", "", body)
        assert bare.count("{") == bare.count("}")
        assert bare.count("$") % 2 == 0
        columns = len(verdict)
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
        ("φ ε κ τ ρ θ", r"$\varphi$ $\varepsilon$ $\kappa$ $\tau$ $\rho$ $\theta$"),
        ("× − — – ≥ ≤", r"$\times$ $-$ \textemdash{} \textendash{} $\geq$ $\leq$"),
        ("∞ → … · ± °", r"$\infty$ $\to$ \ldots{} $\cdot$ $\pm$ $^\circ$"),
        ("10⁻⁴ ✕", r"10\texttt{U+207B}\texttt{U+2074} \texttt{U+2715}"),
        ("a|b<c>d`e", r"a\textbar{}b\textless{}c\textgreater{}d\textasciigrave{}e"),
    ],
)
def test_latex_text(raw: str, shown: str) -> None:
    assert latex(raw) == shown


@pytest.mark.slow
def test_latex_sets_the_tables(verdict: Verdict, tmp_path: Path) -> None:
    """Whatever a model is called; the page says what the tables say."""
    if not (program := shutil.which("pdflatex")):
        pytest.skip("needs pdflatex")
    content = deepcopy(verdict.to_json())
    printable = "".join(map(chr, range(32, 127)))
    names = (f"[x] {printable}", "Éléonore ñ ø ß ½ 東京 λΩ 🔥 e\u0301 “q” 10⁻⁴ «»", "a--b")
    for model, name in zip(content["models"][2:], names, strict=False):
        model["name"] = name
    parts = []
    for name, text in _latex(typed(content)).items():
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


def test_a_card_reads_back_as_the_hub_reads_it(verdict: Verdict) -> None:
    from huggingface_hub import ModelCard

    for model in verdict:
        card = ModelCard(cards.model_card(verdict, model, "owner/base"))
        assert card.data.base_model == "owner/base"
        by_type = {one.metric_type: one for one in card.data.eval_results or ()}
        weak = model.resistance.weak
        assert ("weak" in by_type) == (weak.value is not None)
        if weak.value is not None:
            assert by_type["weak"].metric_value == weak.value
            assert by_type["weak"].dataset_revision == verdict.suite.hash
        assert "<b>" not in card.text.replace(r"\<b\>", "")


def test_a_withheld_model_says_so_and_has_no_score(verdict: Verdict) -> None:
    model = next(model for model in verdict if model.withheld)
    card = cards.model_card(verdict, model)
    assert "**Withheld**" in card
    assert "type: weak\n" not in card


@pytest.mark.parametrize("out", ["'/home/me/my runs'", "/home/me/runs"])
def test_a_card_does_not_say_where_it_was_measured(verdict: Verdict, out: str) -> None:
    content = deepcopy(verdict.to_json())
    command = f"titer bench a/b --data /home/me/data --seeds 1 --out {out} --cap 2"
    content["reproduce"]["command"] = command
    changed = typed(content)
    card = cards.model_card(changed, changed.models[2])
    assert "titer bench a/b --data data --seeds 1 --cap 2" in card
    assert "/home/me" not in card


def test_evaluation_results_are_the_hubs_layout(verdict: Verdict) -> None:
    from huggingface_hub import parse_eval_result_entries

    model = verdict.models[2]
    text = cards.evaluation_results(verdict, model, "owner/suite")
    entries = {one.task_id: one for one in parse_eval_result_entries(yaml.safe_load(text))}
    assert entries["weak"].value == model.resistance.weak.value
    assert entries["weak"].dataset_id == "owner/suite"
    assert "95 % interval [" in str(entries["weak"].notes)


# -- the folder ------------------------------------------------------------------------------------


def _hashes(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_the_same_verdict_gives_the_same_bytes(verdict: Verdict, tmp_path: Path) -> None:
    small = replace(verdict, models=verdict.models[:3])
    files = export(small, tmp_path / "one")
    export(Verdict.from_json(json.loads(json.dumps(small.to_json()))), tmp_path / "two")
    hashes = _hashes(tmp_path / "one")
    assert hashes == _hashes(tmp_path / "two")
    assert sorted(hashes) == files
    assert {"tables/pillars.tex", "figures/outcomes.svg", "cards/npo/README.md"} <= set(files)
    assert not [name for name in files if name.startswith("cards/base")], "references have no card"


def test_names_that_are_alike_on_disk_stay_apart(
    verdict: Verdict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_paper, "available", lambda: False)
    content = deepcopy(replace(verdict, models=verdict.models[:4]).to_json())
    content["models"][2]["name"], content["models"][3]["name"] = "../a b", "..-a/b"
    files = export(typed(content), tmp_path / "out")
    found = sorted({name.split("/")[1] for name in files if name.startswith("cards/")})
    assert found == ["a-b", "a-b-2"]
    assert not [name for name in files if name.endswith(".pdf")], "no CairoSVG, no PDF"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_what_is_no_export_is_not_overwritten(verdict: Verdict, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("dear reader")
    with pytest.raises(BadInput, match="no export"):
        export(verdict, tmp_path)
    assert (tmp_path / "thesis.tex").read_text() == "dear reader"


@pytest.mark.parametrize(
    ("given", "said"), [({"width": 3.0}, "--width 3"), ({"dataset": "suite"}, "owner/name")]
)
def test_bad_settings(verdict: Verdict, tmp_path: Path, given: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        export(verdict, tmp_path / "out", **given)
    assert not (tmp_path / "out").exists()
