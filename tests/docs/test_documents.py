"""Documents do not rot: their code runs, their commands parse, their links lead somewhere."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import tomllib
from pathlib import Path
from types import CodeType
from typing import Any

import pytest
import yaml
from typer.main import get_command
from typer.testing import CliRunner

import titer
from tests.docs.markdown import (
    DOCUMENTS,
    ROOT,
    SHELL,
    Block,
    Command,
    anchors,
    blocks,
    calls,
    commands,
    links,
    prose,
)
from titer.cli.app import app

LANGUAGES = {SHELL, "python", "text", "json", "yaml", "toml", "{eval-rst}"}
BLOCKS = [block for document in DOCUMENTS for block in blocks(document)]
NOT_RUN = {"it needs a model and labelled text of yours": 1, "it needs a run folder": 1}
"""Why a block is not run, and how many blocks say so."""
TRAINS = {"README.md", "docs/tutorial.md", "docs/how-to/own-model.md"}
"""Documents whose Python trains models for more than five seconds."""


def test_every_block_has_a_language_that_is_handled_here() -> None:
    unknown = [block.where for block in BLOCKS if block.language not in LANGUAGES]
    assert unknown == [], f"give these blocks one of {', '.join(sorted(LANGUAGES))}"


def test_blocks_that_are_not_run_say_why_and_are_counted() -> None:
    reasons = [block.not_run for block in BLOCKS if block.not_run]
    assert {reason: reasons.count(reason) for reason in reasons} == NOT_RUN


def test_blocks_of_data_can_be_read() -> None:
    read = {"json": json.loads, "yaml": yaml.safe_load, "toml": tomllib.loads}
    for block in BLOCKS:
        if block.language in read:
            assert read[block.language](block.text), block.where


# -- python blocks ------------------------------------------------------------------------------


def _python(document: str) -> list[Block]:
    return [block for block in blocks(document) if block.language == "python" and not block.title]


@pytest.mark.parametrize(
    "document",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name in TRAINS else [])
        for name in DOCUMENTS
        if _python(name)
    ],
)
def test_python_blocks_run_in_order(
    document: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One namespace a document, in an empty folder. Of a block that is not run, the imports are."""
    monkeypatch.chdir(tmp_path)
    space: dict[str, Any] = {"__name__": "__main__"}
    for block in _python(document):
        exec(_imports(block) if block.not_run else compile(block.text, block.where, "exec"), space)


def _imports(block: Block) -> CodeType:
    """A block's import statements alone; the whole of it must be valid."""
    tree = ast.parse(block.text, block.where)
    tree.body = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    return compile(tree, block.where, "exec")


# -- commands -----------------------------------------------------------------------------------

ASKED = [command for document in DOCUMENTS for command in commands(document, "titer")]
GROUP: Any = get_command(app)
QUICK = {"list", "card", "doctor"}
DRY = {"bench", "immunise", "attack", "race"}
WORKED = {"noise_injection", "inverted_hinge"}
"""Methods of the how-tos; tests/docs/test_worked_package.py installs and runs them."""


def _options(parser: Any) -> set[str]:
    return {name for item in parser.params for name in (*item.opts, *item.secondary_opts)}


def _parse(command: Command) -> None:
    """Parse as the command line would, short of running: types and required values too, where the
    command stands in a block of its own."""
    parser, words = GROUP, list(command.words)
    while hasattr(parser, "commands") and words and not words[0].startswith("-"):
        assert words[0] in parser.commands, f"{command.where}: no command {words[0]!r}"
        parser = parser.commands[words.pop(0)]
    given = {word.split("=")[0].strip("[]") for word in words if word.strip("[").startswith("-")}
    unknown = given - _options(parser) - {"--help"}
    assert not unknown, f"{command.where}: no option {', '.join(sorted(unknown))}"
    if command.whole and not hasattr(parser, "commands") and "--help" not in given:
        try:
            parser.make_context(parser.name, words)
        except Exception as error:
            said = getattr(error, "message", "") or str(error)
            raise AssertionError(f"{command.where}: {' '.join(command.words)}: {said}") from error


def _ids(asked: list[Command]) -> list[str]:
    return [" ".join(command.words) for command in asked]


@pytest.mark.parametrize("command", ASKED, ids=_ids(ASKED))
def test_a_titer_command_in_a_document_parses(command: Command) -> None:
    _parse(command)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("benhc m", "no command 'benhc'"),
        ("bench m --sweet quick", "no option --sweet"),
        ("bench m --seeds many", "many"),
        ("attack S03", "S03"),
    ],
)
def test_a_command_that_would_fail_is_found(words: str, said: str) -> None:
    with pytest.raises(AssertionError, match=said):
        _parse(Command("here", tuple(words.split()), True))


WHOLE = [command for command in ASKED if command.whole and not WORKED & set(command.words)]
RUN = [command for command in WHOLE if command.words[0] in QUICK]
REHEARSED = [
    command
    for command in WHOLE
    if command.words[0] in DRY and any(word.startswith("fabula:") for word in command.words[1:3])
]


