"""Threads follow what the container may use, in either version of the kernel's control groups."""

import os
from pathlib import Path

import pytest

from models import quota


@pytest.fixture
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)


@pytest.mark.usefixtures("eight_cores")
@pytest.mark.parametrize(
    ("said", "threads"),
    [("200000 100000\n", 2), ("150000 100000", 1), ("50000 100000", 1), ("max 100000", 8), ("9900000 100000", 8)],
)
def test_a_quota_pays_for_so_many_threads(tmp_path: Path, said: str, threads: int) -> None:
    (tmp_path / "cpu.max").write_text(said)
    assert quota.threads(tmp_path) == threads


@pytest.mark.usefixtures("eight_cores")
@pytest.mark.parametrize(("micros", "threads"), [("300000", 3), ("-1", 8)])
def test_the_first_version_says_it_in_two_files(tmp_path: Path, micros: str, threads: int) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(micros)
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000")
    assert quota.threads(tmp_path) == threads


@pytest.mark.usefixtures("eight_cores")
@pytest.mark.parametrize("said", ["", "nonsense", "1 2 3", "100000 0", "\udce9 1"])
def test_without_a_readable_quota_the_cores_decide(tmp_path: Path, said: str) -> None:
    (tmp_path / "cpu.max").write_text(said, "utf-8", errors="surrogateescape")
    assert quota.threads(tmp_path) == 8
    assert quota.quota(tmp_path / "nowhere") is None
