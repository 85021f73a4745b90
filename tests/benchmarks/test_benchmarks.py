"""Benchmarks print what they say they print, and compare like with like. Nothing here is timed."""

from __future__ import annotations

import itertools
import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from benchmarks._timing import (
    Figure,
    Sample,
    absolute,
    children,
    gathered,
    interleave,
    interval,
    measured,
    median,
    ratio,
    show,
)
from benchmarks._tree import Tree, environment

from benchmarks import loop, probing, startup
from titer.nn.trainable import Parameters, trainable
from titer.worlds.organisms import SIZES

KEYS = ["what", "unit", "median", "low", "high", "against"]


def a_round(ours: float, bare: float) -> dict[str, Sample]:
    return {"ours": Sample(wall=2 * ours, cpu=ours), "bare": Sample(wall=bare, cpu=bare)}


@pytest.mark.parametrize(
    ("values", "middle"), [([3.0], 3.0), ([4.0, 1.0], 2.5), ([5.0, 1.0, 2.0], 2.0)]
)
def test_the_median(values: list[float], middle: float) -> None:
    assert median(values) == middle


def test_the_interval_is_the_narrowest_that_covers_the_median() -> None:
    for count in range(1, 40):
        low, high = interval([float(value) for value in range(count)])
        below = int(low)
        assert high == count - 1 - below

        def coverage(left_out: int, count: int = count) -> float:
            return 1 - 2 * sum(math.comb(count, k) for k in range(left_out + 1)) / 2**count

        assert below == 0 or coverage(below) >= 0.95
        assert coverage(below + 1) < 0.95
    assert interval([9.0, 1.0, 5.0]) == (1.0, 9.0)


def test_a_ratio_is_taken_within_a_round() -> None:
    """A machine that slows down tenfold between rounds does not show."""
    taken = [a_round(1.1 * speed, speed) for speed in (1.0, 10.0, 3.0)]
    by_cpu = ratio("loop", taken, "ours", "bare", "cpu")
    assert by_cpu.median == pytest.approx(1.1) == by_cpu.low == by_cpu.high
    assert ratio("loop", taken, "ours", "bare", "wall").median == pytest.approx(2.2)
    assert (by_cpu.unit, by_cpu.against, by_cpu.what) == ("ratio", "bare", "loop, cpu")


def test_an_absolute_figure_is_divided() -> None:
    figure = absolute("step", "ms", [2.0, 4.0, 3.0], "goal", per=0.5)
    assert figure == Figure(what="step", unit="ms", median=6.0, low=4.0, high=8.0, against="goal")


def test_rounds_are_interleaved_and_turn_round() -> None:
    order: list[str] = []

    def work(name: str) -> Callable[[], Sample]:
        return lambda: order.append(name) or Sample(wall=1.0, cpu=1.0)

    taken = interleave({name: work(name) for name in "abc"}, 3)
    assert "".join(order) == "abccbaabc"
    assert [list(found) for found in taken] == [["a", "b", "c"]] * 3
    with pytest.raises(ValueError, match="at least one"):
        interleave({}, 0)


def test_a_timing_has_both_clocks() -> None:
    sample = measured(lambda: sum(range(1000)))
    assert sample.wall > 0
    assert sample.cpu >= 0


def _valid(printed: str) -> list[dict[str, object]]:
    found = json.loads(printed)
    assert isinstance(found, list)
    assert found
    for line in found:
        assert list(line) == KEYS
        assert line["low"] <= line["median"] <= line["high"]
        assert all(isinstance(line[key], str) for key in ("what", "unit", "against"))
    return found


def test_the_table_and_the_json_hold_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    figures = [absolute("a thing", "s", [1.0, 2.0], "goal: under 3")]
    show(figures, as_json=True)
    assert _valid(capsys.readouterr().out)[0]["median"] == 1.5
    show(figures, as_json=False)
    printed = capsys.readouterr().out
    assert all(word in printed for word in ("a thing", "1.5", "1 to 2", "goal: under 3"))


