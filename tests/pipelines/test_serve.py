"""The endpoint's entry as SageMaker starts it: `serve` behind the entry point, a port, a model folder, SIGTERM."""

import io
import json
import os
import signal
import socket
import subprocess
import sys
import tarfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]


def start(model: Path, port: int) -> subprocess.Popen[str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith(("SM_", "SAGEMAKER_"))}
    return subprocess.Popen(
        [sys.executable, "-m", "pipelines.jobs.serve", "serve"],
        cwd=ROOT,
        env={
            **own,
            "SM_MODEL_DIR": str(model),
            "SAGEMAKER_BIND_TO_PORT": str(port),
            "BIND_HOST": "127.0.0.1",
            "METRICS_NAMESPACE": "ml-lab-test/Endpoint",
            "ENDPOINT_NAME": "live",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.fixture
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture
def model(released: Path, tmp_path: Path) -> Path:
    (archive,) = released.glob("release/*/endpoint/model.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path / "model", filter="data")
    return tmp_path / "model"


@pytest.fixture
def endpoint(model: Path, port: int) -> Iterator[tuple[subprocess.Popen[str], str]]:
    process = start(model, port)
    url = f"http://127.0.0.1:{port}"
    for _ in range(600):
        try:
            with urllib.request.urlopen(f"{url}/ping", timeout=5):
                break
        except (urllib.error.URLError, ConnectionError):
            assert process.poll() is None, process.stdout and process.stdout.read()
            time.sleep(0.05)
    yield process, url
    process.kill()
    process.communicate()


def test_the_endpoint_answers_and_ends_on_sigterm(endpoint: tuple[subprocess.Popen[str], str]) -> None:
    process, url = endpoint
    body = io.BytesIO()
    np.save(body, np.full((2, 1, 12, 12), 200, np.uint8))
    request = urllib.request.Request(
        f"{url}/invocations", body.getvalue(), headers={"Content-Type": "application/x-npy"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        found = json.loads(answer.read())
    assert [row["label"] for row in found["predictions"]] == ["bright", "bright"]
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=20) == 0


def test_a_package_that_was_changed_does_not_serve(model: Path, port: int) -> None:
    (model / "model.onnx").write_bytes(b"something else")
    process = start(model, port)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "must not serve: digest: model.onnx" in said


def test_what_the_endpoint_says_is_json_and_its_figures_are_metrics(
    endpoint: tuple[subprocess.Popen[str], str],
) -> None:
    process, url = endpoint
    body = io.BytesIO()
    np.save(body, np.full((2, 1, 12, 12), 200, np.uint8))
    asked = urllib.request.Request(f"{url}/invocations", body.getvalue(), headers={"Content-Type": "application/x-npy"})
    with urllib.request.urlopen(asked, timeout=10) as answer:
        answer.read()
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=20)
    lines = [json.loads(line) for line in said.splitlines()]
    assert any(line.get("message", "").startswith("serving ") for line in lines)
    assert {"time", "level", "logger"} <= set(lines[0])
    (figures,) = [line for line in lines if "_aws" in line]
    (directive,) = figures["_aws"]["CloudWatchMetrics"]
    assert (directive["Namespace"], directive["Dimensions"]) == ("ml-lab-test/Endpoint", [["EndpointName"]])
    units = {metric["Name"]: metric["Unit"] for metric in directive["Metrics"]}
    assert (units["total_p99_ms"], units["requests"]) == ("Milliseconds", "Count")
    assert all(isinstance(figures[name], int | float) for name in units)
    assert (figures["EndpointName"], figures["requests"], figures["samples"]) == ("live", 1, 2)
