"""Several processes that train one net: the same figures as one, and a clear end when one of them dies."""

import functools
import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from models import ranks, train

# Name, data and parts: a table once whole and once in two parts.
CASES = {"curated": 1, "table": 1, "prices": 1, "engines": 1, "machine": 1, "table in parts": 2}
TRAIN = """
import os, signal, sys, threading
from pathlib import Path
import torch
from models import ranks, train

folder, what, *cases = sys.argv[1:]
torch.set_num_threads(1)
told = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: told.set())
steps = 0
learn = train.learn
def watched(run, done):
    global steps
    for step in learn(run, done):
        steps += 1
        if steps == 4 and run.ranks.rank == 1 and what:
            os.kill(os.getpid(), {"dies": signal.SIGKILL, "is told": signal.SIGTERM}[what])
        yield step
train.learn = watched
with ranks.joined() as among:
    for case in cases:
        name, data, parts = case.split("=")
        out = Path(folder) / name
        config = train.Config(epochs=2, seed=5, batch=12, accumulate=int(parts))
        try:
            best = train.train(config, Path(data), out / "model", out / "checkpoints", print, among, told.is_set)
        except train.Left as left:
            print(left)
            sys.exit(3)
        print("best", best)
"""


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(load_file(folder / "model" / "model.safetensors"))


@pytest.fixture(scope="module")
def learned(
    started: Callable[..., list[Any]], request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[int], tuple[Path, list[list[str]]]]:
    """What so many ranks make of all CASES, a folder each, and the lines that each rank said."""
    cases = [f"{name}={request.getfixturevalue(name.split()[0])}={parts}" for name, parts in CASES.items()]

    @functools.cache
    def learn(world: int) -> tuple[Path, list[list[str]]]:
        folder = tmp_path_factory.mktemp(f"ranks-{world}")
        ended = started(world, TRAIN, str(folder), "", *cases)
        assert [each.rc for each in ended] == [0] * world, ended[0].err
        return folder, [each.out.splitlines() for each in ended]

    return learn


@pytest.mark.slow
@pytest.mark.parametrize("world", [2, 3])
def test_ranks_that_share_each_batch_learn_what_one_learns_from_all_of_it(
    learned: Callable[[int], tuple[Path, list[list[str]]]], world: int
) -> None:
    (alone, _), (together, said) = learned(1), learned(world)
    for name in CASES:
        one, many = (json.loads((folder / name / "model/history.json").read_text()) for folder in (alone, together))
        for first, other in zip(one, many, strict=True):
            assert other == pytest.approx(first, rel=2e-2, abs=2e-2), name
        wanted, found = weights(alone / name), weights(together / name)
        assert wanted.keys() == found.keys()
        distance = sum(float((found[key] - value).double().square().sum()) for key, value in wanted.items())
        size = sum(float(value.double().square().sum()) for value in wanted.values())
        assert (distance / size) ** 0.5 < 1e-2, name
    best = [[line for line in lines if line.startswith("best")] for lines in said]
    assert best == [best[0]] * world, "validation figures are the same on all ranks"
    assert [len(lines) - len(CASES) for lines in said] == [2 * len(CASES)] + [0] * (world - 1), "the first tells epochs"


@pytest.mark.slow
def test_a_rank_that_dies_ends_the_others_with_a_message(
    started: Callable[..., list[Any]], table: Path, tmp_path: Path
) -> None:
    first, dead, third = started(3, TRAIN, str(tmp_path), "dies", f"table={table}=1")
    assert dead.rc == -signal.SIGKILL
    for other in (first, third):
        assert other.rc == 1 and "RankError: another rank has ended or does not answer" in other.err, other.err


@pytest.mark.slow
def test_all_ranks_leave_together_when_one_is_told_to_and_go_on_together(
    started: Callable[..., list[Any]],
    learned: Callable[[int], tuple[Path, list[list[str]]]],
    table: Path,
    tmp_path: Path,
) -> None:
    ended = started(2, TRAIN, str(tmp_path), "is told", f"table={table}=1")
    assert [each.rc for each in ended] == [3, 3], ended[0].err
    assert all("left in epoch 1 after step 11" in each.out for each in ended)
    ended = started(2, TRAIN, str(tmp_path), "", f"table={table}=1")
    assert [each.rc for each in ended] == [0, 0], ended[0].err
    wanted, found = weights(learned(2)[0] / "table"), weights(tmp_path / "table")
    for key, value in wanted.items():
        torch.testing.assert_close(found[key], value, rtol=1e-5, atol=1e-6, msg=key)


@pytest.mark.slow
def test_a_rank_that_does_not_answer_is_given_up_after_the_time_that_was_given(
    started: Callable[..., list[Any]],
) -> None:
    script = """
import time
import torch
from models import ranks
with ranks.joined(patience=5.0) as among:
    among.add_up(torch.ones(1))
    if among.rank == 1:
        time.sleep(15)
    else:
        among.add_up(torch.ones(1))
"""
    hung = started(2, script)[0]
    assert hung.rc == 1 and "RankError: another rank has ended or does not answer" in hung.err, hung.err


@pytest.mark.slow
def test_bytes_of_the_first_rank_reach_every_rank(started: Callable[..., list[Any]]) -> None:
    script = """
from models import ranks
with ranks.joined() as among:
    for data in (b"", b"seven bytes"):
        print(among.given(data if among.first else None))
    print(among.any(among.rank == 2), among.any(False))
"""
    said = [each.out for each in started(3, script)]
    assert said == ["b''\nb'seven bytes'\nTrue False\n"] * 3


@pytest.mark.parametrize(("whole", "world"), [(8, 2), (7, 3), (2, 3), (0, 2), (1, 1)])
def test_shares_are_even_and_cover_the_batch_once(whole: int, world: int) -> None:
    found = [ranks.Ranks(rank, world, torch.device("cpu")).share(whole) for rank in range(world)]
    rows = torch.arange(whole)
    assert torch.equal(torch.cat([share.of(rows) for share in found]), rows)
    assert max(share.count for share in found) - min(share.count for share in found) <= 1


def test_a_process_alone_needs_no_one(table: Path, tmp_path: Path) -> None:
    with ranks.joined({}) as among:
        assert (among.world, among.first) == (1, True)
        assert among.given(b"x") == b"x" and among.any(True)
        assert train.train(train.Config(epochs=1), table, tmp_path / "m", tmp_path / "c", lambda _: None, among)
