"""Documents do not rot: their code runs, their commands parse, their files exist."""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import CodeType
from typing import Any

import pytest
from typer.main import get_command

from tests.docs.markdown import DOCUMENTS, ROOT, Block, Command, blocks, commands
from titer.cli.app import app
from titer.core import catalogue
from titer.core.records import Kind

GUIDE = "CONTRIBUTING.md"
RUN = ("README.md", GUIDE)
FILES = {block.title: block for block in blocks(GUIDE) if block.title}
KINDS: dict[str, Kind] = {"attacks": "attack", "defences": "defence"}
METHODS = [title for title in FILES if title.startswith("src/titer/")]
TESTS = [title for title in FILES if title.startswith("tests/")]


# -- the worked attack and the worked defence ---------------------------------------------------


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The worked files as the installed package that the guide describes, metadata and all."""
    root = tmp_path_factory.mktemp("worked")
    project = tomllib.loads(FILES["pyproject.toml"].text)["project"]
    for title in (*METHODS, *TESTS):
        (root / Path(title).name).write_text(FILES[title].text, encoding="utf-8")
    info = root / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    heading = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    (info / "METADATA").write_text(heading, encoding="utf-8")
    lines: list[str] = []
    for group, entries in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {value}" for name, value in entries.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root


@pytest.fixture
def installed(package: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The package on the path for one test."""
    monkeypatch.syspath_prepend(str(package))
    importlib.invalidate_caches()
    yield package
    for title in (*METHODS, *TESTS):
        sys.modules.pop(Path(title).stem, None)


def _kind_and_name(title: str) -> tuple[Kind, str]:
    return KINDS[Path(title).parent.name], Path(title).stem


def test_the_guide_works_through_an_attack_and_a_defence_with_tests() -> None:
    assert {kind for kind, _ in map(_kind_and_name, METHODS)} == {"attack", "defence"}
    assert [Path(title).name for title in TESTS] == [f"test_{Path(t).name}" for t in METHODS]


@pytest.mark.parametrize("title", METHODS)
def test_a_worked_method_is_installed_listed_and_described(title: str, installed: Path) -> None:
    kind, name = _kind_and_name(title)
    assert not (ROOT / title).exists(), f"{title} is in the catalogue now; work through another"
    assert name in catalogue.names(kind)
    card = catalogue.card(kind, name)
    assert card.build.__module__ == name
    assert "Source:" in (card.build.__doc__ or "")
    assert "Departs:" in (card.build.__doc__ or "")
    assert any(line.name == name and line.plugin for line in catalogue.summaries(kind))


def _functions(title: str) -> list[str]:
    return re.findall(r"^def (test_\w+)\(\):", FILES[title].text, flags=re.M)


@pytest.mark.parametrize(
    ("title", "function"), [(title, name) for title in TESTS for name in _functions(title)]
)
def test_a_worked_test_passes(title: str, function: str, installed: Path) -> None:
    assert FILES[title].text.count("def test_") == len(_functions(title))
    spec = importlib.util.spec_from_file_location(Path(title).stem, installed / Path(title).name)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    getattr(module, function)()


def test_the_worked_files_are_as_clean_as_ours(package: Path) -> None:
    config = ["--config", str(ROOT / "pyproject.toml"), "--no-cache"]
    for words in (["check", *config], ["format", "--check", *config]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *words, str(package)], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr


# -- python blocks ------------------------------------------------------------------------------


def _python(document: str) -> list[Block]:
    return [block for block in blocks(document) if block.language == "python" and not block.title]


@pytest.mark.parametrize("document", [name for name in RUN if name in DOCUMENTS])
def test_python_blocks_run_in_order(
    document: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One namespace a document, in an empty folder. A block under a comment
    ``<!-- not run: why -->`` is treated like one of the reference pages below."""
    monkeypatch.chdir(tmp_path)
    space: dict[str, Any] = {"__name__": "__main__"}
    for block in _python(document):
        exec(_imports(block) if not block.run else compile(block.text, block.where, "exec"), space)


@pytest.mark.parametrize("document", [name for name in DOCUMENTS if name not in RUN])
def test_python_blocks_of_reference_pages_import_what_exists(document: str) -> None:
    """They may grow models or name folders of the reader's, so they are read and not run."""
    for block in _python(document):
        exec(_imports(block), {})


def _imports(block: Block) -> CodeType:
    """A block's import statements alone; the whole of it must be valid."""
    tree = ast.parse(block.text, block.where)
    tree.body = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    return compile(tree, block.where, "exec")


# -- commands -----------------------------------------------------------------------------------

ASKED = [command for document in DOCUMENTS for command in commands(document, "titer")]
GROUP: Any = get_command(app)


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


@pytest.mark.parametrize("command", ASKED, ids=[" ".join(asked.words) for asked in ASKED])
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


def test_make_targets_and_modules_in_documents_exist() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.M))
    for document in DOCUMENTS:
        for make in commands(document, "make"):
            named = {word for word in make.words if "=" not in word}
            assert named <= targets, f"{make.where}: no target {', '.join(named - targets)}"
        text = (ROOT / document).read_text(encoding="utf-8")
        for module in re.findall(r"python -m (benchmarks\.\w+)", text):
            assert importlib.util.find_spec(module), f"{document}: no module {module}"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_to_files_lead_somewhere(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:|mailto:|#)([^)\s]+)\)", text):
        path = (ROOT / document).parent / target.partition("#")[0]
        assert path.exists(), f"{document}: {target}"
    for target in re.findall(r"`((?:docs|examples)/[\w/.-]+\.\w+)`", text):
        assert (ROOT / target).exists(), f"{document}: {target}"
