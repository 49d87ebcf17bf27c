"""The runtime component: serves the last good model, takes on the next one, reports what it sees.

    python -m edge.inference --work DIR

Startup proves that this device can compute, serves the last good model or waits for the first, reports RUNNING. A new
model is gated in a thread of its own while the old one answers. Losing the nucleus does not stop inference. The process
ends by itself only to be started again: 3 without a nucleus, 4 when a model hangs, 5 when it takes too much memory;
at most twice an hour, for at the third time a nucleus would give it up.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from edge import source
from edge.bucket import Bucket
from edge.capture import Capture
from edge.drift import Drift
from edge.files import BrokenPackage
from edge.forward import Forwarder
from edge.loopback import Loopback
from edge.nucleus import Nucleus
from edge.pipeline import Pipeline
from edge.probation import Probation
from edge.results import Results
from edge.settings import Settings, SettingsError, read
from edge.spool import Spool
from edge.switch import Event, Serving, Switch
from edge.telemetry import Telemetry, resident_mb
from edge.watchdog import Restarts
from models.runtime import PackageError

LOST, HUNG, FAT = 3, 4, 5
AT_START = ("prefix", "ping_s", "spool_mb", "spool_hours")
UPLOAD_S = 1.0
_log = logging.getLogger("edge.inference")


class Service:
    """One runtime process, and the threads that it consists of."""

    def __init__(self, work: Path, thing: str, nucleus: Nucleus | None, runtime: str | None = None) -> None:
        self.work = work
        self.thing = thing
        self.nucleus = nucleus
        self.settings = Settings()
        self.stopping = threading.Event()
        self.telemetry = Telemetry(thing, work, runtime)
        self.drift = Drift()
        self.results = Results(work / "results.jsonl")
        self.restarts = Restarts(work)
        self.degraded = False
        self._due = 0.0
        self._hung_at: float | None = None
        self._dropped: Counter[str] = Counter()

    def prepare(self) -> None:
        """Proves that the work folder takes files, reads the configuration, builds what the threads work with."""
        self_test(self.work)
        refused = self._read_settings()
        settings = self.settings
        spool = Spool(self.work / "spool.db", int(settings.spool_mb * 2**20), settings.spool_hours * 3600)
        self.forwarder = Forwarder(spool, self.nucleus, settings.prefix, self.thing)
        self.capture = Capture(self.work, self.thing, settings)
        self.switch = Switch(
            self.work, settings.threads, key=settings.key, free_mb=settings.free_mb, before_swap=self._observe
        )
        self.pipeline = Pipeline(
            settings=lambda: self.settings,
            switch=self.switch,
            telemetry=self.telemetry,
            drift=self.drift,
            results=self.results,
            capture=self.capture,
            forwarder=self.forwarder,
            on_first=self._soon,
        )
        self._note(refused)

    def configure(self) -> None:
        """Applies a changed configuration; one that cannot be used is reported, and the one before stays."""
        before = self.settings
        self._note(self._read_settings())
        for key in AT_START:
            if getattr(before, key) != getattr(self.settings, key):
                _log.warning("%s is %r from the next start on", key, getattr(self.settings, key))
        self.capture.settings = self.settings

    def _read_settings(self) -> Event | None:
        raw = self.nucleus.configuration() if self.nucleus else None
        if raw is None:
            return None
        try:
            self.settings, unknown = read(raw)
        except SettingsError as error:
            _log.error("configuration refused: %s", error)
            return Event("configuration", "", "refused", str(error)[:200])
        for key in unknown:
            _log.warning("configuration has the key %r, which means nothing here", key)
        return None

    def run(self) -> int:
        """Prepares, then serves."""
        self.prepare()
        return self.serve()

    def serve(self) -> int:
        """Until SIGTERM (0), or until it must be started again (3, 4, 5)."""
        restored = self.switch.restore()
        self._note(restored)
        if self.switch.current:
            _log.info("serving %s", self.switch.current.version)
            if self.switch.on_probation:
                self._observe(self.switch.current)
        else:
            _log.info("WAITING for the first model")
        if self.nucleus:
            self.nucleus.watch_configuration(self.configure)
        self.forwarder.start()
        self.pipeline.start()
        loops = (self._sense, self._watch_store, self._keep_reporting, self._keep_uploading)
        threads = [threading.Thread(target=loop, name=loop.__name__, daemon=True) for loop in loops]
        for thread in threads:
            thread.start()
        ended = self._supervise()
        self.stopping.set()
        self.pipeline.stop()
        for thread in threads:
            thread.join(timeout=3)
        self.forwarder.stop()
        return ended

    # What watches

    def _supervise(self) -> int:
        told = self.nucleus is None or self.nucleus.running()
        while not self.stopping.wait(min(0.5, self.settings.poll_s)):
            told = told or self.nucleus is None or self.nucleus.running()
            if self.pipeline.busy_for() > self._patience() and (code := self._hung()):
                return code
            if self.nucleus and self.nucleus.lost_for() > self.settings.patience_s and self._may_end("nucleus"):
                _log.error("the nucleus has been gone for %g s", self.settings.patience_s)
                return LOST
            most, size = self.settings.memory_mb, resident_mb()
            if most and size and size > most and self._may_end("memory"):
                _log.error("the process has %g MB, %d may be", size, most)
                return FAT
        return 0

    def _patience(self) -> float:
        """Seconds without an answer that count as hanging: as configured, and never less than twenty budgets."""
        budget = self.pipeline.budget_ms(self.switch.current) or 0.0
        return max(self.settings.hang_s, 20 * budget / 1000)

    def _hung(self) -> int:
        """A new worker at first; the second time within an hour a new process; when that is used up, no such model."""
        serving = self.switch.current
        version = serving.version if serving else ""
        detail = f"no answer for {self.pipeline.busy_for():.0f} s"
        _log.error("version %s hangs: %s", version, detail)
        again = self._hung_at is not None and time.monotonic() - self._hung_at < 3600
        self._hung_at = time.monotonic()
        self._note(Event("hang", version, "again" if again else "first", detail))
        if again:
            if self._may_end("hang"):
                return HUNG
            self._give_up("hang", detail)
        else:
            try:
                self.switch.reload()
            except Exception as error:  # a session that does not even load is no better than one that hangs
                _log.error("version %s does not load again: %s", version, error)
                self._give_up("hang", str(error))
        self.pipeline.replace()
        return 0

    def _give_up(self, reason: str, detail: str) -> None:
        """Goes back to the model before; without one nothing serves, and the device says that it is degraded."""
        version = self.switch.current.version if self.switch.current else ""
        event = self.switch.revert(reason, detail)
        if event is None:
            self.switch.drop(reason, detail)
            self.degraded = True
            event = Event("degraded", version, reason, detail)
        self._note(event)

    def _may_end(self, reason: str) -> bool:
        """Whether the process may end to be started again; where not, it goes on as well as it can."""
        if not self.restarts.allowed():
            if not self.degraded:
                self.degraded = True
                self._note(Event("degraded", "", reason, "it would end a third time within an hour"))
            return False
        self.restarts.note(reason)
        return True

    # What works

    def _sense(self) -> None:
        """Feeds the queue from the source that is configured now."""
        while not self.stopping.is_set():
            settings, stop = self.settings, threading.Event()
            topics = f"{settings.prefix}/{self.thing}"
            chosen = source.of(settings, self.work, topics, self.nucleus.subscribe if self.nucleus else None)
            feeding = threading.Thread(target=self._feed, args=(chosen, stop), daemon=True)
            feeding.start()
            while not self.stopping.wait(0.1):
                now = self.settings
                if (now.source, now.rate_hz, now.poll_s) != (settings.source, settings.rate_hz, settings.poll_s):
                    break
            stop.set()
            feeding.join(timeout=2)

    def _feed(self, chosen: source.Source, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                chosen.feed(self.pipeline.frames, stop)
            except Exception:  # the source may be back the next moment
                _log.exception("the source failed")
                stop.wait(1.0)

    def _watch_store(self) -> None:
        while not self.stopping.wait(self.settings.poll_s):
            try:
                self._take_on()
                self._judge()
            except (
                OSError,
                PackageError,
                BrokenPackage,
            ) as error:  # a full disk must not end the thread: it looks again
                _log.error("the model store: %s", error)

    def _take_on(self) -> None:
        settings, switch = self.settings, self.switch
        switch.key, switch.free_mb = settings.key, settings.free_mb
        if switch.threads != settings.threads:
            switch.threads = settings.threads
            switch.reload()
        if not settings.model_component:
            return
        event = switch.step(self.work.parent / settings.model_component / "store")
        if event is not None and event.kind == "swap":
            self.degraded = False
        self._note(event)

    def _observe(self, serving: Serving) -> None:
        """Puts a model on probation, from its first answer on."""
        settings = self.settings
        self.pipeline.probation = Probation(
            serving.identity,
            seconds=settings.probation_s,
            answers=settings.probation_n,
            errors_percent=settings.errors_percent,
            budget_ms=self.pipeline.budget_ms(serving),
        )

    def _judge(self) -> None:
        probation = self.pipeline.probation
        verdict = probation.verdict() if probation else None
        if verdict is None:
            return
        passed, reason, detail = verdict
        self.pipeline.probation = None
        if passed:
            self.switch.settle()
            _log.info("version %s passed its probation", self.switch.current.version if self.switch.current else "")
        elif (event := self.switch.revert(reason, detail)) is not None:
            self._note(event)
        else:  # there is nothing better: it serves on, and a person is told
            self.switch.settle()
            self._note(Event("degraded", self.switch.current.version if self.switch.current else "", reason, detail))

    # What tells

    def _soon(self) -> None:
        self._due = 0.0

    def _note(self, event: Event | None) -> None:
        if event is None:
            return
        self.telemetry.happened(event)
        serving = self.switch.current
        self.forwarder.alert(
            event.kind,
            version=event.version,
            reason=event.reason,
            detail=event.detail[:300],
            model_version=serving.version if serving else None,
            model_sha=serving.sha if serving else None,
        )
        self._soon()

    def _keep_reporting(self) -> None:
        """Its own thread: a nucleus or a disk that is slow must not hold up an inference."""
        settings = self.settings
        looped = settings.ping_s and self.nucleus and settings.looks_at[0] == "topic"
        ping = f"{settings.prefix}/{self.thing}/ping"
        loopback = Loopback(self.nucleus, ping, settings.ping_s) if looped and self.nucleus else None
        while not self.stopping.wait(min(0.2, self.settings.poll_s)):
            if loopback is not None and loopback.tend():
                self._note(Event("nucleus", "", "subscriptions", "nothing came back; subscribed again"))
            self.results.flush()
            if time.monotonic() >= self._due:
                self._due = time.monotonic() + self.settings.interval_s
                self._report()

    def _report(self) -> None:
        serving = self.switch.current
        reading = self.drift.take(self.settings.drift_psi)
        if reading is not None:
            if reading.moved and not self.drift.moved:
                worst = ", ".join(reading.features)
                self._note(Event("drift", serving.version if serving else "", "psi", f"{reading.psi:g}; {worst}"))
            self.drift.moved = reading.moved
        state = "DEGRADED" if self.degraded else "SERVING" if serving else "WAITING"
        dropped = Counter({**self.forwarder.dropped(), **self.pipeline.frames.dropped, "local": self.results.dropped})
        drops, self._dropped = dropped - self._dropped, dropped  # since the last report, as every count in it
        budget = self.pipeline.budget_ms(serving)
        self.forwarder.telemetry(self.telemetry.report(serving, reading, drops, state=state, budget_ms=budget))

    def _keep_uploading(self) -> None:
        bucket: Bucket | None = None
        while not self.stopping.wait(UPLOAD_S):
            self.telemetry.captured(self.capture.keep())
            name = self.settings.bucket
            if bucket is None or bucket.name != name:
                bucket = Bucket(name) if name else None
            if bucket is not None:
                self.capture.upload(bucket.put)


def self_test(work: Path) -> None:
    """Proves before RUNNING that the work folder takes files; the imports above proved the packages."""
    probe = work / ".probe"
    probe.write_bytes(b"probe")
    probe.unlink()


def main(argv: Sequence[str] | None = None, environment: Mapping[str, str] | None = None) -> int:
    """Runs the service; without a nucleus (no SVCUID) it serves all the same and reports nothing."""
    parser = argparse.ArgumentParser(prog="python -m edge.inference")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--version", help="of this component, for the telemetry")
    args = parser.parse_args(argv)
    given = os.environ if environment is None else environment
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(levelname)s %(name)s: %(message)s")
    nucleus = Nucleus() if given.get("SVCUID") else None
    service = Service(args.work, given.get("AWS_IOT_THING_NAME", "standalone"), nucleus, args.version)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: service.stopping.set())
    code = service.run()
    if nucleus:
        nucleus.close()
    if code == HUNG:  # a thread that hangs in an engine would hold up an orderly end
        logging.shutdown()
        os._exit(code)
    return code


if __name__ == "__main__":
    sys.exit(main())
