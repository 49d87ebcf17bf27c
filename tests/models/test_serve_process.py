"""The endpoint as a process: what signals do to it, and what it does with a package that must not serve."""

import contextlib
import http.client
import json
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from asking import NPY, Address, ask, npy, serving, started

Process = tuple[subprocess.Popen[str], Address]


@pytest.fixture
def process(package: Path) -> Iterator[Process]:
    """A serving process and its address."""
    with serving(package) as found:
        yield found


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_finishes_the_answers_under_way_and_then_ends(process: Process, number: signal.Signals) -> None:
    child, address = process
    with (
        socket.create_connection(address, timeout=30),
        contextlib.closing(http.client.HTTPConnection(*address, timeout=30)) as busy,
    ):
        busy.request("GET", "/ping")
        assert busy.getresponse().read()
        busy.request("POST", "/invocations", npy(np.zeros((64, 1, 16, 16), np.uint8)), NPY)
        child.send_signal(number)
        response = busy.getresponse()
        assert response.status == 200
        assert len(json.loads(response.read())["predictions"]) == 64
        assert child.wait(timeout=20) == 0
        assert child.stderr is not None
        assert "drained" in child.stderr.read()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address, timeout=5)


def version(address: Address) -> str:
    return str(ask(address, "GET", "/ping")[1]["model_version"])


def renamed(package: Path, name: str) -> None:
    """The package in its folder is another version from now on, moved into place whole."""
    fresh = Path(shutil.copytree(package, package.with_name("fresh")))
    about = json.loads((fresh / "model.json").read_text())
    (fresh / "model.json").write_text(json.dumps({**about, "version": name}))
    package.rename(package.with_name("old"))
    fresh.rename(package)


def test_a_changed_package_is_taken_up_on_sighup(process: Process, package: Path) -> None:
    child, address = process
    renamed(package, "the next one")
    child.send_signal(signal.SIGHUP)
    end = time.monotonic() + 20
    while version(address) != "the next one":
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_package_that_must_not_serve_leaves_the_old_one_in_service(process: Process, package: Path) -> None:
    child, address = process
    before = version(address)
    (package / "model.onnx").write_bytes(b"changed")
    child.send_signal(signal.SIGHUP)
    assert child.stderr is not None
    said = next(line for line in child.stderr if "must not serve" in line)
    assert "the old one stays: digest: model.onnx" in said
    assert version(address) == before


def test_a_package_that_must_not_serve_ends_the_process(package: Path) -> None:
    (package / "model.onnx").write_bytes(b"changed")
    child = started(package)
    _, said = child.communicate(timeout=60)
    assert child.returncode != 0
    assert "PackageError: digest: model.onnx" in said
