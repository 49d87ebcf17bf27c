"""Connections to the endpoint: what a client that waits, sends too much, or asks nothing gets, and what a swap does."""

import contextlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
from asking import NPY, SHAPE, Address, Net, ask, npy, raw, running, send

from models import payload
from models.connection import Patience
from models.endpoint import Endpoint
from models.loop import Limits

BODY = npy(np.zeros((3, *SHAPE), np.uint8))
HEAD = f"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-npy\r\nContent-Length: {len(BODY)}\r\n"
VERSION = "X-Amzn-SageMaker-Custom-Attributes"


@pytest.fixture
def net() -> Iterator[Net]:
    net = Net()
    yield net
    net.gate.set()


@pytest.fixture
def endpoint(net: Net) -> Iterator[Endpoint]:
    with running(net) as endpoint:
        yield endpoint


@pytest.fixture
def client(endpoint: Endpoint) -> Iterator[http.client.HTTPConnection]:
    with contextlib.closing(http.client.HTTPConnection(*endpoint.address, timeout=20)) as client:
        yield client


class Waiting:
    """A request that waits for its answer in a thread of its own."""

    def __init__(self, address: Address) -> None:
        self._thread = threading.Thread(target=self._ask, args=(address,))
        self._thread.start()

    def _ask(self, address: Address) -> None:
        self.status, self.document, self.headers = ask(address, "POST", "/invocations", BODY, Content_Type=NPY_TYPE)

    def status_at_last(self) -> int:
        self._thread.join(30)
        return self.status


NPY_TYPE = NPY["Content-Type"]


def held(net: Net) -> None:
    """From now on the model waits, and its next batch is worth a thread."""
    net.gate.clear()
    net.asked.clear()


def until_waiting(endpoint: Endpoint, count: int) -> None:
    """So many requests have arrived and wait for the model."""
    end = time.monotonic() + 20
    while len(endpoint._waiting) < count:
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_client_that_asks_first_is_told_to_go_on(endpoint: Endpoint) -> None:
    with socket.create_connection(endpoint.address, timeout=20) as line:
        line.sendall(f"{HEAD}Expect: 100-continue\r\nConnection: close\r\n\r\n".encode())
        assert line.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        line.sendall(BODY)
        assert b"".join(iter(lambda: line.recv(4096), b"")).startswith(b"HTTP/1.1 200 OK")


def test_a_client_that_asks_first_is_spared_a_body_that_would_be_refused(endpoint: Endpoint) -> None:
    head = HEAD.replace("x-npy", "x-nothing") + "Expect: 100-continue\r\n\r\n"
    assert raw(endpoint.address, head.encode(), end=False).startswith(b"HTTP/1.1 415 ")


@pytest.mark.parametrize("times", [2, 10])
def test_the_refusal_of_a_large_body_reaches_a_client_that_sends_it_all(
    client: http.client.HTTPConnection, times: int
) -> None:
    status, answer, _ = send(client, "POST", "/invocations", bytes(times * payload.LIMIT_BYTES), Content_Type=NPY_TYPE)
    assert (status, answer["error"]["code"]) == (413, "length")


def test_a_body_in_chunks_is_taken(client: http.client.HTTPConnection) -> None:
    status, answer, _ = send(
        client, "POST", "/invocations", iter([BODY[:7], BODY[7:100], BODY[100:]]), Content_Type=NPY_TYPE
    )
    assert (status, len(answer["predictions"])) == (200, 3)


def test_a_body_in_chunks_without_an_end_is_refused_at_the_limit(client: http.client.HTTPConnection) -> None:
    status, answer, _ = send(client, "POST", "/invocations", iter([bytes(1 << 20)] * 9), Content_Type=NPY_TYPE)
    assert (status, answer["error"]["code"]) == (413, "length")


def test_requests_sent_at_once_are_answered_in_their_order(endpoint: Endpoint) -> None:
    close = HEAD + "Connection: close\r\n"
    ping = b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n"
    said = raw(endpoint.address, ping + f"{HEAD}\r\n".encode() + BODY + ping + f"{close}\r\n".encode() + BODY)
    bodies = [json.loads(part.partition(b"\r\n\r\n")[2]) for part in said.split(b"HTTP/1.1 200 OK\r\n")[1:]]
    assert ["predictions" in body for body in bodies] == [False, True, False, True]


