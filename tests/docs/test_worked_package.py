"""The worked attack and defence of the how-tos, as the package that the third one describes."""

from __future__ import annotations

import importlib
import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.markdown import ROOT, blocks, commands
from titer.core import catalogue
from titer.core.records import Kind

PAGES = ("docs/how-to/new-attack.md", "docs/how-to/new-defence.md", "docs/how-to/package.md")
FILES = {block.title: block.text for page in PAGES for block in blocks(page) if block.title}
KINDS: dict[str, Kind] = {"attacks": "attack", "defences": "defence"}
METHODS = [title for title in FILES if title.startswith("src/titer/")]
TESTS = [title for title in FILES if title.startswith("tests/")]
PACKAGE = "worked_methods"


def _kind_and_name(title: str) -> tuple[Kind, str]:
    return KINDS[Path(title).parent.name], Path(title).stem


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package's source folder, laid out as the page shows it."""
    root = tmp_path_factory.mktemp("worked-methods")
    (layout,) = (block.text for block in blocks(PAGES[-1]) if block.language == "text")
    files = {line.split()[0] for line in layout.splitlines()[1:]}
    (root / PACKAGE).mkdir()
    (root / "tests").mkdir()
    (root / "pyproject.toml").write_text(FILES["pyproject.toml"], encoding="utf-8")
    (root / PACKAGE / "__init__.py").touch()
    for title in METHODS:
        (root / PACKAGE / Path(title).name).write_text(FILES[title], encoding="utf-8")
    for title in TESTS:
        (root / "tests" / Path(title).name).write_text(FILES[title], encoding="utf-8")
    laid = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
    assert laid == files, "the page's layout names other files"
    return root


@pytest.fixture(scope="module")
def site(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where pip installed it, by the page's own command and a target of the test's."""
    (install,) = commands(PAGES[-1], "pip")
    target = tmp_path_factory.mktemp("site")
    words = [*install.words, "--no-index", "--quiet", "--target", str(target)]
    done = subprocess.run(
        [sys.executable, "-m", "pip", *words], cwd=package, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return target


@pytest.fixture
def installed(site: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The package on the path for one test."""
    monkeypatch.syspath_prepend(str(site))
    importlib.invalidate_caches()
    yield
    for name in [name for name in sys.modules if name.split(".")[0] == PACKAGE]:
        del sys.modules[name]


def test_the_pages_work_through_an_attack_and_a_defence_with_tests() -> None:
    assert {kind for kind, _ in map(_kind_and_name, METHODS)} == {"attack", "defence"}
    assert [Path(title).name for title in TESTS] == [f"test_{Path(t).name}" for t in METHODS]


@pytest.mark.parametrize("title", METHODS)
@pytest.mark.usefixtures("installed")
def test_a_worked_method_is_installed_listed_and_described(title: str) -> None:
    kind, name = _kind_and_name(title)
    assert not (ROOT / title).exists(), f"{title} is in the catalogue now; work through another"
    assert name in catalogue.names(kind)
    card = catalogue.card(kind, name)
    assert card.build.__module__ == f"{PACKAGE}.{name}"
    assert "Source:" in (card.build.__doc__ or "")
    assert "Departs:" in (card.build.__doc__ or "")
    assert any(line.name == name and line.plugin for line in catalogue.summaries(kind))


def _functions(title: str) -> list[str]:
    return re.findall(r"^def (test_\w+)\(\):", FILES[title], flags=re.M)


@pytest.mark.parametrize(
    ("title", "function"), [(title, name) for title in TESTS for name in _functions(title)]
)
@pytest.mark.usefixtures("installed")
def test_a_worked_test_passes(title: str, function: str, package: Path) -> None:
    assert FILES[title].count("def test_") == len(_functions(title))
    file = package / "tests" / Path(title).name
    spec = importlib.util.spec_from_file_location(file.stem, file)
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
