"""The endpoint: `/ping` and `/invocations` over HTTP/1.1, as SageMaker asks for.

Bodies are those of `models.payload`, answers those of `models.answers`, and `models.endpoint` says how one becomes the
other. What cannot be answered gets a 4xx with `{"error": {"code", "message"}}`; more than the queue takes, a 429.
"""

from __future__ import annotations

import gc
import logging
import signal
import threading
from collections.abc import Callable
from pathlib import Path

from models import quota
from models.endpoint import Endpoint, Report, ignore
from models.loop import Limits
from models.runtime import Model, PackageError

log = logging.getLogger(__name__)


class Serving:
    """An endpoint and the package that it serves: loaded beside it, and again when a signal says so."""

    def __init__(self, package: Path, endpoint: Endpoint, threads: int | None = None) -> None:
        self.endpoint = endpoint
        self.error: PackageError | None = None
        self._package = package
        self._threads = threads or quota.threads()
        self._loading = threading.Lock()

    def first(self) -> None:
        """Loads the package; one that must not serve ends it, and `error` says why."""
        try:
            self._load()
        except PackageError as error:
            self.error = error
            self.endpoint.stop()
        except Exception as error:  # whatever a broken file raises: without a model there is nothing to serve
            log.exception("the package in %s could not be loaded", self._package)
            self.error = PackageError("load", repr(error))
            self.endpoint.stop()

    def again(self) -> None:
        """Loads the folder as it is now; a package that must not serve leaves the old one where it is."""
        try:
            self._load()
        except Exception as error:
            log.error("the package in %s must not serve, the old one stays: %s", self._package, error)

    def _load(self) -> None:
        with self._loading:
            model = Model.load(self._package, self._threads)
            # What is loaded stays: the collector need not look at it again and again.
            gc.collect()
            gc.freeze()
            self.endpoint.swap(model)
        log.info(
            "serving %s (%s) on %s:%d, %d thread%s",
            model.version, model.sha256[:12], *self.endpoint.address, self._threads, "s" * (self._threads > 1),
        )  # fmt: skip

    def beside(self, load: Callable[[], None]) -> None:
        """Starts one of the two above in a thread of its own."""
        threading.Thread(target=load, name="load", daemon=True).start()


def serve(
    package: Path,
    host: str,
    port: int,
    threads: int | None = None,
    limits: Limits | None = None,
    report: Report = ignore,
) -> None:
    """Loads the package in the folder `package` and answers until SIGTERM; answers under way are finished first.

    SIGHUP loads the folder again and swaps without losing a request. `report` gets the figures of `models.stages` once
    a minute. Raises runtime.PackageError when the package must not serve.
    """
    endpoint = Endpoint(host, port, limits, report)
    serving = Serving(package, endpoint, threads)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: endpoint.stop())
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, lambda *_: serving.beside(serving.again))
    serving.beside(serving.first)
    endpoint.run()
    if serving.error is not None:
        raise serving.error
    log.info("drained")