def test_loop_prints_ratios_for_full_and_lora(capsys: pytest.CaptureFixture[str]) -> None:
    loop.main(["--json", "--rounds", "1", "--steps", "2", "--rows", "2", "--tokens", "8"])
    found = _valid(capsys.readouterr().out)
    ratios = [line for line in found if line["unit"] == "ratio"]
    assert {line["against"] for line in ratios} == {"bare loop"}
    assert {str(line["what"]).split(",")[0] for line in ratios} == {"fit: full", "fit: lora"}


@pytest.mark.parametrize("which", ["full", "lora"])
def test_both_loops_do_the_same_work(which: Parameters) -> None:
    lm = loop.nano()
    batches = loop.random_batches(SIZES["nano"].words, 3, 2, 8)
    losses: list[list[float]] = []
    weights: list[list[torch.Tensor]] = []
    for ours in (True, False):
        out = lm.clone()
        with trainable(out, which, rank=8, seed=3) as ready:
            if ours:
                losses.append(loop.by_titer(ready.lm, ready.weights, batches, 4, 1.0))
            else:
                losses.append(loop.by_hand(ready.lm, ready.weights, batches, 4))
        weights.append(list(out.model.parameters()))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    for one, two in itertools.zip_longest(*weights):
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-4)


def test_a_process_is_timed_with_its_children(tmp_path: Path) -> None:
    child = "import time; held = list(range(10**6)); time.sleep(1)"
    busy = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    tree = Tree([sys.executable, "-c", busy], environment(tmp_path))
    sample = tree.run()
    assert sample.cpu > 0
    assert 3 * 10**7 < tree.rss < 10**9
    with pytest.raises(RuntimeError, match="no such thing"):
        Tree([sys.executable, "-c", "raise SystemExit('no such thing')"], {}).run()
    assert startup.launched([sys.executable, "-c", "pass"]).cpu > 0


@pytest.mark.parametrize("kind", list(probing.KINDS))
def test_probing_asks_what_it_says(kind: str) -> None:
    header, (least, most), _ = probing.KINDS[kind]
    rows = probing.random_rows(kind, 5)
    assert len(rows) == 5 * probing.CHOICES
    assert len({row.ids[:header] for row in rows}) == 1
    assert len({row.ids[: row.prompt] for row in rows}) == 5
    assert all(12 <= row.prompt - header <= 48 for row in rows)
    assert all(least <= len(row.ids) - row.prompt <= most for row in rows)
    assert probing.random_rows(kind, 5) == rows


def test_probing_says_how_to_install_what_it_compares_with(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval.models.huggingface", None)
    with pytest.raises(SystemExit, match=r"pip install -r requirements/bench\.txt"):
        probing.harness(loop.nano())


@pytest.mark.filterwarnings("ignore")
def test_probing_prints_ratios_once_both_agree(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("lm_eval")
    probing.main(["--json", "--rounds", "1", "--items", "3", "--size", "S"])
    ratios = [line for line in _valid(capsys.readouterr().out) if line["unit"] == "ratio"]
    assert len(ratios) == 2 * len(probing.KINDS)
    assert all(str(line["against"]).startswith("HFLM") for line in ratios)
    monkeypatch.setattr(probing, "by_titer", lambda _, rows: [0.0] * len(rows))
    with pytest.raises(RuntimeError, match="log-likelihoods differ"):
        probing.compare("S", "letters", rounds=1, items=2)


@pytest.mark.skipif(sys.platform != "linux", reason="orphans are gathered on Linux")
def test_work_of_an_orphan_counts_as_its_starters() -> None:
    """The command ends at once; what it started works on for half a second of processor time."""
    work = "import time; any(time.process_time() > 0.5 for _ in iter(int, 1))"
    start = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {work!r}])"
    before = children()
    subprocess.run(gathered([sys.executable, "-c", start]), check=True)
    assert children() - before > 0.5
    assert subprocess.run(gathered([sys.executable, "-c", "exit(3)"]), check=False).returncode == 3
