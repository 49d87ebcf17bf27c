"""Messages that wait for the cloud: on disk, within a budget, the most important first, each delivered at least once.

A kill or a power cut loses nothing that `put` has answered. When the budget is used up the least important and oldest
messages go first, and are counted. A disk that takes no more leaves a short queue in memory; inference never waits
for either.
"""

from __future__ import annotations

import contextlib
import logging
import math
import sqlite3
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

ALERT, TELEMETRY, RESULT = 0, 1, 2
CLASSES = ("alert", "telemetry", "result")
PAGE = 4096
# The log that SQLite writes ahead may reach this before it is folded into the file.
AHEAD = 64 * PAGE
# SQLite's own pages, indexes and what a deletion leaves half empty: of the file's limit this share is for messages.
FILLED = 0.6
IN_MEMORY = 256
INSERT = "INSERT INTO message (rank, created, topic, payload) VALUES (?, ?, ?, ?)"
AGES_S = 60.0  # seconds between looks for messages that are too old
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Message:
    """What goes to `topic`; `key` is the spool's own: it grows with time on disk, and falls below zero in memory."""

    key: int
    rank: int
    topic: str
    payload: bytes


class Spool:
    """A queue in `path`, at most `limit` bytes of disk whatever happens. Any thread may call.

    `max_age_s` bounds how long telemetry and results wait; alerts wait for ever, since a clock that jumps would age
    them all at once. `dropped` counts what was given up, by class.
    """

    def __init__(self, path: Path, limit: int, max_age_s: float, clock: Callable[[], float] = time.time) -> None:
        if limit < 4 * AHEAD:
            raise ValueError(f"a spool of {limit} bytes; {4 * AHEAD} are the least")
        self.path = path
        self.limit = limit
        self.max_age_s = max_age_s
        self.dropped: Counter[str] = Counter()
        self._clock = clock
        self._lock = threading.Lock()
        self._memory: deque[Message] = deque()
        self._keys = 0
        self._looked_at = -math.inf
        # Delivered, but the disk did not let them go yet: not to be sent for ever.
        self._sent: dict[int, int] = {}
        self._room = int((limit - 2 * AHEAD) * FILLED)
        self._connection = self._opened()
        self._bytes = self._sum()
        self._prune(0)

    def put(self, rank: int, topic: str, payload: bytes) -> bool:
        """Keeps one message; False when the budget has no room for one so unimportant."""
        with self._lock:
            return self._put(rank, topic, payload)

    def put_all(self, rank: int, topic: str, payloads: Sequence[bytes]) -> None:
        """Keeps several messages with one write to the disk; of those that do not fit, the newest stay."""
        with self._lock:
            try:
                fitting = self._fitting(rank, payloads)
                self._connection.execute("BEGIN")
                rows = ((rank, self._clock(), topic, payload) for payload in fitting)
                self._connection.executemany(INSERT, rows)
                self._connection.execute("COMMIT")
                self._bytes += sum(map(len, fitting))
            except sqlite3.Error as error:  # all of them or none lie on the disk
                self._trouble(error)
                if self._connection.in_transaction:
                    self._connection.rollback()
                for payload in payloads:
                    self._remember(rank, topic, payload)

    def _fitting(self, rank: int, payloads: Sequence[bytes]) -> list[bytes]:
        """The newest of `payloads` for which there is room, less important messages given up for them."""
        self._prune(min(self._room, sum(map(len, payloads))), rank)
        left, fitting = self._room - self._bytes, list[bytes]()
        for payload in reversed(payloads):
            left -= len(payload)
            if left < 0:
                break
            fitting.append(payload)
        if len(fitting) < len(payloads):
            self.dropped[CLASSES[rank]] += len(payloads) - len(fitting)
        return fitting[::-1]

    def first(self) -> Message | None:
        """The message to send next: the most important class, in it the oldest."""
        with self._lock:
            kept = self._on_disk()
            inside = min(self._memory, key=lambda one: (one.rank, -one.key), default=None)
            if kept is None or inside is None:
                return kept or inside
            return min(kept, inside, key=lambda one: one.rank)

    def done(self, message: Message) -> None:
        """The cloud has it. A kill before this sends it again."""
        with self._lock:
            if message.key < 0:
                with contextlib.suppress(ValueError):
                    self._memory.remove(message)
                return
            self._sent[message.key] = len(message.payload)
            self._clear()

    def __len__(self) -> int:
        with self._lock:
            try:
                (count,) = self._connection.execute("SELECT count(*) FROM message").fetchone()
            except sqlite3.Error:
                count = 0
            return int(count) + len(self._memory)

    def disk(self) -> int:
        """Bytes of disk that the spool takes now."""
        files = (self.path, self.path.with_name(self.path.name + "-wal"), self.path.with_name(self.path.name + "-shm"))
        return sum(file.stat().st_size for file in files if file.exists())

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    # Inside, under the lock

    def _opened(self) -> sqlite3.Connection:
        """The queue on disk; one that cannot be read is set aside, and counted once."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            return self._connected()
        except sqlite3.DatabaseError as error:
            _log.error("the spool %s cannot be read and starts anew: %s", self.path, error)
            self.dropped["spool"] += 1
            for file in self.path.parent.glob(self.path.name + "*"):
                file.unlink(missing_ok=True)
            return self._connected()

    def _connected(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, check_same_thread=False, isolation_level=None, timeout=5)
        try:
            for setting in (
                f"page_size = {PAGE}",
                "journal_mode = WAL",
                "synchronous = FULL",
                f"wal_autocheckpoint = {AHEAD // PAGE // 2}",
                f"journal_size_limit = {AHEAD}",
                f"max_page_count = {(self.limit - 2 * AHEAD) // PAGE}",
                "mmap_size = 0",
            ):
                connection.execute(f"PRAGMA {setting}").fetchone()
            connection.execute(
                "CREATE TABLE IF NOT EXISTS message "
                "(key INTEGER PRIMARY KEY AUTOINCREMENT, rank INTEGER, created REAL, topic TEXT, payload BLOB)"
            )
            connection.execute("CREATE INDEX IF NOT EXISTS turn ON message (rank, key)")
            connection.execute("SELECT sum(length(payload)) FROM message").fetchone()
        except sqlite3.DatabaseError:
            connection.close()
            raise
        return connection

    def _sum(self) -> int:
        (total,) = self._connection.execute("SELECT coalesce(sum(length(payload)), 0) FROM message").fetchone()
        return int(total)

    def _on_disk(self) -> Message | None:
        try:
            for row in self._connection.execute("SELECT key, rank, topic, payload FROM message ORDER BY rank, key"):
                if row[0] not in self._sent:
                    return Message(*row)
        except sqlite3.Error as error:
            self._trouble(error)
        return None

    def _clear(self) -> None:
        try:
            for key in list(self._sent):
                self._connection.execute("DELETE FROM message WHERE key = ?", (key,))
                self._bytes -= self._sent.pop(key)
        except sqlite3.Error as error:
            self._trouble(error)

    def _put(self, rank: int, topic: str, payload: bytes) -> bool:
        if len(payload) > self._room:
            self.dropped[CLASSES[rank]] += 1
            return False
        try:
            self._prune(len(payload), rank)
            if self._bytes + len(payload) > self._room:
                self.dropped[CLASSES[rank]] += 1
                return False
            self._connection.execute(INSERT, (rank, self._clock(), topic, payload))
            self._bytes += len(payload)
        except sqlite3.Error as error:
            self._trouble(error)
            self._remember(rank, topic, payload)
        return True

    def _prune(self, coming: int, rank: int = ALERT) -> None:
        """Gives up what is too old, then what is less important than `rank`, or as important and older."""
        now = self._clock()
        if abs(now - self._looked_at) >= AGES_S:  # it reads the whole table
            self._looked_at = now
            self._give_up("rank > 0 AND created < ?", (now - self.max_age_s,))
        while self._bytes + coming > self._room:
            row = self._connection.execute(
                "SELECT key, rank FROM message WHERE rank >= ? ORDER BY rank DESC, key LIMIT 1", (rank,)
            ).fetchone()
            if row is None:
                return
            # A sixteenth at once: a full spool must not cost a search for every message.
            self._give_up(
                "key IN (SELECT key FROM message WHERE rank = ? ORDER BY key LIMIT "
                "max(1, (SELECT count(*) FROM message WHERE rank = ?) / 16))",
                (row[1], row[1]),
            )

    def _give_up(self, which: str, values: tuple[float, ...]) -> None:
        rows = self._connection.execute(
            f"DELETE FROM message WHERE {which} RETURNING rank, length(payload)", values
        ).fetchall()
        for rank, size in rows:
            self.dropped[CLASSES[rank]] += 1
            self._bytes -= size

    def _remember(self, rank: int, topic: str, payload: bytes) -> None:
        self._keys -= 1
        self._memory.append(Message(self._keys, rank, topic, payload))
        if len(self._memory) > IN_MEMORY:
            worst = max(self._memory, key=lambda one: (one.rank, one.key))
            self._memory.remove(worst)
            self.dropped[CLASSES[worst.rank]] += 1

    def _trouble(self, error: sqlite3.Error) -> None:
        self.dropped["disk"] += 1
        if self.dropped["disk"] == 1 or self.dropped["disk"] % 100 == 0:
            _log.error("the spool's disk: %s (%d times)", error, self.dropped["disk"])