def test_a_client_that_never_stops_sending_is_cut_off(net: Net) -> None:
    with (
        running(net, Limits(patience=Patience(linger=0.2))) as endpoint,
        socket.create_connection(endpoint.address, timeout=20) as line,
    ):
        line.sendall(b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999999\r\n\r\n")
        with pytest.raises(ConnectionError):
            for _ in range(1000):
                line.sendall(b"x" * 100)
                time.sleep(0.01)


@pytest.mark.parametrize("part", ["POST /invocations HTT", HEAD + "\r\nonly this"])
def test_a_request_that_does_not_go_on_is_timed_out(net: Net, part: str) -> None:
    with running(net, Limits(patience=Patience(head=0.1, body=0.1))) as endpoint:
        assert raw(endpoint.address, part.encode(), end=False).startswith(b"HTTP/1.1 408 ")


def test_a_client_that_asks_nothing_is_let_go(net: Net) -> None:
    with running(net, Limits(patience=Patience(idle=0.1))) as endpoint:
        assert raw(endpoint.address, end=False) == b""


def test_a_client_that_leaves_before_its_answer_harms_nobody(endpoint: Endpoint, net: Net) -> None:
    held(net)
    with socket.create_connection(endpoint.address, timeout=20) as line:
        line.sendall(f"{HEAD}\r\n".encode() + BODY)
        assert net.asked.wait(20)
    net.gate.set()
    assert ask(endpoint.address, "POST", "/invocations", BODY, Content_Type=NPY_TYPE)[0] == 200


def test_more_requests_than_the_queue_takes_are_told_to_come_again(net: Net) -> None:
    with running(net, Limits(queue=2), inline_ms=0.0) as endpoint:
        held(net)
        first = Waiting(endpoint.address)
        assert net.asked.wait(20)  # the first is with the model, two may wait
        others = [Waiting(endpoint.address) for _ in range(2)]
        until_waiting(endpoint, 2)
        status, answer, headers = ask(endpoint.address, "POST", "/invocations", BODY, Content_Type=NPY_TYPE)
        assert (status, answer["error"]["code"], headers["Retry-After"]) == (429, "busy", "1")
        assert ask(endpoint.address, "GET", "/ping")[0] == 200  # a full queue is no reason to be replaced
        net.gate.set()
        assert [each.status_at_last() for each in (first, *others)] == [200, 200, 200]


def test_requests_that_wait_for_the_model_run_together(net: Net) -> None:
    with running(net, Limits(batch=8), inline_ms=0.0) as endpoint:
        held(net)
        first = Waiting(endpoint.address)
        assert net.asked.wait(20)
        others = [Waiting(endpoint.address) for _ in range(3)]
        until_waiting(endpoint, 3)
        net.batches.clear()
        net.gate.set()
        assert [each.status_at_last() for each in (first, *others)] == [200] * 4
        assert net.batches == [6, 3]  # three samples each, eight at most


def test_more_bodies_than_the_memory_takes_are_told_to_come_again(net: Net) -> None:
    head = f"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: {NPY_TYPE}\r\nContent-Length: 6000\r\n\r\n"
    with (
        running(net, Limits(memory=8000)) as endpoint,
        socket.create_connection(endpoint.address, timeout=20) as other,
    ):
        other.sendall(head.encode() + b"x")
        time.sleep(0.1)
        said = raw(endpoint.address, head.encode() + b"x", end=False)
        assert said.startswith(b"HTTP/1.1 429 ")
        assert b"Retry-After: 1\r\n" in said


def test_more_connections_than_there_may_be_get_a_503(net: Net) -> None:
    with (
        running(net, Limits(connections=1)) as endpoint,
        socket.create_connection(endpoint.address, timeout=20) as line,
    ):
        line.sendall(b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n")
        assert line.recv(100).startswith(b"HTTP/1.1 200 ")
        assert raw(endpoint.address).startswith(b"HTTP/1.1 503 ")


def test_before_its_model_is_warm_the_endpoint_says_that_it_is_not_ready(net: Net) -> None:
    with running(None) as endpoint:
        for method, path in (("GET", "/ping"), ("POST", "/invocations")):
            status, answer, headers = ask(endpoint.address, method, path, BODY, Content_Type=NPY_TYPE)
            assert (status, answer["error"]["code"], headers["Retry-After"]) == (503, "unavailable", "1")
        endpoint.swap(net)  # type: ignore[arg-type]
        assert net.batches  # warmed up before anyone asked
        assert ask(endpoint.address, "GET", "/ping")[0] == 200


def test_a_swap_leaves_requests_under_way_to_the_model_that_they_were_read_for(endpoint: Endpoint, net: Net) -> None:
    held(net)
    early = Waiting(endpoint.address)
    assert net.asked.wait(20)
    endpoint.swap(Net("v2", mark=0.9))  # type: ignore[arg-type]
    net.gate.set()
    assert early.status_at_last() == 200
    _, answer, headers = ask(endpoint.address, "POST", "/invocations", BODY, Content_Type=NPY_TYPE)
    found = [early.document, answer]
    assert [(each["model_version"], each["predictions"][0]["confidence"]) for each in found] == [
        ("v1", 0.75),
        ("v2", pytest.approx(0.9)),
    ]
    assert (early.headers[VERSION], headers[VERSION]) == ("model_version=v1", "model_version=v2")


def test_an_answer_that_fails_is_a_500_that_points_to_the_log(
    client: http.client.HTTPConnection, net: Net, caplog: pytest.LogCaptureFixture
) -> None:
    net.error = RuntimeError("the arena is full")
    status, answer, _ = send(client, "POST", "/invocations", BODY, Content_Type=NPY_TYPE)
    assert (status, answer["error"]["code"]) == (500, "internal")
    assert "the arena is full" in caplog.text
    net.error = None
    assert send(client, "POST", "/invocations", BODY, Content_Type=NPY_TYPE)[0] == 200


def test_a_drain_finishes_the_answers_under_way_and_hangs_up_on_idle_clients(net: Net) -> None:
    with running(net, inline_ms=0.0) as endpoint:
        idle = http.client.HTTPConnection(*endpoint.address, timeout=20)
        assert send(idle, "GET", "/ping")[0] == 200
        held(net)
        busy = Waiting(endpoint.address)
        assert net.asked.wait(20)
        endpoint.stop()
        assert idle.sock.recv(1) == b""
        assert ask(endpoint.address, "GET", "/ping")[0] == 503  # whoever balances the load goes elsewhere
        net.gate.set()
        assert busy.status_at_last() == 200
        assert busy.headers["Connection"] == "close"
        idle.close()


def test_a_drain_does_not_wait_for_ever(net: Net) -> None:
    with running(net, Limits(drain_s=0.2), inline_ms=0.0) as endpoint:
        held(net)
        with socket.create_connection(endpoint.address, timeout=20) as line:
            line.sendall(f"{HEAD}\r\n".encode() + BODY)
            assert net.asked.wait(20)
            endpoint.stop()
            assert line.recv(100) == b""
        net.gate.set()


def test_the_figures_of_each_stage_are_reported(net: Net) -> None:
    reports: list[dict[str, object]] = []
    with running(net, report=reports.append) as endpoint:
        for body in (BODY, b"no array"):
            ask(endpoint.address, "POST", "/invocations", body, Content_Type=NPY_TYPE)
    (found,) = reports
    assert {key: found[key] for key in ("model_version", "requests", "samples", "refused", "failed")} == {
        "model_version": "v1", "requests": 1, "samples": 3, "refused": 1, "failed": 0,
    }  # fmt: skip
    assert found["refused_by"] == {"corrupt": 1}
    for stage in ("queue", "decode", "infer", "encode", "total"):
        assert 0 <= found[f"{stage}_p50_ms"] <= found[f"{stage}_p99_ms"]  # type: ignore[operator]
