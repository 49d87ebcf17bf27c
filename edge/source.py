"""What the device looks at: a folder, a recording, a camera, a topic; each feeds the queue until it is stopped."""

from __future__ import annotations

import logging
import shlex
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Protocol

from edge.frames import Frame, Frames
from edge.settings import Settings

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".csv", ".tsv", ".txt")
TEXTS = (".csv", ".tsv", ".txt")
START, END = b"\xff\xd8\xff", b"\xff\xd9"
PICTURE_BYTES = 16_000_000
CHUNK = 65_536
PAUSES_S = (1.0, 60.0)
_log = logging.getLogger(__name__)

Subscribe = Callable[[str, Callable[[str, bytes], None]], bool]


class Source(Protocol):
    """Feeds the queue; `feed` returns soon after `stop` is set."""

    def feed(self, frames: Frames, stop: threading.Event) -> None: ...


def of(settings: Settings, work: Path, topics: str, subscribe: Subscribe | None) -> Source:
    """The source that `settings.source` names; `topics` is what this device's own topics begin with."""
    scheme, rest = settings.looks_at
    if scheme == "replay":
        return Replay(work / rest, settings.rate_hz)
    if scheme == "camera":
        return Camera(rest)
    if scheme == "topic":
        return Topic(f"{topics}/{rest}", subscribe)
    return Folder(work / rest, settings.poll_s)


class Folder:
    """Pictures or tables in a folder, oldest first. A file is taken when it did not change since the look before."""

    def __init__(self, path: Path, poll_s: float = 0.5) -> None:
        self.path = path
        self.poll_s = poll_s
        self._seen: dict[str, tuple[int, int]] = {}
        self._done: dict[str, tuple[int, int]] = {}

    def feed(self, frames: Frames, stop: threading.Event) -> None:
        """A file can wait where it is: none is dropped."""
        while not stop.wait(self.poll_s):
            for name, data in self.new():
                frame = Frame(name, data)
                while not frames.offer(frame):
                    if stop.is_set():
                        return

    def new(self) -> Iterator[tuple[str, bytes]]:
        """Name and content of each file that is new or has changed."""
        if not self.path.is_dir():
            return
        now: dict[str, tuple[int, int]] = {}
        for path in self.path.iterdir():
            if path.suffix.lower() in SUFFIXES and not path.name.startswith("."):
                try:
                    state = path.stat()
                except FileNotFoundError:
                    continue
                now[path.name] = (state.st_mtime_ns, state.st_size)
        whole = [name for name, mark in now.items() if self._seen.get(name) == mark and self._done.get(name) != mark]
        self._seen, self._done = now, {name: mark for name, mark in self._done.items() if name in now}
        for name in sorted(whole, key=lambda one: now[one]):
            try:
                data = (self.path / name).read_bytes()
            except OSError:
                continue
            yield name, data
            self._done[name] = now[name]


class Replay:
    """A recording at a steady rate, over and over: the files of a folder by name, or the rows of one table.

    `PATH#N` gives N rows of the table at a time, each time under its header.
    """

    def __init__(self, path: Path, rate_hz: float) -> None:
        self.path = path
        self.rate_hz = rate_hz

    def feed(self, frames: Frames, stop: threading.Event) -> None:
        due = time.monotonic()
        while not stop.is_set():
            any_at_all = False
            for name, data in self._samples():
                due = max(due + 1 / self.rate_hz, time.monotonic() - 1)
                if stop.wait(max(0.0, due - time.monotonic())):
                    return
                frames.push(Frame(name, data))
                any_at_all = True
            if not any_at_all:
                _log.warning("there is nothing to replay at %s", self.path)
                stop.wait(PAUSES_S[0])

    def _samples(self) -> Iterator[tuple[str, bytes]]:
        path, _, rows = str(self.path).partition("#")
        place = Path(path)
        if place.is_dir():
            for file in sorted(one for one in place.iterdir() if one.suffix.lower() in SUFFIXES):
                yield file.name, file.read_bytes()
        elif place.suffix.lower() in TEXTS and place.is_file():
            yield from _rows(place, int(rows) if rows.isdigit() and int(rows) else 1)
        elif place.is_file():
            yield place.name, place.read_bytes()


def _rows(path: Path, count: int) -> Iterator[tuple[str, bytes]]:
    """`count` lines at a time under the first one; what is left over at the end is no sample."""
    with path.open("rb") as stream:
        head = stream.readline()
        lines: list[bytes] = []
        for number, line in enumerate(stream, 1):
            lines.append(line)
            if len(lines) == count:
                yield f"{path.stem}-{number}{path.suffix}", head + b"".join(lines)
                lines = []


class Topic:
    """Messages on one of the device's own topics, each a sample. What comes faster than it is answered goes first."""

    def __init__(self, topic: str, subscribe: Subscribe | None) -> None:
        self.topic = topic
        self.subscribe = subscribe
        self._count = 0

    def feed(self, frames: Frames, stop: threading.Event) -> None:
        if self.subscribe is None:
            _log.error("source %s needs a nucleus, and there is none", self.topic)
            stop.wait()
            return

        def arrived(topic: str, payload: bytes) -> None:
            if not stop.is_set():
                self._count += 1
                frames.push(Frame(f"{topic.rsplit('/', 1)[-1]}-{self._count}", payload))

        self.subscribe(self.topic, arrived)
        stop.wait()


class Camera:
    """A command that writes MJPEG to its standard output, such as `rpicam-vid --codec mjpeg -t 0 -o -` or ffmpeg's.

    It is started again, with growing pauses, when it ends.
    """

    def __init__(self, command: str) -> None:
        self.command = shlex.split(command)
        self._count = 0

    def feed(self, frames: Frames, stop: threading.Event) -> None:
        pause = PAUSES_S[0]
        while not stop.is_set():
            before = self._count
            try:
                self._watch(frames, stop)
            except OSError as error:
                _log.error("the camera's command %s does not run: %s", self.command[0], error)
            pause = PAUSES_S[0] if self._count > before else min(PAUSES_S[1], pause * 2)
            stop.wait(pause)

    def _watch(self, frames: Frames, stop: threading.Event) -> None:
        with subprocess.Popen(self.command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as camera:
            # Reading blocks: a thread ends the command, and with it the reading, when the source is to stop.
            ended = threading.Event()
            threading.Thread(target=_end, args=(camera, stop, ended), daemon=True).start()
            try:
                assert camera.stdout is not None
                for picture in pictures(camera.stdout):
                    self._count += 1
                    frames.push(Frame(f"camera-{self._count}.jpg", picture))
            finally:
                ended.set()
                camera.kill()


def _end(camera: subprocess.Popen[bytes], stop: threading.Event, ended: threading.Event) -> None:
    while not ended.wait(0.1):
        if stop.is_set():
            camera.kill()
            return


def pictures(stream: IO[bytes]) -> Iterator[bytes]:
    """The JPEGs of an MJPEG stream. What is no picture between them is skipped, as is one without an end."""
    held = b""
    while chunk := stream.read1(CHUNK) if hasattr(stream, "read1") else stream.read(CHUNK):
        held += chunk
        while (begin := held.find(START)) >= 0 and (end := held.find(END, begin)) >= 0:
            yield held[begin : end + len(END)]
            held = held[end + len(END) :]
        if len(held) > PICTURE_BYTES:
            held = b""
