"""Where the time of two ranks goes: the same net trained in other ways, each beside one rank alone.

    torchrun --nproc_per_node 2 -m benchmarks.training.ways resnet18           a line of JSON for each way

Each rank holds one thread on a core of its own. One rank on one core, with the net's own batch, is timed before and
after each way, for a machine's pace drifts. Two ranks `apart` share each batch and exchange nothing: more than that two
cores do not give.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor, distributed

from benchmarks.training.nets import BATCH, prepared
from models import ranks, train
from models.checkpoint import Progress
from models.ranks import Ranks

WARM, TIMED, BUCKETS = 2, 8, 8
Change = Callable[[train.Run], None]


@dataclass(frozen=True)
class Way:
    """How two ranks train.

    batch     of both ranks together, in batches of the net
    parts     how many such batches make a step (`accumulate`)
    norms     whether batch norms are those of the whole batch
    apart     whether each trains a net of its own, with its half of the batch
    awake     whether who waits for the other stays awake
    change    what is different in a run made ready
    """

    batch: int = 1
    parts: int = 1
    norms: bool = True
    apart: bool = False
    awake: bool = False
    change: Change = lambda run: None


def main(argv: list[str]) -> int:
    """Times each way with net argv[0]."""
    name = argv[0]
    with ranks.joined() as among:
        torch.set_num_threads(1)
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[among.rank]})
        before = _alone(name, among)
        for says, way in WAYS.items():
            both, after = _together(name, way, among), _alone(name, among)
            ratio = both / statistics.mean((before, after))
            before = after
            row = {"net": name, "way": says, "per_s": round(both, 1), "rank_ratio": round(ratio, 2)}
            if among.first:
                print(json.dumps(row), flush=True)  # noqa: T201 - this is what it is for
    return 0


def _alone(name: str, among: Ranks) -> float:
    """Samples a second of the first rank while the other waits."""
    distributed.barrier()
    return among.add_up(torch.tensor(_pace(name, Way(), Ranks.alone(), BATCH[name]) if among.first else 0.0)).item()


def _together(name: str, way: Way, among: Ranks) -> float:
    """Samples a second of both."""
    batch = BATCH[name] * way.batch
    if way.apart:
        return among.add_up(torch.tensor(_pace(name, way, Ranks.alone(), batch // 2))).item()
    kind = Awake if way.awake else Ranks
    return _pace(name, way, kind(among.rank, among.world, among.device), batch)


def _pace(name: str, way: Way, among: Ranks, batch: int) -> float:
    """Samples a second that steps of a batch teach, by the median step."""
    with _norms(way.norms):
        run = prepared(name, batch * way.parts * (WARM + TIMED), among, batch=batch, accumulate=way.parts)
    way.change(run)
    seconds, began = [], time.perf_counter()
    for _ in train.learn(run, Progress()):
        seconds.append(time.perf_counter() - began)
        began = time.perf_counter()
    return batch * way.parts / statistics.median(seconds[WARM:])


@contextmanager
def _norms(shared: bool) -> Iterator[None]:
    kept = train.share_norms
    if not shared:
        train.share_norms = lambda model, ranks: None
    try:
        yield
    finally:
        train.share_norms = kept


def _silent(run: train.Run) -> None:
    """No gradient leaves its rank."""
    run.gradients.add_up = lambda: None  # type: ignore[method-assign]


def _halved(run: train.Run) -> None:
    """Gradients travel in bf16."""

    def add_up() -> None:
        run.gradients.all.copy_(run.ranks.add_up(run.gradients.all.bfloat16()))

    run.gradients.add_up = add_up  # type: ignore[method-assign]


def _overlapped(run: train.Run) -> None:
    """Gradients travel while earlier layers still compute theirs, an eighth of them at a time."""
    works: list[distributed.Work] = []
    ends = _ends([part for part in run.model.parameters() if part.requires_grad])
    whole = ends[-1][1]
    for _, group in groupby(ends, lambda part: (part[1] - 1) * BUCKETS // whole):
        members = list(group)
        first, last = members[0][1] - members[0][0].numel(), members[-1][1]
        _sent_when_whole([part for part, _ in members], run.gradients.all[first:last], works)

    def add_up() -> None:
        while works:
            works.pop().wait()

    run.gradients.add_up = add_up  # type: ignore[method-assign]


def _ends(parts: list[torch.nn.Parameter]) -> list[tuple[torch.nn.Parameter, int]]:
    """Each parameter and where it ends in the vector of all."""
    end = 0
    return [(part, end := end + part.numel()) for part in parts]


def _sent_when_whole(parts: list[torch.nn.Parameter], segment: Tensor, works: list[distributed.Work]) -> None:
    there: list[Tensor] = []

    def arrived(part: Tensor) -> None:
        there.append(part)
        if len(there) == len(parts):
            there.clear()
            works.append(distributed.all_reduce(segment, async_op=True))

    for part in parts:
        part.register_post_accumulate_grad_hook(arrived)


class Awake(Ranks):
    """Ranks that do not sleep while they wait for each other: they ask again and again."""

    def add_up(self, values: Tensor) -> Tensor:
        """As Ranks does."""
        work = distributed.all_reduce(values, async_op=True)
        while not work.is_completed():
            os.sched_yield()
        work.wait()
        return values


WAYS = {
    "apart": Way(apart=True),
    "two ranks": Way(),
    "no gradients": Way(change=_silent),
    "own norms": Way(norms=False),
    "own norms, no gradients": Way(norms=False, change=_silent),
    "gradients in bf16": Way(change=_halved),
    "gradients overlapped": Way(change=_overlapped),
    "ranks that stay awake": Way(awake=True),
    "2 batches a step": Way(parts=2),
    "4 batches a step": Way(parts=4),
    "batch x 2": Way(batch=2),
    "batch x 4": Way(batch=4),
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
