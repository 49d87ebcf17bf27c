"""Finds subscriptions that died in silence: a message to ourselves must come back.

Nucleus lite forgets subscriptions to AWS IoT Core when its MQTT daemon restarts, and says nothing: publishing still
works, and nothing arrives any more (aws-greengrass-lite issue 1172: 53 hours in production).
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable

from edge.nucleus import Nucleus, Refused

PATIENCE_S = 10.0
MISSES = 3
_log = logging.getLogger(__name__)


class Loopback:
    """Sends a message to `topic` every `every_s` seconds; one that does not come back makes the subscriptions anew.

    `misses` in a row give the whole connection up. `tend` is called often, by one thread.
    """

    def __init__(
        self,
        nucleus: Nucleus,
        topic: str,
        every_s: float,
        patience_s: float = PATIENCE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.nucleus = nucleus
        self.topic = topic
        self.every_s = every_s
        self.patience_s = patience_s
        self.missed = 0
        self._clock = clock
        self._lock = threading.Lock()
        self._token = b""
        self._sent_at: float | None = None
        self._due = 0.0
        nucleus.subscribe(topic, self._arrived)

    def tend(self) -> bool:
        """Sends or judges what is due; True when a loss was found and mended just now."""
        now = self._clock()
        with self._lock:
            waiting = self._sent_at is not None
            lost = self._sent_at is not None and now - self._sent_at > self.patience_s
            if lost:
                self._sent_at, self._due, self.missed = None, now, self.missed + 1
        if lost:
            _log.error("no message came back on %s (%d in a row): subscribing again", self.topic, self.missed)
            if self.missed % MISSES == 0:
                self.nucleus.reconnect()
            else:
                self.nucleus.subscribe_again()
            return True
        if not waiting and now >= self._due:
            self._send(now)
        return False

    def _send(self, now: float) -> None:
        token = uuid.uuid4().bytes
        with self._lock:
            self._token, self._sent_at, self._due = token, now, now + self.every_s
        try:
            sent = self.nucleus.publish(self.topic, token)
        except Refused:
            sent = False
        if not sent:  # offline: nothing can be said about subscriptions
            with self._lock:
                self._sent_at = None

    def _arrived(self, topic: str, payload: bytes) -> None:
        with self._lock:
            if payload == self._token:
                self._sent_at, self.missed = None, 0
