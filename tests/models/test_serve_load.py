"""A minute of load with model after model swapped in: no request is lost, and no answer mixes two versions."""

import contextlib
import http.client
import json
import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from asking import NPY, Address, npy, serving

from models.runtime import Model

pytestmark = [pytest.mark.slow, pytest.mark.timeout(280)]
SECONDS = 60.0
CLIENTS = 32
SWAPS = 20
ATTRIBUTES = "X-Amzn-SageMaker-Custom-Attributes"


class Client(threading.Thread):
    """Asks on one connection until it is told to stop, and keeps what was said."""

    def __init__(self, address: Address, body: bytes, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self._address, self._body, self._stop_now = address, body, stop
        self.sent = 0
        self.wrong: list[Any] = []
        self.said: list[tuple[str, str, tuple[float, ...]]] = []  # header, body's version, probabilities

    def run(self) -> None:
        with contextlib.closing(http.client.HTTPConnection(*self._address, timeout=30)) as line:
            while not self._stop_now.is_set():
                self.sent += 1
                try:
                    line.request("POST", "/invocations", self._body, NPY)
                    response = line.getresponse()
                    data = response.read()
                except (OSError, http.client.HTTPException) as error:
                    self.wrong.append(error)
                    return
                if response.status != 200:
                    self.wrong.append((response.status, data))
                    continue
                found = json.loads(data)
                row = tuple(found["predictions"][0]["probabilities"])
                self.said.append((str(response.headers[ATTRIBUTES]), found["model_version"], row))


def version(address: Address) -> str:
    with contextlib.closing(http.client.HTTPConnection(*address, timeout=30)) as line:
        line.request("GET", "/ping")
        return str(json.loads(line.getresponse().read())["model_version"])


def put(source: Path, folder: Path, name: str) -> None:
    """The package of `source` takes the place of `folder`, whole, under another version."""
    fresh, old = folder.with_name("fresh"), folder.with_name("old")
    shutil.copytree(source, fresh)
    about = json.loads((fresh / "model.json").read_text())
    (fresh / "model.json").write_text(json.dumps({**about, "version": name}))
    folder.rename(old)
    fresh.rename(folder)
    shutil.rmtree(old)


def test_a_minute_of_load_and_twenty_swaps_lose_no_request_and_mix_no_versions(
    packed: Callable[..., Path], curated: Path, tmp_path: Path
) -> None:
    two = [packed(curated, seed) for seed in (1, 2)]
    sample = np.random.default_rng(0).integers(0, 256, (1, 1, 16, 16), np.uint8)
    expected = [Model.load(package, 1).predict(sample).answers[0] for package in two]
    assert np.abs(expected[0] - expected[1]).max() > 0.01  # the answer alone says which of the two gave it
    folder = Path(shutil.copytree(two[0], tmp_path / "model"))
    put(two[0], folder, "0")
    stop, began = threading.Event(), time.monotonic()
    with serving(folder) as (child, address):
        clients = [Client(address, npy(sample), stop) for _ in range(CLIENTS)]
        for client in clients:
            client.start()
        for number in range(1, SWAPS + 1):
            time.sleep(max(0.0, began + SECONDS * number / (SWAPS + 1) - time.monotonic()))
            put(two[number % 2], folder, str(number))
            child.send_signal(signal.SIGHUP)
            end = time.monotonic() + 20
            while version(address) != str(number):
                assert time.monotonic() < end
                time.sleep(0.05)
        time.sleep(max(0.0, began + SECONDS - time.monotonic()))
        stop.set()
        for client in clients:
            client.join(30)
    assert [wrong for client in clients for wrong in client.wrong] == []
    assert all(client.sent == len(client.said) > SWAPS for client in clients)
    for client in clients:
        numbers = [int(name) for _, name, _ in client.said]
        assert numbers == sorted(numbers)  # who saw a version never sees an older one
    answers = {said for client in clients for said in client.said}
    assert {name for _, name, _ in answers} == {str(number) for number in range(SWAPS + 1)}
    for header, name, row in answers:
        assert header == f"model_version={name}"
        np.testing.assert_allclose(row, expected[int(name) % 2], atol=1e-4)
