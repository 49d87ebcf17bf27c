"""The runtime component: serves the last good model, takes on the next one, reports telemetry.

    python -m edge.inference --work DIR

Startup proves that this device can compute, serves the last good model or waits for the first, reports RUNNING. A new
model is gated in a thread of its own while the old one answers. Losing the nucleus does not stop inference; after
five minutes without it the process ends with 3, so that the nucleus starts it with a new token.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from edge.drift import Drift
from edge.nucleus import Nucleus
from edge.settings import Settings, SettingsError, read
from edge.source import Folder, Results
from edge.switch import Event, Serving, Switch
from edge.telemetry import BACKLOG, Telemetry
from models.features import CorruptSample
from models.features import read as read_samples
from models.runtime import Batch, Prediction

LOST = 3
PATIENCE_S = 300.0
PART = 256
_log = logging.getLogger("edge.inference")


class Service:
    """One runtime process. `answer` serves one image with whichever model is current."""

    def __init__(self, work: Path, thing: str, nucleus: Nucleus | None) -> None:
        self.work = work
        self.thing = thing
        self.nucleus = nucleus
        self.settings = Settings()
        self.stopping = threading.Event()
        self.telemetry = Telemetry(thing)
        self.drift = Drift()
        self.results = Results(work / "results.jsonl")
        self.backlog: deque[bytes] = deque()
        self.dropped = 0
        self._due = 0.0
        self._answered_by = ""

    def configure(self) -> None:
        """Reads the configuration; one that cannot be used is named in the log, and the one before stays."""
        raw = self.nucleus.configuration() if self.nucleus else None
        if raw is None:
            return
        try:
            self.settings, unknown = read(raw)
        except SettingsError as error:
            _log.error("configuration refused: %s", error)
            self.telemetry.happened(Event("configuration", "", str(error)[:120]))
            return
        for key in unknown:
            _log.warning("configuration has the key %r, which means nothing here", key)

    def run(self) -> int:
        """Until SIGTERM (0), or until the nucleus has been gone too long (3)."""
        self_test(self.work)
        self.configure()
        self.switch = Switch(self.work, self.settings.threads)
        restored = self.switch.restore()
        self._note(restored)
        _log.info("serving %s", restored.version) if restored else _log.info("WAITING for the first model")
        if self.nucleus:
            self.nucleus.watch_configuration(self.configure)
            self.nucleus.running()
        threads = [threading.Thread(target=one, daemon=True) for one in (self._watch_store, self._keep_reporting)]
        for thread in threads:
            thread.start()
        folder = Folder(self._source())
        while not self.stopping.wait(self.settings.poll_s):
            if folder.path != self._source():
                folder = Folder(self._source())
            if self.switch.current is not None:
                for name, data in folder.new():
                    self.answer(name, data)
                    self._first_of(self.switch.current)
            if self.nucleus and self.nucleus.lost_for() > PATIENCE_S:
                _log.error("the nucleus has been gone for %g s", PATIENCE_S)
                return LOST
        for thread in threads:
            thread.join(timeout=5)
        return 0

    def _source(self) -> Path:
        return self.work / self.settings.source

    def answer(self, name: str, data: bytes) -> None:
        """Predicts what one file holds; each result carries the version that computed it."""
        serving = self.switch.current
        assert serving is not None
        started = time.perf_counter()
        try:
            batch = read_samples(data, serving.model.contract)
            predictions = [serving.model.predict(part) for part in _parts(batch)]
        except CorruptSample as error:
            self.telemetry.failed()
            self.results.add({"source": name, "error": str(error)})
            return
        milliseconds = (time.perf_counter() - started) * 1000 / len(batch)
        self.drift.add(serving, batch)
        stamp = {"ms": round(milliseconds, 3), "model_version": serving.version, "model_sha": serving.sha}
        for place, found in enumerate(row for prediction in predictions for row in _rows(prediction)):
            self.telemetry.predicted(milliseconds, found.get("confidence"))
            where = {"source": name} if len(batch) == 1 else {"source": name, "sample": place}
            self.results.add({**where, **found, **stamp})

    def _first_of(self, serving: Serving) -> None:
        """The first answer of a model is reported at once, the others in their interval."""
        if serving.identity != self._answered_by:
            self._answered_by = serving.identity
            self._due = 0.0

    def _watch_store(self) -> None:
        while not self.stopping.wait(self.settings.poll_s):
            try:
                store = self.work.parent / self.settings.model_component / "store"
                self._note(self.switch.step(store) if self.settings.model_component else None)
            except OSError as error:  # a full disk must not end the thread: the store is looked at again
                _log.error("the model store: %s", error)

    def _note(self, event: Event | None) -> None:
        if event is not None:
            self.telemetry.happened(event)
            self._due = 0.0

    def _keep_reporting(self) -> None:
        """Its own thread: a nucleus that is slow to answer must not hold up an inference."""
        while not self.stopping.wait(self.settings.poll_s):
            self._report()

    def _report(self) -> None:
        """Publishes when it is time, or when something happened; what cannot be sent waits, bounded."""
        if time.monotonic() < self._due:
            return
        self._due = time.monotonic() + self.settings.interval_s
        if self.nucleus is None:
            return
        self.backlog.append(self.telemetry.report(self.switch.current, self.drift.take(), self.dropped))
        while len(self.backlog) > BACKLOG:
            self.backlog.popleft()
            self.dropped += 1
        topic = f"{self.settings.prefix}/{self.thing}/telemetry"
        while self.backlog and self.nucleus.publish(topic, self.backlog[0]):
            self.backlog.popleft()


def _parts(batch: Batch) -> Iterator[Batch]:
    """A file with many rows is answered in parts: memory stays bounded."""
    for start in range(0, len(batch), PART):
        yield batch[start : start + PART]


def _rows(prediction: Prediction) -> list[dict[str, Any]]:
    """Each answer of a batch: label and confidence, or the value."""
    if not prediction.labels:
        return [{"value": value} for value in prediction.values.tolist()]
    named = zip(prediction.labels, prediction.confidences.tolist(), strict=True)
    return [{"label": label, "confidence": round(confidence, 4)} for label, confidence in named]


def self_test(work: Path) -> None:
    """Proves before RUNNING that the work folder takes files; the imports above proved the packages."""
    probe = work / ".probe"
    probe.write_bytes(b"probe")
    probe.unlink()


def main(argv: Sequence[str] | None = None, environment: Mapping[str, str] | None = None) -> int:
    """Runs the service; without a nucleus (no SVCUID) it serves all the same and reports nothing."""
    parser = argparse.ArgumentParser(prog="python -m edge.inference")
    parser.add_argument("--work", type=Path, required=True)
    args = parser.parse_args(argv)
    given = os.environ if environment is None else environment
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(levelname)s %(name)s: %(message)s")
    nucleus = Nucleus() if given.get("SVCUID") else None
    service = Service(args.work, given.get("AWS_IOT_THING_NAME", "standalone"), nucleus)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: service.stopping.set())
    try:
        return service.run()
    finally:
        if nucleus:
            nucleus.close()


if __name__ == "__main__":
    sys.exit(main())
