"""The child process that serves the embedded AWS on loopback: moto and our stand-ins.

    python -m lab.server --root DIR [--port N] [--region R] [--watch-parent]

Writes DIR/engine.json when it answers, and removes it when it ends. SIGTERM, SIGINT and, with --watch-parent, the end
of its parent stop it and every child that its jobs, functions, endpoints and devices started.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lab.engine import Engine
from lab.home import write_atomically

# In this order: later ones build on earlier ones. A module that does not load is an error, never a gap.
STAND_INS = (
    "lab.s3",
    "lab.bulk",
    "lab.events",
    "lab.schedules",
    "lab.sns",
    "lab.alarms",
    "lab.stepfunctions",
    "lab.cloudformation",
    "lab.codebuild",
    "lab.awslambda",
    "lab.sagemaker",
    "lab.glue",
    "lab.iot",
    "lab.provisioning",
    "lab.greengrassv2",
    "lab.grants",
)
HOST = "127.0.0.1"
# Services whose name in CloudFormation is that of their API.
CLIENTS = {
    "budgets", "cloudwatch", "codebuild", "dynamodb", "ecr", "events", "glue", "greengrassv2", "iam", "iot", "kms",
    "lambda", "logs", "s3", "sagemaker", "sns", "stepfunctions",
}  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    args = _arguments(argv)
    gc.disable()  # until all is loaded: of the millions of objects that it makes none is garbage
    root = Path(args.root).resolve()
    root.mkdir(parents=True, exist_ok=True)
    _point_moto_at_us(args.region)
    from lab import once

    once.install()
    from lab import child, ipc

    try:
        # Bound here: werkzeug answers a port that is taken with advice about its own command line.
        bound = socket.create_server((HOST, args.port), backlog=128)
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else str(error)
        print(f"cannot listen on port {args.port} of {HOST}: {why}", file=sys.stderr)  # noqa: T201
        return 1
    port = bound.getsockname()[1]
    engine = Engine(root, f"http://{HOST}:{port}", args.region, _account(), root / "assembly")
    server = _serving(engine, bound)
    os.environ["AWS_ENDPOINT_URL"] = engine.endpoint  # moto's interpreter calls services through boto3
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    if args.watch_parent:
        threading.Thread(target=_watch, args=(os.getppid(), stop), daemon=True).start()
    try:
        for name in STAND_INS:
            importlib.import_module(name).install(engine)
        _collect_seldom()
        threading.Thread(target=server.serve_forever, daemon=True).start()
        _announce(engine)
        threading.Thread(target=_warm, args=(engine,), daemon=True).start()
        stop.wait()
    finally:
        (root / "engine.json").unlink(missing_ok=True)
        child.stop_all()
        ipc.stop_all()
    # Request threads may still wait on a job that was just ended; there is nothing left for them to do.
    sys.stdout.flush()
    os._exit(0)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m lab.server", description="Serves the embedded AWS on loopback.")
    parser.add_argument("--root", required=True, help="folder for engine.json, logs and job folders")
    parser.add_argument("--port", type=int, default=0, help="loopback port; 0 takes a free one")
    parser.add_argument("--region", default="us-east-1")
    parser.add_argument("--watch-parent", action="store_true", help="end when the process that started this one ends")
    return parser.parse_args(argv)


def _point_moto_at_us(region: str) -> None:
    """Settings that moto and boto3 read from the environment, before either is imported."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ.update(
        AWS_ACCESS_KEY_ID="test",
        AWS_SECRET_ACCESS_KEY="test",
        AWS_DEFAULT_REGION=region,
        AWS_REGION=region,
        AWS_EC2_METADATA_DISABLED="true",
        NO_PROXY=f"{HOST},localhost",
        no_proxy=f"{HOST},localhost",
    )


def _account() -> str:
    from moto.core import DEFAULT_ACCOUNT_ID

    return str(DEFAULT_ACCOUNT_ID)


def _serving(engine: Engine, bound: socket.socket) -> Any:
    """moto's WSGI application, behind the check of what roles may do, on a bound loopback socket."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
    from werkzeug.serving import make_server

    from lab import access, inside

    class Quiet(MotoRequestHandler):  # type: ignore[misc]  # moto is untyped
        """HTTP/1.1, and one log line for a request only when the server could not answer it."""

        protocol_version = "HTTP/1.1"

        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            if str(code).startswith("5"):
                super().log_request(code, size)

    application = access.guarded(engine, DomainDispatcherApplication(create_backend_app))
    port = bound.getsockname()[1]
    for host in (HOST, "localhost"):
        inside.serve(f"{host}:{port}", application)
    return make_server(HOST, port, application, threaded=True, request_handler=Quiet, fd=bound.detach())


def _announce(engine: Engine) -> None:
    said = {
        "pid": os.getpid(),
        "port": int(engine.endpoint.rpartition(":")[2]),
        "endpoint": engine.endpoint,
        "region": engine.region,
        "account": engine.account,
    }
    write_atomically(engine.root / "engine.json", json.dumps(said))


def _collect_seldom() -> None:
    """What is loaded stays for good; a collection every 700 objects would take a third of a deployment."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    gc.enable()


def _warm(engine: Engine) -> None:
    """Makes the clients that a deployment asks for while the caller still reads its assembly."""
    from lab.resources import KINDS

    for service in sorted({kind.type.split("::")[1].lower() for kind in KINDS.values()} & CLIENTS):
        engine.client(service)


def _watch(parent: int, stop: threading.Event) -> None:
    """A process whose parent ends is given another one; that is the sign."""
    while os.getppid() == parent:
        time.sleep(0.2)
    with contextlib.suppress(OSError):
        print("the process that started the embedded AWS is gone; ending", file=sys.stderr)  # noqa: T201
    stop.set()


if __name__ == "__main__":
    raise SystemExit(main())
