"""From a sample to its answer: one thread that decodes, predicts and hands on; it waits for no disk and no network."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from edge.capture import Capture
from edge.drift import Drift
from edge.forward import Forwarder
from edge.frames import Frame, Frames
from edge.probation import Probation
from edge.results import Results
from edge.settings import Settings
from edge.switch import Serving, Switch
from edge.telemetry import Telemetry
from models.features import CorruptSample
from models.features import read as read_samples
from models.runtime import Batch, Prediction

PART = 256
_log = logging.getLogger(__name__)


class NotFinite(Exception):
    """The model answered with a number that is none."""


class Pipeline:
    """Answers what is in `frames` with whichever model serves; each answer carries the version that computed it.

    `busy_for` is how long the sample in hand has taken: who watches it may `replace` a worker that hangs.
    """

    def __init__(
        self,
        *,
        settings: Callable[[], Settings],
        switch: Switch,
        telemetry: Telemetry,
        drift: Drift,
        results: Results,
        capture: Capture,
        forwarder: Forwarder,
        on_first: Callable[[], None],
    ) -> None:
        self.frames = Frames()
        self.probation: Probation | None = None
        self._settings = settings
        self._switch = switch
        self._telemetry = telemetry
        self._drift = drift
        self._results = results
        self._capture = capture
        self._forwarder = forwarder
        self._on_first = on_first
        self._answered_by = ""
        self._stop = threading.Event()
        self._generation = 0
        self._busy_since: float | None = None

    def start(self) -> None:
        """A worker; one before it is left behind, and what it still answers counts no more."""
        self._generation += 1
        self._busy_since = None
        threading.Thread(target=self._work, args=(self._generation,), name="worker", daemon=True).start()

    replace = start

    def stop(self) -> None:
        self._stop.set()
        self._results.flush()

    def busy_for(self) -> float:
        """Seconds since the worker took the sample that it has not answered yet; 0 while it waits for one."""
        since = self._busy_since
        return 0.0 if since is None else time.monotonic() - since

    def budget_ms(self, serving: Serving | None) -> float | None:
        """What an answer may take: as configured, else as the model's package says."""
        if given := self._settings().budget_ms:
            return given
        about = serving.model.about.get("p95_ms") if serving else None
        return float(about) if about else None

    def _work(self, mine: int) -> None:
        while not self._stop.is_set() and mine == self._generation:
            if self._switch.current is None:  # samples wait, the oldest go first
                self._stop.wait(0.05)
                continue
            frame = self.frames.take(0.2, self._settings().deadline_ms)
            if frame is None:
                continue
            self._busy_since = time.monotonic()
            try:
                self.answer(frame, mine)
            except Exception:  # one sample must never end the worker
                _log.exception("sample %s", frame.name)
                self._telemetry.failed()
            if mine == self._generation:
                self._busy_since = None

    def answer(self, frame: Frame, mine: int | None = None) -> None:
        """Answers one sample; what a worker that was left behind finds out comes too late and is thrown away."""
        mine = self._generation if mine is None else mine
        serving = self._switch.current
        if serving is None:
            return
        started = time.perf_counter()
        waited = time.monotonic() - frame.arrived
        try:
            batch = read_samples(frame.data, serving.model.contract)
        except CorruptSample as error:
            self._telemetry.unreadable()
            self._results.add({"source": frame.name, "error": str(error)})
            return
        decoded = time.perf_counter()
        try:
            predictions = [_finite(serving.model.predict(part)) for part in _parts(batch)]
        except Exception as error:  # whatever an engine raises is the model's failure, and the next sample's turn
            if mine == self._generation:
                self._failed(frame, serving, error)
            return
        inferred = time.perf_counter()
        if mine != self._generation:
            return
        self._hand_on(frame, serving, batch, predictions, (inferred - started) * 1000 / len(batch))
        self._telemetry.staged(
            queue=waited * 1000,
            pre=(decoded - started) * 1000,
            infer=(inferred - decoded) * 1000,
            post=(time.perf_counter() - inferred) * 1000,
        )
        if serving.identity != self._answered_by:
            self._answered_by = serving.identity
            self._on_first()

    def _failed(self, frame: Frame, serving: Serving, error: Exception) -> None:
        _log.error("version %s failed on %s: %s: %s", serving.version, frame.name, type(error).__name__, error)
        self._telemetry.failed()
        if self.probation is not None:
            self.probation.add(serving.identity, None)
        self._results.add(
            {"source": frame.name, "error": f"{type(error).__name__}: {error}"[:300], "model_version": serving.version}
        )

    def _hand_on(
        self, frame: Frame, serving: Serving, batch: Batch, predictions: list[Prediction], milliseconds: float
    ) -> None:
        self._drift.add(serving, batch)
        settings, budget = self._settings(), self.budget_ms(serving)
        stamp = {"ms": round(milliseconds, 3), "model_version": serving.version, "model_sha": serving.sha}
        for place, found in enumerate(row for prediction in predictions for row in rows(prediction)):
            entropy = found.pop("entropy", None)
            self._telemetry.predicted(milliseconds, found.get("confidence"), entropy, budget)
            if self.probation is not None:
                self.probation.add(serving.identity, milliseconds)
            where = {"source": frame.name} if len(batch) == 1 else {"source": frame.name, "sample": place}
            answer = {**where, **found, **stamp}
            self._results.add(answer)
            if settings.publish:
                self._forwarder.result(answer)
            if settings.capture_per_day:
                self._capture.consider(frame, serving, found, self._drift.moved)


def rows(prediction: Prediction) -> list[dict[str, Any]]:
    """Each answer of a batch: label, confidence and entropy as a share of the largest possible, or the value."""
    if not prediction.classes:
        return [{"value": value} for value in prediction.values.tolist()]
    shares = np.clip(prediction.probabilities, 1e-12, 1.0)
    most = np.log(max(2, shares.shape[1]))
    entropies = (-(shares * np.log(shares)).sum(axis=1) / most).tolist()
    named = zip(prediction.labels, prediction.confidences.tolist(), entropies, strict=True)
    return [
        {"label": label, "confidence": round(confidence, 4), "entropy": entropy} for label, confidence, entropy in named
    ]


def _finite(prediction: Prediction) -> Prediction:
    if not np.isfinite(prediction.answers).all():
        raise NotFinite("an answer is no finite number")
    return prediction


def _parts(batch: Batch) -> Iterator[Batch]:
    """A file with many rows is answered in parts: memory stays bounded."""
    for start in range(0, len(batch), PART):
        yield batch[start : start + PART]
