"""Texts that no option expects, given to each text of each command: a sentence, nothing written."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.hostile.commands import Given, refused, texts

pytestmark = [pytest.mark.exact, pytest.mark.xdist_group("hostile-words")]

TEXTS = {
    "empty": "",
    "escape": "\x1b[31mred",
    "no text": "\udcff",
    "turned": "abc\u202edef",
    "emoji": "🙂" * 40,
    "long": "n" * 5000,
    "nowhere": "/nonexistent/x",
    "template": "{{ 7 * 7 }}${IFS}%s%n",
    "shell": "; touch owned; $(touch owned)",
    "nothing equals": "=",
    "brackets": "[" * 1000,
    "json": '{"a": NaN}',
    "half a name": "fabula:",
    "a number": "9" * 5000,
}
RECORDED = Path(__file__).parents[1] / "data" / "recorded"
FREE = {("export", "--dataset"), ("lock", "--domain")}
"""Texts that may be anything that can be printed."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(RECORDED, tmp_path_factory.mktemp("words") / "run"))


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("one", list(texts()), ids=str)
def test_a_text_that_is_none_of_those_allowed_is_refused(
    titer: Run,
    tmp_path: Path,
    run: Path,
    monkeypatch: pytest.MonkeyPatch,
    one: Given,
    text: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "out"
    words = one.words(TEXTS[text], folder=run, results=run, target=run, out=out, to=out)
    if (one.command[0], one.argument.option) in FREE and TEXTS[text].isprintable():
        return
    refused(titer, words)
    assert not list(tmp_path.iterdir())
