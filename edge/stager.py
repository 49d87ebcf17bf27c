"""The model component's startup: hands its package to the runtime and succeeds only when the runtime accepts it.

    python3 -m edge.stager --package DIR --version V --work DIR --verdicts DIR [--signature BASE64] [--patience SECONDS]

Exit 0 accepted, 4 refused (the line on stderr says by whom and why), 2 usage. Standard library only: the interpreter
is the device's own. A retry finds its work done, and a verdict on the same package is not asked for twice.
"""

from __future__ import annotations

import argparse
import base64
import binascii
import os
import shutil
import socket
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edge.files import (
    PASSING,
    SIGNATURE,
    BrokenPackage,
    copy_folder,
    identity,
    read_json,
    verify,
    write_bytes,
    write_json,
)

REFUSED = 4
POLL = 0.1
KEPT = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Stages the package, waits for the verdict, tells the nucleus."""
    parser = argparse.ArgumentParser(prog="python3 -m edge.stager")
    parser.add_argument("--package", type=Path, required=True)
    parser.add_argument("--version", required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--verdicts", type=Path, required=True)
    parser.add_argument("--signature", default="", help="of model.json, where the model is signed")
    parser.add_argument("--patience", type=float, default=120.0)
    args = parser.parse_args(argv)
    try:
        name, staged = stage(args.package, args.version, args.work / "store", args.signature)
    except BrokenPackage as error:
        return _refuse(args.version, error.reason, error.detail)
    verdict = wait(args.verdicts / args.version, name, args.patience, staged)
    if verdict is None:
        return _refuse(args.version, "unanswered", f"the runtime said nothing within {args.patience:g} s")
    if not verdict["accepted"]:
        return _refuse(args.version, str(verdict.get("reason")), str(verdict.get("detail")))
    print(f"version {args.version} is accepted", flush=True)  # noqa: T201
    notify(os.environ)
    return 0


def stage(package: Path, version: str, store: Path, signature: str = "") -> tuple[str, str]:
    """Verifies the package, copies it to `store/<version>`, points `store/wanted.json` to it.

    `signature` is base64 and becomes the copy's `model.sig`. Gives the package's identity, and the mark of this
    staging, which a verdict repeats. Raises BrokenPackage.
    """
    verify(package)
    signed = _decoded(signature)
    name = identity(package)
    store.mkdir(parents=True, exist_ok=True)
    target = store / version
    if not (target.is_dir() and _same(target, name)):
        copy_folder(package, target)
        verify(target)
    if signed:
        write_bytes(target / SIGNATURE, signed)
    elif not (package / SIGNATURE).exists():
        (target / SIGNATURE).unlink(missing_ok=True)
    staged = uuid.uuid4().hex
    write_json(store / "wanted.json", {"version": version, "identity": name, "staged": staged})
    _collect(store, version)
    return name, staged


def _decoded(signature: str) -> bytes:
    try:
        return base64.b64decode(signature, validate=True)
    except binascii.Error as error:
        raise BrokenPackage("signature", f"the recipe's signature is no base64: {error}") from error


def _same(target: Path, name: str) -> bool:
    try:
        verify(target)
        return identity(target) == name
    except BrokenPackage:
        return False


def _collect(store: Path, version: str) -> None:
    """Keeps the wanted version and the newest other one."""
    others = [path for path in store.iterdir() if path.is_dir() and path.name != version]
    for path in sorted(others, key=lambda one: one.stat().st_mtime)[: max(0, len(others) - (KEPT - 1))]:
        shutil.rmtree(path, ignore_errors=True)


def wait(path: Path, name: str, patience: float, staged: str = "") -> Mapping[str, Any] | None:
    """The runtime's verdict on the package called `name`; None when none came in time.

    A refusal that was no judgement of the package, such as a full disk, counts only for the staging that met it.
    """
    deadline = time.monotonic() + patience
    while True:
        verdict = read_json(path)
        judged = verdict is not None and verdict.get("identity") == name
        if verdict is not None and judged and (verdict.get("staged") == staged or verdict.get("reason") not in PASSING):
            return verdict
        if time.monotonic() >= deadline:
            return None
        time.sleep(POLL)


def notify(environment: Mapping[str, str]) -> None:
    """READY=1 to the nucleus that asks for it (lite, by $NOTIFY_SOCKET); exit 0 says the same to the others."""
    address = environment.get("NOTIFY_SOCKET")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
        notified.connect("\0" + address[1:] if address.startswith("@") else address)
        notified.sendall(b"READY=1")


def _refuse(version: str, reason: str, detail: str) -> int:
    print(f"version {version} is refused: {reason}: {detail}", file=sys.stderr, flush=True)  # noqa: T201
    return REFUSED


if __name__ == "__main__":
    sys.exit(main())