@pytest.mark.parametrize("command", RUN, ids=_ids(RUN))
def test_a_quick_command_runs(command: Command) -> None:
    done = CliRunner().invoke(app, list(command.words))
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize("command", REHEARSED, ids=_ids(REHEARSED))
def test_a_long_command_on_the_testbed_is_accepted(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dry run builds every method with its settings, and checks all that the command would."""
    monkeypatch.chdir(tmp_path)
    words = [word for word in command.words if word != "--dry-run"]
    done = CliRunner().invoke(app, [*words, "--dry-run"])
    assert done.exit_code == 0, f"{command.where}: {done.output} {done.exception}"
    assert list(tmp_path.iterdir()) == []


def test_the_judge_runs_as_the_page_says() -> None:
    asked = [command for command in WHOLE if command.words[:2] == ("judge", "refusal")]
    files = [ROOT / command.words[2] for command in asked if (ROOT / command.words[2]).is_file()]
    assert files
    for file in files:
        done = CliRunner().invoke(app, ["judge", "refusal", str(file)])
        assert done.exit_code == 0, done.output
        assert "misses 16 of 274 refusals and raises 14 false alarms" in done.output


def test_other_programs_in_blocks_are_known_and_exist() -> None:
    """Nothing in a shell block goes unread: each program is checked in the way that it can be."""
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.M))
    for block in BLOCKS:
        for words in calls(block.text) if block.language == SHELL else ():
            program, rest = Path(words[0]).name, words[1:]
            match program:
                case "titer":
                    pass  # parsed above
                case "make":
                    named = {word for word in rest if "=" not in word}
                    assert named <= targets, f"{block.where}: no target {named - targets}"
                case "python" if rest[0] == "-m":
                    _known_module(block.where, rest[1], rest[2:])
                case "python":
                    assert (ROOT / rest[0]).is_file(), f"{block.where}: no file {rest[0]}"
                case "pip" | "git" | "cd" | "lm_eval":
                    pass  # pip: tests/docs/test_worked_package.py; the others are not ours
                case _:
                    pytest.fail(f"{block.where}: nothing here checks {program!r}")


def _known_module(where: str, module: str, rest: tuple[str, ...]) -> None:
    """The module exists, and its source knows the options that the document gives it."""
    found = importlib.util.find_spec(module)
    assert found is not None, f"{where}: no module {module}"
    assert found.origin is not None
    source = Path(found.origin).read_text(encoding="utf-8")
    for option in (word for word in rest if word.startswith("--")):
        assert f'"{option}"' in source, f"{where}: {module} has no option {option}"


def test_modules_and_targets_in_sentences_exist() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.M))
    for document in DOCUMENTS:
        for make in commands(document, "make"):
            named = {word for word in make.words if "=" not in word}
            assert named <= targets, f"{make.where}: no target {', '.join(named - targets)}"
        for python in commands(document, "python"):
            if python.words[0] == "-m":
                _known_module(python.where, python.words[1], python.words[2:])


# -- links --------------------------------------------------------------------------------------


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_to_a_file_and_to_a_heading_in_it(document: str) -> None:
    here = ROOT / document
    for path, anchor in links(document):
        target = (here.parent / path) if path else here
        assert target.exists(), f"{document}: {path}"
        if anchor:
            assert anchor in anchors(target), f"{document}: {path} has no heading #{anchor}"
    text = here.read_text(encoding="utf-8")
    for name in re.findall(r"`((?:docs|examples|studies|benchmarks|tests)/[\w/.-]+\.\w+)`", text):
        assert (ROOT / name).exists(), f"{document}: {name}"


@pytest.mark.parametrize("document", [name for name in DOCUMENTS if "decisions/0" not in name])
def test_code_that_a_document_names_exists(document: str) -> None:
    """Files of a room and dotted names; decisions may name what is gone."""
    text = prose(document)
    for name in re.findall(r"`(?:src/titer/)?([a-z]+/[\w/]+\.py)`", text):
        assert (ROOT / "src" / "titer" / name).is_file() or (ROOT / name).is_file(), name
    for dotted in re.findall(r"`titer\.((?!json|toml)[\w.]+)", text):
        if dotted in titer.__all__:
            continue
        place, *names = _room(dotted.split("."))
        source = place.read_text("utf-8") if place.is_file() else ""
        for one in names:
            assert one in source, f"titer.{dotted}"


def _room(parts: list[str]) -> list[Any]:
    """The file or folder that a dotted name lies in, and the names left to be found in it."""
    place = ROOT / "src" / "titer"
    while parts and (place / parts[0]).is_dir():
        place, parts = place / parts[0], parts[1:]
    if parts and (place / f"{parts[0]}.py").is_file():
        place, parts = place / f"{parts[0]}.py", parts[1:]
    return [place, *parts]


def test_code_names_documents_that_exist() -> None:
    for room in ("src", "tests", "studies", "benchmarks", "examples"):
        for path in (ROOT / room).rglob("*.py"):
            for name in re.findall(r"\b(?:docs|studies)/[\w/-]+\.md", path.read_text("utf-8")):
                assert (ROOT / name).exists(), f"{path.relative_to(ROOT)}: {name}"


# -- pages that say what the code says ----------------------------------------------------------


def test_every_page_is_in_the_contents() -> None:
    """Reachable from the index, so that the site and a reader of the folder find it."""
    seen: set[Path] = set()
    left = [ROOT / "docs" / "index.md"]
    while left:
        page = left.pop()
        if page in seen:
            continue
        seen.add(page)
        name = page.relative_to(ROOT).as_posix()
        left += [
            target
            for path, _ in links(name)
            if path.endswith(".md") and (target := (page.parent / path).resolve()).is_file()
        ]
    assert {path for path in (ROOT / "docs").glob("**/*.md")} - seen == set()


@pytest.mark.parametrize("name", ["commands", "verdict", "glossary", "rows", "cheats", "sets"])
def test_a_generated_page_is_what_it_is_made_of(name: str) -> None:
    spec = importlib.util.spec_from_file_location(f"docs_{name}", ROOT / "docs" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    page = module.PAGE.read_text(encoding="utf-8")
    assert page == module.page(), f"write it again: python docs/{name}.py"


def test_the_tutorial_reads_the_table_that_is_printed() -> None:
    """Each line's name in the tutorial's table is one that the report prints."""
    (table,) = (block for block in blocks("docs/tutorial.md") if "Harm before" in block.text)
    printed = "\n".join(
        path.read_text(encoding="utf-8")
        for room in ("report", "pillars")
        for path in (ROOT / "src" / "titer" / room).rglob("*.py")
    )
    for line in table.text.splitlines():
        name = line.split("|")[0].strip().lstrip("●✕◐■—… ").split(" (")[0]
        if name and not name.startswith("-"):
            assert name in printed, name


def test_the_page_on_the_run_folder_names_files_that_are_written() -> None:
    page = (ROOT / "docs" / "reference" / "run-folder.md").read_text(encoding="utf-8")
    code = "\n".join(path.read_text("utf-8") for path in (ROOT / "src").rglob("*.py"))
    cells = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    named = [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]
    assert len(named) > 12
    for name in named:
        last = name.rstrip("/").split("/")[-1]
        for part in name.rstrip("/").split("/") if "KEY" in last else (last,):
            found = part.removeprefix("KEY")
            assert not found or found in code, f"{name}: nothing in src writes {found}"


def test_the_complete_data_yaml_is_that_of_the_example() -> None:
    (block,) = (one for one in blocks("docs/reference/data-folder.md") if one.language == "yaml")
    kept = (ROOT / "examples" / "own_model" / "data.yaml").read_text(encoding="utf-8")
    assert yaml.safe_load(block.text) == yaml.safe_load(kept)


def test_the_data_folder_of_the_how_to_is_accepted(tmp_path: Path) -> None:
    from titer.worlds.folder import load

    manifest, *_ = (one for one in blocks("docs/how-to/own-data.md") if one.language == "yaml")
    (line,) = (one for one in blocks("docs/how-to/own-data.md") if one.language == "json")
    (tmp_path / "data.yaml").write_text(manifest.text, encoding="utf-8")
    shape = json.loads(line.text)
    for name in ("defend", "attack", "select", "report", "keep", "gardens"):
        item = {**shape, "prompt": f"{shape['prompt']} {name}", "fact": name, "entity": name}
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(item) + "\n", encoding="utf-8")
    world = load(tmp_path)
    assert (world.harm, world.chance) == ("choice", 0.25)
    assert [len(split) for split in (world.hazards["vaults"].attack, world.retain)] == [1, 1]


def test_decisions_have_a_number_a_status_and_a_date() -> None:
    folder = ROOT / "docs" / "decisions"
    listed = (folder / "README.md").read_text(encoding="utf-8")
    records = sorted(path for path in folder.glob("*.md") if path.name != "README.md")
    assert [path.name[:4] for path in records] == [
        f"{number:04d}" for number in range(1, len(records) + 1)
    ]
    for path in records:
        title, _, status = path.read_text(encoding="utf-8").splitlines()[:3]
        assert title.startswith(f"# {path.name[:4]}. "), path.name
        found = re.fullmatch(
            r"Status: (accepted|withdrawn|superseded by \[\d{4}\]\(([^)]+)\))\. "
            r"Date: (\d{4}-\d\d-\d\d)\.( Revised: \d{4}-\d\d-\d\d\.)?",
            status,
        )
        assert found, f"{path.name}: {status}"
        if found[2]:
            assert (folder / found[2]).is_file(), f"{path.name}: {found[2]}"
        entry = f"| [{title.removeprefix('# ')}]({path.name}) |"
        line = next((row for row in listed.splitlines() if row.startswith(entry)), "")
        assert line, f"{path.name} is not in the list as it is titled"
        assert found[1].split()[0] in line.split(" | ")[1], path.name
        assert found[3] in line, path.name
