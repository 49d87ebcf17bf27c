"""The endpoint's bench: a peer that is not here says so, a case that there is not is refused, and a row has figures."""

from pathlib import Path

import pytest

from lab import bench, bench_serve
from lab.errors import LabError
from lab.home import Home

REPO = Path(__file__).parents[2]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(REPO, tmp_path / ".lab", REPO / "lab.toml")


def test_a_peer_that_is_not_installed_is_a_row_with_the_reason(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    absent = bench_serve.Peer("no-such-package", "none", "text/plain", lambda data: data)
    monkeypatch.setitem(bench_serve.PEERS, "litserve", absent)
    (row,) = bench_serve.serve(home, "litserve")
    assert row == {
        "case": "litserve",
        "peer": "litserve",
        "skipped": "no-such-package is not installed; make install-bench brings it",
    }
    assert "no-such-package is not installed" in bench.line(row)


def test_a_case_that_there_is_not_is_refused_with_those_that_there_are(home: Home) -> None:
    with pytest.raises(LabError, match="no case torchserve"):
        list(bench_serve.serve(home, "torchserve"))


@pytest.mark.slow
def test_a_row_tells_what_the_server_adds_to_the_model(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_serve, "SECONDS", 0.3)
    monkeypatch.setattr(bench_serve, "ROUNDS", 1)
    (row,) = bench_serve.serve(home, "overhead")
    assert (row["case"], row["format"], row["concurrency"]) == ("overhead", "x-npy", 1)
    assert row["overhead_p50_ms"] > 0
    assert 0 < row["rss_beside_model_mb"] < row["rss_mb"]
    assert row["ready_beyond_load_s"] > 0


@pytest.mark.slow
def test_a_server_that_ends_at_once_is_told_with_its_last_words(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_serve, "SECONDS", 0.3)
    monkeypatch.setitem(
        bench_serve.PEERS, "litserve", bench_serve.Peer("json", "none", "text/plain", lambda data: data)
    )
    with pytest.raises(LabError, match=r"(?s)ended at once:\n.*json_server\.py"):
        list(bench_serve.serve(home, "litserve"))
