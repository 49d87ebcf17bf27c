"""The nucleus as this component sees it: state, configuration, publishing. The one file that touches awsiotsdk.

Losing the nucleus never stops inference: each call here says whether it worked, and `lost_for` says how long the
connection has been gone, so that the caller can end and be started again with a new token.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from awsiot.greengrasscoreipc.clientv2 import GreengrassCoreIPCClientV2
from awsiot.greengrasscoreipc.model import QOS, ReportedLifecycleState

SECONDS = 5.0
LIMIT = 6_000  # bytes of one message; the nucleus closes the connection on a frame over 10,000
_log = logging.getLogger(__name__)


class Nucleus:
    """A connection that is made again when it is lost. Every method may be called from any thread."""

    def __init__(self, connect: Callable[[], Any] = GreengrassCoreIPCClientV2) -> None:
        self._connect = connect
        self._client: Any = None
        self._lock = threading.Lock()
        self._lost_since: float | None = time.monotonic()
        self._next_try = 0.0
        self._on_change: Callable[[], None] | None = None

    def lost_for(self) -> float:
        """Seconds since the connection was lost; 0 while there is one."""
        return 0.0 if self._lost_since is None else time.monotonic() - self._lost_since

    def running(self) -> bool:
        """Reports RUNNING: a deployment that waits for this component goes on."""
        return self._call(lambda client: client.update_state(state=ReportedLifecycleState.RUNNING)) is not None

    def configuration(self) -> Mapping[str, Any] | None:
        """The component's whole configuration; None when it cannot be had now."""
        answer = self._call(lambda client: client.get_configuration())
        return None if answer is None else dict(answer.value or {})

    def watch_configuration(self, on_change: Callable[[], None]) -> bool:
        """Calls `on_change` after each change, also after a reconnection."""
        self._on_change = on_change
        return self._call(self._subscribe) is not None

    def publish(self, topic: str, payload: bytes) -> bool:
        """Publishes to AWS IoT Core at least once; False when offline, disconnected or refused."""
        if len(payload) > LIMIT:
            raise ValueError(f"a message of {len(payload)} bytes; {LIMIT} fit through the nucleus")
        sent = self._call(
            lambda client: client.publish_to_iot_core(topic_name=topic, qos=QOS.AT_LEAST_ONCE, payload=payload)
        )
        return sent is not None

    def close(self) -> None:
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close(executor_wait=False)

    def _subscribe(self, client: Any) -> Any:
        def changed(_: Any) -> None:
            if self._on_change is not None:
                self._on_change()

        return client.subscribe_to_configuration_update(key_path=[], on_stream_event=changed)

    def _call(self, operation: Callable[[Any], Any]) -> Any:
        """The operation's answer; None after any error, with the connection dropped if that is what failed."""
        client = self._connected()
        if client is None:
            return None
        try:
            return operation(client)
        except Exception as error:  # the SDK raises its own, the runtime's and awscrt's errors; none may end inference
            _log.warning("the nucleus refused or is gone: %s: %s", type(error).__name__, error)
            if _is_connection(error):
                self._drop()
            return None

    def _connected(self) -> Any:
        with self._lock:
            if self._client is not None or time.monotonic() < self._next_try:
                return self._client
            try:
                client = self._connect()
                if self._on_change is not None:
                    self._subscribe(client)
            except Exception as error:  # as above
                self._next_try = time.monotonic() + SECONDS * random.uniform(0.5, 1.0)
                _log.warning("no connection to the nucleus: %s: %s", type(error).__name__, error)
                return None
            self._client, self._lost_since = client, None
            return client

    def _drop(self) -> None:
        self.close()
        if self._lost_since is None:
            self._lost_since = time.monotonic()


def _is_connection(error: Exception) -> bool:
    """Whether an error says that the connection is gone, and not that the nucleus refused one request."""
    return type(error).__name__ in (
        "ConnectionClosedError",
        "StreamClosedError",
        "EventStreamError",
        "AwsCrtError",
        "RuntimeError",
        "TimeoutError",
    )
