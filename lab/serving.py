"""Starts one serve process over an unpacked model and waits until it is healthy."""

from __future__ import annotations

import http.client
import json
import re
import shlex
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lab import access, child, identity, jobfiles, joblog, onbehalf, runtimes
from lab.errors import LabError
from lab.jobfiles import Files, Place

if TYPE_CHECKING:
    from lab.engine import Engine

LOOPBACK = "127.0.0.1"
START_SECONDS = 120.0
# SageMaker waits 60 s for an answer of the container.
ANSWER_SECONDS = 60.0
_ENTRYPOINT = re.compile(r"^ENTRYPOINT\s+(\[.*\])\s*$", re.MULTILINE)
_ENV = re.compile(r"^ENV\s+(.*)$", re.MULTILINE)


class ServeError(LabError):
    """The process did not come to answer."""


@dataclass(frozen=True)
class Answer:
    """What the model's process said to a request."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(eq=False)
class Server:
    """A serve process that answers on a loopback port."""

    running: child.Running
    port: int

    def ask(self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Answer:
        """One request; OSError or http.client.HTTPException when the process does not answer."""
        connection = http.client.HTTPConnection(LOOPBACK, self.port, timeout=ANSWER_SECONDS)
        try:
            connection.request(method, path, body=body, headers=dict(headers or {}))
            answer = connection.getresponse()
            return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def healthy(self) -> bool:
        try:
            return self.ask("GET", "/ping").status == http.client.OK
        except (OSError, http.client.HTTPException):
            return False

    def stop(self) -> None:
        self.running.stop()


def start(
    engine: Engine,
    name: str,
    *,
    image: str,
    model_data: str | None,
    environment: Mapping[str, str],
    role_arn: str,
    isolated: bool = False,
) -> Server:
    """Starts the image's entry point on a free port and waits until it is healthy.

    `name` is the folder's and the log's. Raises ServeError with the process's last lines, or FilesError when the
    model archive is not there or broken.
    """
    access.require(engine, role_arn, onbehalf.runs(engine, image, "/aws/sagemaker/Endpoints"), session=name[:64])
    home = image_folder(engine, image)
    argv, given = entry_point(home)
    folder = child.job_folder(engine, "endpoints", name)
    ml = folder / "ml"
    (ml / "model").mkdir(parents=True, exist_ok=True)
    if model_data:
        place = Place.parse(model_data)
        Files(engine, identity.assume(engine, role_arn, name[:64])).download(place, folder / "tmp")
        jobfiles.unpack(folder / "tmp" / place.key.rpartition("/")[2], ml / "model")
    port = free_port()
    env = {
        **given,
        "SM_MODEL_DIR": str(ml / "model"),
        "SAGEMAKER_BIND_TO_PORT": str(port),
        "BIND_HOST": LOOPBACK,
        **jobfiles.rewritten_environment(environment, ml),
    }
    what = child.Child(
        kind="endpoint",
        service="endpoints",
        name=name,
        argv=[*argv, "serve"],  # SageMaker runs `docker run IMAGE serve`
        cwd=home,
        env=env,
        runtime=runtimes.of_image(engine, image),
        bundle_paths=[home],
        role_arn=role_arn,
        isolated=isolated,
        ledger=False,
    )
    server = Server(child.start(what, engine), port)
    rc = _wait_until_healthy(server)
    child.note(engine, what, server.running.started, time.time(), rc, server.running.log)
    if rc != 0:
        server.stop()
        said = joblog.tail(server.running.log)
        raise ServeError(f"The container did not pass the ping health check. Its last lines:\n{said}")
    return server


def _wait_until_healthy(server: Server) -> int:
    """0 when it answers, its exit status (1 for 0) when it ended, 124 when the time is over."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        ended = server.running.poll()
        if ended is not None:
            return ended.rc or 1
        if server.healthy():
            return 0
        time.sleep(0.05)
    return child.TIMED_OUT


def image_folder(engine: Engine, image: str) -> Path:
    """Where the build of `image` lies; ServeError when its tag was never built."""
    repository, _, tag = image.partition("/")[2].rpartition(":")
    folder = engine.root / "images" / repository / tag
    if not repository or not (folder / "Dockerfile").is_file():
        raise ServeError(f"The image {image} does not exist; its CodeBuild project builds it")
    return folder


def entry_point(folder: Path) -> tuple[list[str], dict[str, str]]:
    """ENTRYPOINT (in its JSON form) and ENV of the Dockerfile in `folder`."""
    text = (folder / "Dockerfile").read_text(encoding="utf-8")
    found = _ENTRYPOINT.search(text)
    if not found:
        raise ServeError(f"the Dockerfile in {folder} has no ENTRYPOINT in JSON form", 'write ENTRYPOINT ["python", …]')
    pairs = [word.partition("=") for line in _ENV.findall(text) for word in shlex.split(line)]
    return list(json.loads(found[1])), {name: value for name, _, value in pairs}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port
