"""The benchmark of sealing compares like with like, and its own shares are what they are called."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from benchmarks._timing import Sample

from benchmarks import seal


def test_it_prints_shares_and_speeds(capsys: pytest.CaptureFixture[str]) -> None:
    seal.main(["--json", "--rounds", "1", "--tensors", "2", "--mib", "1"])
    found = json.loads(capsys.readouterr().out)
    shares = [line for line in found if line["unit"] == "ratio"]
    assert len(shares) == 2 * len(seal.PAIRS)
    assert all("at least 0.60" in line["against"] for line in shares)
    assert {line["what"] for line in found if line["unit"] == "GB/s"} > set(seal.PAIRS)


def test_a_share_is_ours_over_raw() -> None:
    quick, slow = Sample(wall=1.0, cpu=1.0), Sample(wall=4.0, cpu=2.0)
    taken = {name: slow if name in seal.PAIRS else quick for name in {**seal.PAIRS}}
    taken |= dict.fromkeys(seal.PAIRS.values(), quick)
    found = {figure.what: figure.median for figure in seal.figures([taken], 10**9)}
    assert found["share of raw throughput: seal, in memory, wall"] == 0.25
    assert found["share of raw throughput: seal, in memory, cpu"] == 0.5
    assert found["seal, in memory"] == 0.25


def test_both_sides_handle_the_same_bytes(tmp_path: Path) -> None:
    work = seal.Work(tmp_path, 2, 2**20)
    plain = (tmp_path / "plain").read_bytes()
    assert len(plain) == work.total == 2 * 2**20
    for unseal in (work.raw_from_file, lambda: work.unseal_to_file("sealed")):
        unseal()
        assert (tmp_path / "out").read_bytes() == plain
    work.unseal_to_file("signed")
    assert (tmp_path / "out").read_bytes() == plain
