"""Requests that wait, and how many of them run together: what is there when the model is free, within its time budget.

N samples   K classes, or 1 where the answer is a number
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from models.runtime import Batch, Model

Floats = npt.NDArray[np.float32]
VERSION_HEADER = "X-Amzn-SageMaker-Custom-Attributes"
WARM = 3
# How much a new measurement moves the expected time of a sample.
WEIGHT = 0.2


class Live:
    """A model in service, and the milliseconds that it takes for a sample: measured at first, then with each batch.

    `stamp` is the header line that says which version answered.
    """

    def __init__(self, model: Model, batch: int) -> None:
        self.model = model
        # Whatever a package calls itself, as a header can carry it.
        version = "".join(letter if "!" <= letter <= "~" else "?" for letter in model.version)
        self.stamp = f"{VERSION_HEADER}: model_version={version}\r\n"
        contract = model.contract
        sample = np.zeros((1, *contract.shape), contract.dtype)
        self.pace = min(self._timed(sample) for _ in range(WARM))
        if batch > 1:  # memory for a whole batch is taken now, not by the first rush
            several = np.zeros((batch, *contract.shape), contract.dtype)
            self.pace = min(self.pace, self._timed(several) / batch)

    def _timed(self, batch: Batch) -> float:
        start = time.perf_counter()
        self.model.predict(batch)
        return (time.perf_counter() - start) * 1000.0

    def answers(self, batch: Batch, most: int) -> Floats:
        """[N, K] of a batch [N, ...], at most `most` samples at a time."""
        if len(batch) <= most:
            return self.model.predict(batch).answers
        parts = [self.model.predict(batch[start : start + most]).answers for start in range(0, len(batch), most)]
        return np.concatenate(parts)

    def learn(self, milliseconds: float, samples: int) -> None:
        """A batch of so many samples took so long."""
        self.pace += WEIGHT * (milliseconds / samples - self.pace)


@dataclass(slots=True, eq=False)
class Job:
    """One request that waits for the model: who asked, what for, when it came and when it was decoded (seconds)."""

    asker: Any
    live: Live
    form: str
    batch: Batch
    arrived: float
    ready: float


class Waiting:
    """Decoded requests in the order in which they came."""

    def __init__(self, batch: int, wait_ms: float, budget_ms: float) -> None:
        self._batch, self._wait, self._budget_ms = batch, wait_ms / 1000.0, budget_ms
        self._jobs: deque[Job] = deque()
        self._samples = 0

    def __len__(self) -> int:
        return len(self._jobs)

    def add(self, job: Job) -> None:
        """One more."""
        self._jobs.append(job)
        self._samples += len(job.batch)

    def room(self, live: Live) -> int:
        """Samples that may run together: as many as the model answers within the budget."""
        return max(1, min(self._batch, int(self._budget_ms / max(live.pace, 1e-6))))

    def due(self) -> float:
        """When the next batch should run (`time.perf_counter`): at once when it is full, else when its wait is over."""
        first = self._jobs[0]
        return 0.0 if self._samples >= self.room(first.live) else first.ready + self._wait

    def take(self) -> list[Job]:
        """The next batch: the first request, and those after it that fit and were decoded for the same model.

        A request is never cut in two: a large one runs alone, in parts.
        """
        jobs = [self._jobs.popleft()]
        live, count = jobs[0].live, len(jobs[0].batch)
        room = self.room(live)
        while self._jobs and self._jobs[0].live is live and count + len(self._jobs[0].batch) <= room:
            jobs.append(self._jobs.popleft())
            count += len(jobs[-1].batch)
        self._samples -= count
        return jobs


def infer(jobs: Sequence[Job], most: int) -> list[Floats | Exception]:
    """The answers of each request, in order. When a batch fails, each is tried alone: one must not fail the others."""
    live = jobs[0].live
    if len(jobs) == 1:
        return [_attempt(jobs[0], most)]
    try:
        together = live.answers(np.concatenate([job.batch for job in jobs]), most)
    except Exception:
        return [_attempt(job, most) for job in jobs]
    found: list[Floats | Exception] = []
    start = 0
    for job in jobs:
        found.append(together[start : start + len(job.batch)])
        start += len(job.batch)
    return found


def _attempt(job: Job, most: int) -> Floats | Exception:
    try:
        return job.live.answers(job.batch, most)
    except Exception as error:
        return error
