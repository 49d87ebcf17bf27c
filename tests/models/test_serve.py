"""The endpoint over real sockets: answers, refusals, connections that stay open, and a drain that loses nothing."""

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

Server = serve.Server
NPY = {"Content-Type": "application/x-npy"}


def npy(array: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


@pytest.fixture(scope="module")
def model(served: Path) -> Model:
    return Model.load(served, 1)


@pytest.fixture
def endpoint(model: Model) -> Iterator[Server]:
    http = serve.server(model, "127.0.0.1", 0)
    running = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
    running.start()
    yield http
    http.shutdown()
    http.server_close()
    running.join()


@pytest.fixture
def client(endpoint: Server) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection("127.0.0.1", endpoint.server_address[1], timeout=20)
    yield connection
    connection.close()


@pytest.fixture
def body(model: Model) -> bytes:
    return npy(np.random.default_rng(0).integers(0, 256, (3, *model.contract.shape), np.uint8))


def ask(client: http.client.HTTPConnection, *args: Any) -> tuple[int, Any, http.client.HTTPResponse]:
    client.request(*args)
    response = client.getresponse()
    text = response.read()
    return response.status, json.loads(text) if text else None, response


def raw(endpoint: Server, request: bytes) -> bytes:
    """What the server says to these very bytes, until it hangs up."""
    with socket.create_connection(("127.0.0.1", endpoint.server_address[1]), timeout=20) as line:
        line.sendall(request)
        line.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: line.recv(4096), b""))


def test_ping_says_which_version_is_ready(client: http.client.HTTPConnection, model: Model) -> None:
    status, answer, _ = ask(client, "GET", "/ping")
    assert (status, answer) == (200, {"model_version": model.version})


def test_an_answer_is_what_the_runtime_says(client: http.client.HTTPConnection, model: Model, body: bytes) -> None:
    status, answer, response = ask(client, "POST", "/invocations", body, NPY)
    expected = model.predict(np.load(io.BytesIO(body)))
    assert status == 200
    assert response.headers["X-Amzn-SageMaker-Custom-Attributes"] == f"model_version={model.version}"
    assert answer["model_version"] == model.version
    assert [row["label"] for row in answer["predictions"]] == list(expected.labels)
    for row, probabilities in zip(answer["predictions"], expected.probabilities, strict=True):
        assert row["probabilities"] == probabilities.tolist()
        assert row["confidence"] == row["probabilities"][row["index"]] == max(row["probabilities"])


def test_a_refusal_keeps_the_connection_for_the_next_request(client: http.client.HTTPConnection, body: bytes) -> None:
    status, answer, _ = ask(client, "POST", "/invocations", b"no array", NPY)
    assert (status, answer["error"]["code"]) == (400, "corrupt")
    line = client.sock
    assert ask(client, "POST", "/elsewhere", body, NPY)[0] == 404
    assert ask(client, "GET", "/elsewhere")[0] == 404
    assert ask(client, "POST", "/invocations", body, {"Content-Type": "text/csv"})[0] == 415
    assert ask(client, "POST", "/invocations", body, NPY)[0] == 200
    assert client.sock is line


def test_a_body_over_the_limit_is_refused_and_the_refusal_arrives(client: http.client.HTTPConnection) -> None:
    status, answer, _ = ask(client, "POST", "/invocations", bytes(payload.LIMIT_BYTES + 1), NPY)
    assert (status, answer["error"]["code"]) == (413, "length")


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH"])
def test_a_method_we_lack_is_the_clients_error(client: http.client.HTTPConnection, method: str) -> None:
    assert ask(client, method, "/invocations")[0] == 405


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"garbage\r\n\r\n", 400),
        (b"POST /invocations HTTP/1.1\r\n\r\n", 411),
        (b"POST /invocations HTTP/1.1\r\nContent-Length: many\r\n\r\n", 411),
        (b"POST /invocations HTTP/1.1\r\nContent-Length: -5\r\n\r\n", 400),
        (b"POST /invocations HTTP/1.1\r\nContent-Length: 0\r\n\r\n", 400),
        (b"POST /invocations HTTP/1.1\r\nContent-Length: 10\r\n\r\nshort", 400),
        (b"POST /invocations HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n", 413),
        (b"GET /ping HTTP/1.1\r\n" + b"a: b\r\n" * 200 + b"\r\n", 431),
        (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n", 414),
    ],
)
def test_a_request_that_is_none_gets_a_4xx_in_our_form(endpoint: Server, request_bytes: bytes, status: int) -> None:
    head, _, text = raw(endpoint, request_bytes).partition(b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status} ".encode())
    assert json.loads(text)["error"]["message"]


def test_a_client_that_asks_first_is_told_to_go_on(endpoint: Server, body: bytes) -> None:
    head = f"POST /invocations HTTP/1.1\r\nContent-Type: application/x-npy\r\nContent-Length: {len(body)}\r\n"
    with socket.create_connection(("127.0.0.1", endpoint.server_address[1]), timeout=20) as line:
        line.sendall(f"{head}Expect: 100-continue\r\nConnection: close\r\n\r\n".encode())
        assert line.recv(100).startswith(b"HTTP/1.1 100 Continue")
        line.sendall(body)
        assert b"".join(iter(lambda: line.recv(4096), b"")).startswith(b"HTTP/1.1 200 OK")


def test_many_clients_at_once_all_get_their_own_answer(endpoint: Server, model: Model) -> None:
    samples = np.random.default_rng(1).integers(0, 256, (16, *model.contract.shape), np.uint8)
    expected = model.predict(samples).probabilities
    found: dict[int, list[float]] = {}

    def one(number: int) -> None:
        client = http.client.HTTPConnection("127.0.0.1", endpoint.server_address[1], timeout=20)
        _, answer, _ = ask(client, "POST", "/invocations", npy(samples[number]), NPY)
        found[number] = answer["predictions"][0]["probabilities"]
        client.close()

    threads = [threading.Thread(target=one, args=(number,)) for number in range(len(samples))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_allclose([found[number] for number in range(len(samples))], expected, atol=1e-5)


def test_a_drain_finishes_the_answer_under_way_and_hangs_up_on_idle_clients(
    model: Model, body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve.server(model, "127.0.0.1", 0)
    running = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    running.start()
    started, go_on = threading.Event(), threading.Event()
    at_once = serve.answer

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
    time.sleep(0.1)
    assert closing.is_alive()
    go_on.set()
    response = busy.getresponse()
    assert (response.status, len(json.loads(response.read())["predictions"])) == (200, 3)
    closing.join(10)
    assert not closing.is_alive()
    assert idle.sock.recv(1) == b""
    running.join()
    idle.close()
    busy.close()


def test_an_answer_that_fails_is_a_500_that_points_to_the_log(
    client: http.client.HTTPConnection, body: bytes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any) -> dict[str, Any]:
        raise RuntimeError("the arena is full")

    monkeypatch.setattr(serve, "answer", broken)
    status, answer, _ = ask(client, "POST", "/invocations", body, NPY)
    assert (status, answer["error"]["code"]) == (500, "internal")
    assert "the arena is full" in caplog.text
