"""Where the time of two ranks goes: the same net trained in other ways, each beside one rank alone.

    lab bench train --dataset ways

Two processes of `python -m benchmarks.training.ways NET`, each with one thread on a core of its own; the first says a
line of JSON for each way. One rank on one core, with the net's own batch, is timed before and after each way, for a
machine's pace drifts. Two ranks `apart` share each batch and exchange nothing: more than that two cores do not give.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, distributed, nn

from benchmarks.training.nets import BATCH, prepared
from models import ranks, train
from models.checkpoint import Progress
from models.ranks import Gradients, Ranks

WARM, TIMED, BUCKETS = 2, 8, 8


def main(argv: list[str]) -> int:
    """Times each way with net argv[0]."""
    name = argv[0]
    with ranks.joined() as among:
        torch.set_num_threads(1)
        before = _alone(name, among)
        for says, way in WAYS.items():
            both, after = _together(name, way, among), _alone(name, among)
            ratio = both / statistics.mean((before, after))
            before = after
            row = {"net": name, "way": says, "per_s": round(both, 1), "rank_ratio": round(ratio, 2)}
            if among.first:
                print(json.dumps(row), flush=True)  # noqa: T201 - the bench reads this line
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
    if way.gradients is not Gradients:
        run = replace(run, gradients=way.gradients(run.model, among))
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


class Silent(Gradients):
    """No gradient leaves its rank."""

    def add_up(self) -> None:
        """Nothing."""


class Halved(Gradients):
    """Gradients travel in bf16."""

    def add_up(self) -> None:
        """As Gradients does, rounded."""
        self.all.copy_(self._ranks.add_up(self.all.bfloat16()))


class Overlapped(Gradients):
    """Gradients travel while earlier layers still compute theirs, an eighth of them at a time."""

    def __init__(self, model: nn.Module, among: Ranks) -> None:
        super().__init__(model, among)
        self._works: list[distributed.Work] = []
        whole, end = self.all.numel(), 0
        buckets: dict[int, list[nn.Parameter]] = {}
        for part in self._learned:
            end += part.numel()
            buckets.setdefault((end - 1) * BUCKETS // whole, []).append(part)
        end = 0
        for parts in buckets.values():
            first, end = end, end + sum(part.numel() for part in parts)
            self._sent_when_whole(parts, self.all[first:end])

    def _sent_when_whole(self, parts: list[nn.Parameter], segment: Tensor) -> None:
        there: list[Tensor] = []

        def arrived(part: Tensor) -> None:
            there.append(part)
            if len(there) == len(parts):
                there.clear()
                self._works.append(distributed.all_reduce(segment, async_op=True))

        for part in parts:
            part.register_post_accumulate_grad_hook(arrived)

    def add_up(self) -> None:
        """Waits for what is under way."""
        while self._works:
            self._works.pop().wait()


class Awake(Ranks):
    """Ranks that do not sleep while they wait for each other: they ask again and again."""

    def add_up(self, values: Tensor) -> Tensor:
        """As Ranks does."""
        work = distributed.all_reduce(values, async_op=True)
        while not work.is_completed():
            os.sched_yield()
        work.wait()
        return values


@dataclass(frozen=True)
class Way:
    """How two ranks train.

    batch     of both ranks together, in batches of the net
    parts     how many such batches make a step (`accumulate`)
    norms     whether batch norms are those of the whole batch
    apart     whether each trains a net of its own, with its half of the batch
    awake     whether who waits for the other stays awake
    gradients how they are added up
    """

    batch: int = 1
    parts: int = 1
    norms: bool = True
    apart: bool = False
    awake: bool = False
    gradients: type[Gradients] = Gradients


WAYS = {
    "apart": Way(apart=True),
    "two ranks": Way(),
    "no gradients": Way(gradients=Silent),
    "own norms": Way(norms=False),
    "own norms, no gradients": Way(norms=False, gradients=Silent),
    "gradients in bf16": Way(gradients=Halved),
    "gradients overlapped": Way(gradients=Overlapped),
    "ranks that stay awake": Way(awake=True),
    "2 batches a step": Way(parts=2),
    "4 batches a step": Way(parts=4),
    "batch x 2": Way(batch=2),
    "batch x 4": Way(batch=4),
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
