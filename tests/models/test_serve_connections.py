"""Connections to the endpoint: what a client that waits, sends too much, or asks nothing gets."""

import http.client
import io
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models import payload, serve
from models.runtime import Model

NPY = {"Content-Type": "application/x-npy"}


@pytest.fixture(scope="module")
def model(served: Path) -> Model:
    return Model.load(served, 1)


@pytest.fixture
def endpoint(model: Model) -> Iterator[serve.Server]:
    server = serve.server(model, "127.0.0.1", 0)
    running = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    running.start()
    yield server
    server.shutdown()
    server.server_close()
    running.join()


@pytest.fixture
def client(endpoint: serve.Server) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection("127.0.0.1", endpoint.server_address[1], timeout=20)
    yield connection
    connection.close()


@pytest.fixture
def body(model: Model) -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.zeros((3, *model.contract.shape), np.uint8))
    return stream.getvalue()


def ask(client: http.client.HTTPConnection, *args: Any) -> tuple[int, Any]:
    client.request(*args)
    response = client.getresponse()
    return response.status, json.loads(response.read())


def test_a_client_that_asks_first_is_told_to_go_on(endpoint: serve.Server, body: bytes) -> None:
    head = f"POST /invocations HTTP/1.1\r\nContent-Type: application/x-npy\r\nContent-Length: {len(body)}\r\n"
    with socket.create_connection(("127.0.0.1", endpoint.server_address[1]), timeout=20) as line:
        line.sendall(f"{head}Expect: 100-continue\r\nConnection: close\r\n\r\n".encode())
        assert line.recv(100).startswith(b"HTTP/1.1 100 Continue")
        line.sendall(body)
        assert b"".join(iter(lambda: line.recv(4096), b"")).startswith(b"HTTP/1.1 200 OK")


@pytest.mark.parametrize("times", [2, 10])
def test_the_refusal_of_a_large_body_reaches_a_client_that_sends_it_all(
    client: http.client.HTTPConnection, times: int
) -> None:
    status, answer = ask(client, "POST", "/invocations", bytes(times * payload.LIMIT_BYTES), NPY)
    assert (status, answer["error"]["code"]) == (413, "length")


def test_the_refusal_of_a_body_without_a_length_reaches_the_client(client: http.client.HTTPConnection) -> None:
    status, answer = ask(client, "POST", "/invocations", iter([bytes(1 << 20)] * 3), NPY)
    assert (status, answer["error"]["code"]) == (411, "length")


def test_a_client_that_never_stops_sending_is_cut_off(endpoint: serve.Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "LINGER_SECONDS", 0.2)
    with socket.create_connection(("127.0.0.1", endpoint.server_address[1]), timeout=20) as line:
        line.sendall(b"POST /invocations HTTP/1.1\r\nContent-Length: 999999999999\r\n\r\n")
        with pytest.raises(ConnectionError):
            for _ in range(1000):
                line.sendall(b"x" * 100)
                time.sleep(0.01)


def test_an_answer_that_fails_is_a_500_that_points_to_the_log(
    client: http.client.HTTPConnection, body: bytes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any) -> dict[str, Any]:
        raise RuntimeError("the arena is full")

    monkeypatch.setattr(serve, "answer", broken)
    status, answer = ask(client, "POST", "/invocations", body, NPY)
    assert (status, answer["error"]["code"]) == (500, "internal")
    assert "the arena is full" in caplog.text


def test_a_drain_finishes_the_answer_under_way_and_hangs_up_on_idle_clients(
    model: Model, body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve.server(model, "127.0.0.1", 0)
    running = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    running.start()
    started, go_on, at_once = threading.Event(), threading.Event(), serve.answer

    def slow(*args: Any) -> dict[str, Any]:
        started.set()
        assert go_on.wait(20)
        return at_once(*args)

    idle = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=20)
    assert ask(idle, "GET", "/ping")[0] == 200
    monkeypatch.setattr(serve, "answer", slow)
    busy = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=20)
    busy.request("POST", "/invocations", body, NPY)
    assert started.wait(20)
    server.shutdown()
    closing = threading.Thread(target=server.server_close)
    closing.start()
    assert idle.sock.recv(1) == b""
    assert closing.is_alive()
    go_on.set()
    response = busy.getresponse()
    assert (response.status, len(json.loads(response.read())["predictions"])) == (200, 3)
    closing.join(10)
    assert not closing.is_alive()
    running.join()
    idle.close()
    busy.close()
