"""What `/ping` and `/invocations` answer: decoding, batches, the model in service and the next one.

A batch that the model answers within INLINE_MS runs in the loop itself: a thread would cost more than it gains, and
what arrives meanwhile waits in the kernel and becomes the next batch. A slower one runs in a thread of its own, as does
the decoding of pictures and large texts, so that pings, refusals and reading go on.
"""

from __future__ import annotations

import functools
import json
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import Any

from models import answers, payload, stages
from models.batching import Floats, Job, Live, Waiting, infer
from models.connection import Connection
from models.http1 import Head
from models.loop import Limits, Loop
from models.payload import BadRequest
from models.runtime import Model

INLINE_MS = 5.0
REPORT_SECONDS = 60.0
DECODERS = 2
ROUTES = {"/ping": ("GET", "HEAD"), "/invocations": ("POST",)}
# One answer's way from its batch to its lines.
Ran = tuple[list[Job], list[Floats | Exception], float, float]
Report = Callable[[dict[str, Any]], None]
log = logging.getLogger(__name__)


def ignore(figures: dict[str, Any]) -> None:
    """A report that nobody reads."""


class Endpoint:
    """A server on `host`:`port` (0: a free one). `swap` gives it a model, `run` answers until `stop`."""

    def __init__(
        self, host: str, port: int, limits: Limits | None = None, report: Report = ignore, inline_ms: float = INLINE_MS
    ) -> None:
        self.figures = stages.Figures()
        self._limits = limits or Limits()
        self._report, self._inline_ms = report, inline_ms
        self._reported = time.perf_counter()
        self._live: Live | None = None
        self._waiting = Waiting(self._limits.batch, self._limits.wait_ms, self._limits.budget_ms)
        self._decoding = 0
        self._predicting = False
        self._decoders = ThreadPoolExecutor(DECODERS, "decode")
        self._predictor = ThreadPoolExecutor(1, "predict")
        self._loop = Loop(host, port, self._limits)
        self._loop.application = self
        self.address = self._loop.address

    @property
    def stamp(self) -> str:
        """The header with the version in service; none while the first model loads."""
        live = self._live
        return "" if live is None else live.stamp

    def swap(self, model: Model) -> None:
        """From any thread: `model`, once it is warm, answers every request that is read from now on."""
        self._live = Live(model, self._limits.batch)

    def stop(self) -> None:
        """From any thread or signal: no new requests; answers under way are finished, then `run` returns."""
        self._loop.stop()

    def run(self) -> None:
        """Answers until `stop`."""
        try:
            self._loop.run()
        finally:
            self.report()
            self._decoders.shutdown(wait=False, cancel_futures=True)
            self._predictor.shutdown(wait=False, cancel_futures=True)

    # What the loop asks

    def screen(self, head: Head, late: bool) -> None:
        methods = ROUTES.get(head.path)
        if methods is None:
            raise BadRequest(HTTPStatus.NOT_FOUND, "path", f"{head.path[:100]}; there are {' and '.join(ROUTES)}")
        if head.method not in methods:
            allowed = ", ".join(methods)
            message = f"{head.method[:20]}; {head.path} takes {allowed}"
            raise BadRequest(HTTPStatus.METHOD_NOT_ALLOWED, "method", message, f"Allow: {allowed}\r\n")
        if late or self._live is None:
            what = "is ending" if late else "is loading its model"
            raise BadRequest(HTTPStatus.SERVICE_UNAVAILABLE, "unavailable", f"the endpoint {what}")
        if head.path == "/ping":
            return
        if head.length is None and not head.chunked:
            raise BadRequest(HTTPStatus.LENGTH_REQUIRED, "length", "Content-Length is missing")
        if head.length == 0:
            raise BadRequest(HTTPStatus.BAD_REQUEST, "length", f"0 bytes; 1 to {payload.LIMIT_BYTES} are taken")
        payload.kind_of(head.content_type, self._live.model.contract.modality)
        answers.form_of(head.accept)
        if len(self._waiting) + self._decoding >= self._limits.queue:
            message = f"{self._limits.queue} requests wait already; try again in a second"
            raise BadRequest(HTTPStatus.TOO_MANY_REQUESTS, "busy", message)

    def handle(self, connection: Connection, head: Head, body: bytearray) -> None:
        live, arrived = self._live, time.perf_counter()
        assert live is not None  # screened
        if head.path == "/ping":
            version = {"model_version": live.model.version}
            self._loop.respond(connection, HTTPStatus.OK, json.dumps(version).encode(), stamp=live.stamp)
            return
        contract = live.model.contract
        kind, form = payload.kind_of(head.content_type, contract.modality), answers.form_of(head.accept)
        if payload.quick(kind, len(body)):
            batch = payload.READERS[kind](body, contract)
            self._waiting.add(Job(connection, live, form, batch, arrived, time.perf_counter()))
            return
        self._decoding += 1
        self._decoders.submit(self._decode, connection, live, kind, form, body, arrived)

    def due(self) -> float | None:
        return None if self._predicting or not self._waiting else self._waiting.due()

    def work(self) -> None:
        """Runs the next batch, here or in its thread."""
        jobs = self._waiting.take()
        if sum(len(job.batch) for job in jobs) * jobs[0].live.pace <= self._inline_ms:
            self._finish(*self._predict(jobs))
        else:
            self._predicting = True
            self._predictor.submit(self._predict_beside, jobs)

    def busy(self) -> bool:
        return bool(self._decoding or self._predicting or self._waiting)

    def refused(self, code: str) -> None:
        self.figures.refused[code] += 1

    def failed(self) -> None:
        self.figures.failed += 1

    def sweep(self, now: float) -> None:
        if now >= self._reported + REPORT_SECONDS:
            self._reported = now
            self.report()

    def report(self) -> None:
        """Gives the figures since the last time to whoever wants them."""
        figures = self.figures.take()
        if figures is not None:
            self._report({"model_version": self._live.model.version if self._live else "", **figures})

    # Decoding beside the loop

    def _decode(
        self, connection: Connection, live: Live, kind: str, form: str, body: bytearray, arrived: float
    ) -> None:
        """In a thread: the body as a batch, or why it is none."""
        found: Job | BaseException
        try:
            batch = payload.READERS[kind](body, live.model.contract)
            found = Job(connection, live, form, batch, arrived, time.perf_counter())
        except BaseException as error:
            found = error
        self._loop.call(functools.partial(self._decoded, connection, found))

    def _decoded(self, connection: Connection, found: Job | BaseException) -> None:
        self._decoding -= 1
        if connection not in self._loop.connections:
            return
        if isinstance(found, Job):
            self._waiting.add(found)
        elif isinstance(found, BadRequest):
            self._loop.serve(self._loop.refuse, connection, found)
        else:
            self._loop.serve(self._fail, connection, found)

    # Batches

    def _predict(self, jobs: list[Job]) -> Ran:
        started = time.perf_counter()
        found = infer(jobs, self._limits.batch)
        return jobs, found, started, (time.perf_counter() - started) * 1000.0

    def _predict_beside(self, jobs: list[Job]) -> None:
        """In a thread: the same, its result left to the loop."""
        ran = self._predict(jobs)

        def finish() -> None:
            self._predicting = False
            self._finish(*ran)

        self._loop.call(finish)

    def _finish(self, jobs: list[Job], found: list[Floats | Exception], started: float, taken: float) -> None:
        """Answers the requests of a batch that ran."""
        samples = sum(len(job.batch) for job in jobs)
        jobs[0].live.learn(taken, samples)
        self.figures.batch(len(jobs), samples)
        times = self.figures.stages
        times["infer"].add(taken, len(jobs))
        for job, answer in zip(jobs, found, strict=True):
            times["queue"].add((started - job.ready) * 1000.0)
            times["decode"].add((job.ready - job.arrived) * 1000.0)
            if job.asker in self._loop.connections:
                self._loop.serve(self._give, job.asker, job, answer)

    def _give(self, connection: Connection, job: Job, answer: Floats | Exception) -> None:
        if isinstance(answer, Exception):
            self._fail(connection, answer)
            return
        start, model = time.perf_counter(), job.live.model
        body = answers.WRITERS[job.form](answer, model.contract, model.version)
        self._loop.respond(connection, HTTPStatus.OK, body, form=job.form, stamp=job.live.stamp)
        end = time.perf_counter()
        self.figures.stages["encode"].add((end - start) * 1000.0)
        self.figures.stages["total"].add((end - job.arrived) * 1000.0)

    def _fail(self, connection: Connection, error: BaseException) -> None:
        log.error("a request could not be answered", exc_info=error)
        self.failed()
        document = {"error": {"code": "internal", "message": "see the endpoint's log"}}
        self._loop.respond(connection, HTTPStatus.INTERNAL_SERVER_ERROR, json.dumps(document).encode())
