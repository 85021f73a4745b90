"""What the commands foretell, and what they say of rates, of memory and of what comes next."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from tests.cli.conftest import Run

NUMBER = r"about [\d.]+ (s|min|h)"


def single(own: Path, out: Path, *more: str, name: str = "npo") -> list[str]:
    verb = "immunise" if name == "npo" else "attack"
    words = [verb, name, str(own / "llama"), "--data", str(own / "data"), "--out", str(out)]
    return [*words, "--steps", "2", *more]


@pytest.mark.parametrize("name", ["npo", "V01"])
def test_one_method_is_priced_and_nothing_is_written(
    titer: Run, own: Path, tmp_path: Path, name: str
) -> None:
    words = single(own, tmp_path / "out", "--dry-run", name=name)
    code, out, err = titer(*words)
    assert code == 0, err
    assert re.search(rf"would spend 2 steps: {NUMBER}, [\d,]+ MiB", " ".join(out.split()))
    found = json.loads(titer(*words, "--json")[1])
    assert found["needed"]["seconds"] > 0
    assert found["needed"]["memory"] > 2**26
    assert found["would"]
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_rows_that_would_outlast_the_timeout_are_named_before_they_run(
    titer: Run, own: Path, tmp_path: Path
) -> None:
    words = ["bench", str(own / "llama"), "--data", str(own / "data"), "--out", str(tmp_path / "r")]
    code, out, err = titer(*words, "--dry-run", "--timeout", "0.01")
    assert code == 0, err
    said = " ".join(out.split())
    assert re.search(r"watch: a trial of .*S03.* takes longer than --timeout 0.01", said)
    assert "dearest rows: " in said
    assert "watch: a trial" not in " ".join(titer(*words, "--dry-run")[1].split())


@pytest.mark.slow
def test_the_doctor_says_what_fits(titer: Run, own: Path) -> None:
    words = ("doctor", str(own / "llama"), "--data", str(own / "data"), "--suite", "quick")
    code, out, err = titer(*words, "--json")
    assert code == 0, err
    fit = json.loads(out)["fit"]
    assert all(rate > 0 for rate in fit["tokens_per_second"].values())
    assert set(fit["suites"]) == {"quick"}
    assert fit["suites"]["quick"]["seconds"] > 0
    assert {row["row"] for row in fit["suites"]["quick"]["rows"]} >= {"S03", "V01", "none"}
    text = titer(*words)[1]
    assert "training an adapter: " in text
    assert "quick on this model alone" in text


def test_rates_are_told_with_their_origin(titer: Run, own: Path, tmp_path: Path) -> None:
    _, _, err = titer(*single(own, tmp_path / "a", "--set", "lr=1e-4"))
    assert "npo: learning rate 0.0001, as given" in err
    _, _, err = titer(*single(own, tmp_path / "b"))
    assert "from the preset npo-testbed" in err
    _, _, err = titer(*single(own, tmp_path / "c", name="S03"))
    assert "S03: learning rate 0.001, uncalibrated" in err
    assert "--calibrate" in err
    assert "learning rate" not in titer(*single(own, tmp_path / "d", "--quiet"))[2]


@pytest.mark.slow
def test_a_rate_is_calibrated_where_asked(titer: Run, own: Path, tmp_path: Path) -> None:
    words = single(own, tmp_path / "out", "--calibrate", name="S03")
    code, _, err = titer(*words)
    assert code == 0, err
    assert "calibrated on this model by the sweep of a study" in err
    rates = json.loads((tmp_path / "out" / "trace.json").read_text())["rates"]
    assert max(rates) > 0
    refused = titer(*words, "--set", "lr=1")
    assert refused[0] == 2
    assert "--calibrate finds the rate" in refused[2]


def test_the_next_command_is_whole_and_works(titer: Run, own: Path, tmp_path: Path) -> None:
    code, out, err = titer(*single(own, tmp_path / "made"))
    assert code == 0, err
    words = shlex.split(out.strip().splitlines()[-1])
    assert words[:3] == ["titer", "bench", str(tmp_path / "made")]
    assert words[words.index("--undefended") + 1] == str(own / "llama")
    assert words[words.index("--data") + 1] == str(own / "data")
    # Without --undefended the model would be its own reference.
    alone = ["bench", str(tmp_path / "made"), "--data", str(own / "data")]
    for more in ((), ("--undefended", str(tmp_path / "made"))):
        code, _, err = titer(*alone, *more, "--out", str(tmp_path / "run"), "--dry-run")
        assert code == 2
        assert "was immunised (npo on " in err
        assert str(own / "llama") in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--memory", "1MB"), "even one row at a time"),
        (("--memory", "much"), "is no size; write 6GB"),
        (("--memory", "0GB"), "is no size"),
        (("--save-every", "0"), "number from 1 to"),
        (("--set", "base.lr=1"), "holds no method"),
    ],
)
def test_what_cannot_be_is_a_sentence(
    titer: Run, own: Path, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    code, _, err = titer(*single(own, tmp_path / "out", *words))
    assert code == 2
    assert said in err
    assert "Traceback" not in err
    assert not (tmp_path / "out").exists()


def test_a_batch_in_parts_is_another_result(titer: Run, own: Path, tmp_path: Path) -> None:
    """Its numbers differ by rounding, and its folder says so."""
    out = tmp_path / "out"
    code, _, err = titer(*single(own, out, "--memory", "64GB"))
    assert code == 0, err
    assert "chunk" not in json.loads((out / "titer.json").read_text())
    code, _, err = titer(*single(own, tmp_path / "half", "--dtype", "bfloat16"))
    assert code == 0, err
    facts = json.loads((tmp_path / "half" / "titer.json").read_text())
    assert facts["held"] == "bfloat16"
    assert "half-precision-weights" in facts["flags"]
    assert facts["losses"]
    refused = titer(*single(own, tmp_path / "half"))
    assert refused[0] == 2
    assert "another immunised model" in refused[2]
