"""Measures training: our step beside other ways to write the loop, and two ranks on two cores beside one on one.

What is measured lies in benchmarks/training/. `step_ratio` is the other's time over ours, or samples a second of two
ranks over those of one: above 1 we are ahead.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import statistics
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Any

from lab import launch, processes, serving
from lab.errors import LabError
from lab.home import Home

Row = dict[str, Any]
# What a peer needs beside the lab; None for nothing.
PEERS = {"bare": None, "fabric": "lightning", "trainer": "lightning"}
STEP_NETS = ("table", "image-tiny")
RANK_NETS = ("image-base", "resnet18")
# The net that is trained in other ways, to see where the time of two ranks goes.
WAYS_NET = "resnet18"
# A peer that would bring other pins with it lies beside the lab.
_BESIDE = "pip install --target DIR --no-deps {0} lightning-utilities torchmetrics tqdm; PYTHONPATH=DIR lab bench train"
ROUNDS = 3
STEPS = 12


def train(home: Home, dataset: str | None) -> Iterator[Row]:
    """A row for each net and peer (`bare`, `fabric`, `trainer`), for each net with two ranks (`one-rank`), then `ways`.

    `dataset` names one of these. A peer that is not installed is a row with the reason in `skipped`.
    """
    cases = (*PEERS, "one-rank", "ways")
    if dataset is not None and dataset not in cases:
        raise LabError(f"bench train knows no case {dataset}", f"one of {', '.join(cases)}; without --dataset all")
    if not (home.repo / "benchmarks" / "training").is_dir():
        raise LabError("benchmarks/training is not here", "run lab bench train in the lab's own repository")
    for peer in [dataset] if dataset else list(cases):
        if peer == "ways":
            yield from ({"case": "ways", **row} for row in _ways(home))
            continue
        for net in RANK_NETS if peer == "one-rank" else STEP_NETS:
            yield {"case": f"{net}/{peer}", "net": net, "peer": peer, **_measured(home, net, peer)}


def _measured(home: Home, net: str, peer: str) -> Row:
    if peer == "one-rank":
        return _ranks(home, net)
    package = PEERS[peer]
    if package is None:
        return _step(home, net, peer)
    if importlib.util.find_spec(package) is None:
        return {"skipped": f"{package} is not installed, and not pinned: {_BESIDE.format(package)}"}
    return {"version": importlib.metadata.version(package), **_step(home, net, peer)}


def _step(home: Home, net: str, peer: str) -> Row:
    """One process, one thread, epochs of ours and of the peer in turn."""
    return _together(home, "step", [net, peer], 1)[0]


def _ranks(home: Home, net: str) -> Row:
    """One rank on one core and two on two in turn; the same batch, the same steps."""
    if lacking := _lacking():
        return lacking
    one, two = [], []
    for _ in range(ROUNDS):
        one.append(_together(home, "shared", [net, str(STEPS)], 1)[0])
        two.append(_together(home, "shared", [net, str(STEPS)], 2)[0])
    alone, both = (statistics.median(each["step_s"] for each in found) for found in (one, two))
    best = [min(each["best_s"] for each in found) for found in (one, two)]
    spent = [statistics.median(each["cpu_s"] for each in found) for found in (one, two)]
    batch = one[0]["batch"]
    return {
        "backend": "gloo",
        "ranks": 2,
        "batch": batch,
        "per_s": round(batch / both, 1),
        "peer_per_s": round(batch / alone, 1),
        "step_ratio": round(alone / both, 3),
        "best_step_ratio": round(best[0] / best[1], 3),
        "cpu_per_step_ratio": round(spent[0] / spent[1], 3),
    }


def _ways(home: Home) -> list[Row]:
    """Two ranks that train in one way after the other, each beside one rank alone."""
    return [lacking] if (lacking := _lacking()) else _together(home, "ways", [WAYS_NET], 2)


def _lacking() -> Row:
    cores = len(_cores())
    return {} if cores > 1 else {"skipped": f"two ranks want two cores, and this process may use {cores}"}


def _together(home: Home, module: str, argv: list[str], world: int) -> list[Row]:
    """The rows that the first of so many processes says, each process on a core of its own."""
    about: Mapping[str, str] = {
        **launch.environment(home),
        **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(home.repo), os.environ.get("PYTHONPATH")])),
        "MASTER_ADDR": serving.LOOPBACK,
        "MASTER_PORT": str(serving.free_port()),
        "WORLD_SIZE": str(world),
    }
    with ExitStack() as stack:
        running = []
        for rank in range(world):
            command = [sys.executable, "-m", f"benchmarks.training.{module}", *argv]
            child = processes.Running(command, cwd=home.repo, env={**about, "RANK": str(rank), "LOCAL_RANK": "0"})
            running.append(stack.enter_context(child))
            if hasattr(os, "sched_setaffinity"):
                os.sched_setaffinity(child.pid, {_cores()[rank]})
        ended = [child.wait() for child in running]
    for done in ended:
        if done.rc:
            said = "\n".join(done.last_lines())
            raise LabError(f"benchmarks/training/{module}.py ended with {done.rc}:\n{said}")
    return [json.loads(line) for line in ended[0].out.splitlines() if line.startswith("{")]


def _cores() -> list[int]:
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
