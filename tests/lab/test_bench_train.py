"""The training's bench: an absent peer says so, a case that there is not is refused, and a row has figures."""

from pathlib import Path

import pytest

from lab import bench, bench_train, cli
from lab.errors import LabError
from lab.home import Home

REPO = Path(__file__).parents[2]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(REPO, tmp_path / ".lab", REPO / "lab.toml")


def test_a_peer_that_is_not_installed_is_a_row_with_the_reason(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(bench_train.PEERS, "fabric", "no_such_package")
    rows = list(bench_train.train(home, "fabric"))
    assert [row["case"] for row in rows] == ["table/fabric", "image-tiny/fabric"]
    assert all("no_such_package is not installed" in row["skipped"] for row in rows)
    assert "no_such_package is not installed" in bench.line(rows[0])


def test_a_case_that_there_is_not_is_refused_with_those_that_there_are(home: Home) -> None:
    with pytest.raises(LabError, match="no case horovod"):
        list(bench_train.train(home, "horovod"))


@pytest.mark.slow
def test_two_ranks_are_measured_beside_one(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_train, "RANK_NETS", ("image-tiny",))
    monkeypatch.setattr(bench_train, "ROUNDS", 1)
    monkeypatch.setattr(bench_train, "STEPS", 2)
    (row,) = bench_train.train(home, "one-rank")
    if "skipped" in row:
        assert "two ranks want two cores" in row["skipped"]
        return
    assert (row["case"], row["peer"], row["ranks"], row["batch"]) == ("image-tiny/one-rank", "one-rank", 2, 32)
    assert row["per_s"] > 0 and row["step_ratio"] > 0


@pytest.mark.slow
def test_every_way_of_two_ranks_is_a_row_beside_one_rank(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_train, "WAYS_NET", "image-tiny")
    rows = list(bench_train.train(home, "ways"))
    if "skipped" in rows[0]:
        assert "two ranks want two cores" in rows[0]["skipped"]
        return
    assert [row["way"] for row in rows][:2] == ["apart", "two ranks"]
    assert {(row["case"], row["net"]) for row in rows} == {("ways", "image-tiny")}
    assert all(row["per_s"] > 0 and row["rank_ratio"] > 0 for row in rows)


def test_the_command_line_offers_every_bench() -> None:
    (argument,) = [each for each in cli.bench.params if each.name == "name"]
    assert sorted(argument.type.choices) == sorted(bench.BENCHES)  # type: ignore[attr-defined]
