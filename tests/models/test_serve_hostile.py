"""Thousands of bodies, content types and broken requests: each gets an answer or a 4xx, and the process stays."""

import contextlib
import io
import json
import re
import socket
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from asking import Address, ask, instances, npy, picture, serving
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from models.contract import Contract

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
EXAMPLES = 3000
MEGABYTE = 1 << 20
GROWTH_MB = 24
MANY = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
)
KINDS = (
    "image/png", "image/jpeg", "text/csv", "application/x-npy", "application/json", "application/vnd.apache.parquet",
    "application/x-parquet", "text/plain", "", "a/b", "IMAGE/PNG; x=y", "é",
)  # fmt: skip
ACCEPTS = ("", "*/*", "text/csv", "application/x-npy", "text/html", "application/json;q=0", ",;q=x", "\x7f")
DTYPES = ("|u1", "<f4", ">f8", "<i8", "|b1", "|O", "<U3", "<M8[s]", "<c16", "|V8", "nonsense")

numbers = st.integers() | st.floats() | st.sampled_from([0, 255, 256, -1, 1e308, float("nan"), float("inf"), 10**400])
json_values = st.recursive(
    st.none() | st.booleans() | numbers | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.sampled_from(["x", "kind", "é", "noise"]), inner),
    max_leaves=20,
)
cells = st.text(st.sampled_from('0123456789.,;-+eE"\n\r\tabxyé\0 '), max_size=200)


def parquet(count: int = 5) -> bytes:
    stream = io.BytesIO()
    columns = {"x": np.arange(count), "y": np.ones(count), "kind": ["a"] * count, "noise": np.zeros(count)}
    pq.write_table(pa.table(columns), stream)
    return stream.getvalue()


def bomb(side: int) -> bytes:
    """A few bytes that claim to be a picture of side x side pixels."""
    png = picture(np.zeros((1, 1), np.uint8))
    return png[:16] + struct.pack(">II", side, side) + png[24:]


def goods(contract: Contract) -> list[bytes]:
    """Bodies that are answered, of every kind, and some that are large or unfold."""
    sample = np.zeros((2, *contract.shape), contract.dtype)
    return [
        npy(sample),
        npy(np.zeros((1024, *contract.shape), contract.dtype)),
        instances(sample.tolist()),
        instances([{"x": 1, "kind": "a"}]),
        b"x,y,kind,noise\n1,2,a,3\n" * 1,
        b"x,y,kind,noise\n" + b"1,2,a,3\n" * 20_000,
        picture(np.zeros((16, 16), np.uint8)),
        picture(np.zeros((900, 900), np.uint8), "JPEG"),
        bomb(60_000),
        parquet(),
        parquet(5000),
        b"[" * 100_000,
    ]


@st.composite
def bodies(draw: st.DrawFn, contract: Contract, good: list[bytes]) -> bytes:
    way = draw(st.sampled_from(["binary", "damaged", "json", "npy", "text"]))
    if way == "binary":
        return draw(st.binary(max_size=400))
    if way == "json":
        return json.dumps(draw(json_values | st.fixed_dictionaries({"instances": json_values}))).encode()
    if way == "text":
        return draw(cells).encode()
    if way == "npy":
        axes = st.lists(st.sampled_from([-1, 0, 1, 2, 2**40, *contract.shape]), max_size=5)
        shape = tuple(draw(axes)) if draw(st.booleans()) else contract.shape
        head = (
            f"{{'descr': '{draw(st.sampled_from(DTYPES))}', 'fortran_order': {draw(st.booleans())}, 'shape': {shape}}}"
        )
        text = head.encode().ljust(117) + b"\n"
        return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + draw(st.binary(max_size=300))
    body = bytearray(draw(st.sampled_from(good)))
    for _ in range(draw(st.integers(0, 6))):
        body[draw(st.integers(0, min(len(body), draw(st.sampled_from([64, 1 << 20]))) - 1))] = draw(st.integers(0, 255))
    return bytes(body[: draw(st.sampled_from([len(body), len(body) // 2, 1]))])


def exchange(address: Address, request: bytes) -> bytes:
    """What comes back for `request`, after which we send no more."""
    with socket.create_connection(address, timeout=30) as line:
        with contextlib.suppress(ConnectionError):  # refused before we were done
            line.sendall(request)
            line.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: line.recv(65536), b""))


def judge(said: bytes) -> None:
    """Answers, or refusals in JSON; a damaged request may read as several."""
    while said:
        head, _, said = said.partition(b"\r\n\r\n")
        status, length = int(head.split(b" ", 2)[1]), re.search(rb"Content-Length: (\d+)", head)
        body, said = said[: int(length[1])] if length else b"", said[int(length[1]) if length else 0 :]
        assert status in (100, 200) or 400 <= status < 500, (head, body[:500])
        if status >= 400:
            assert json.loads(body)["error"]["code"]


@pytest.fixture(scope="module", params=["served", "served_rows"])
def process(request: pytest.FixtureRequest) -> Iterator[tuple[subprocess.Popen[Any], Address, Contract]]:
    """A serving process, of pictures and then of rows."""
    package: Path = request.getfixturevalue(request.param)
    with serving(package) as (child, address):
        yield child, address, Contract.load(package / "contract.json")


def test_no_body_breaks_the_endpoint_or_makes_it_grow(
    process: tuple[subprocess.Popen[Any], Address, Contract],
) -> None:
    child, address, contract = process
    good = goods(contract)
    sent: dict[str, int] = {"bodies": 0}

    def request(kind: str, accept: str, body: bytes, chunked: bool) -> bytes:
        length = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(body)}"
        head = f"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nAccept: {accept}\r\n{length}\r\n\r\n"
        sent["bodies"] += 1
        whole = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if chunked and body else body
        return exchange(address, head.encode("latin-1") + whole)

    for _ in range(3):  # the memory that it needs for the largest of them, it may keep
        for kind in KINDS:
            for body in good:
                judge(request(kind, "", body, False))
    before = psutil.Process(child.pid).memory_info().rss

    @MANY
    @given(st.sampled_from(KINDS), st.sampled_from(ACCEPTS), bodies(contract, good), st.booleans())
    def feed(kind: str, accept: str, body: bytes, chunked: bool) -> None:
        if chunked and not body:
            chunked = False
        judge(request(kind, accept, body, chunked))

    feed()
    grown = (psutil.Process(child.pid).memory_info().rss - before) / MEGABYTE
    assert sent["bodies"] >= EXAMPLES
    assert grown < GROWTH_MB, f"{grown:.1f} MB more after {sent['bodies']} bodies"
    assert child.poll() is None
    assert ask(address, "GET", "/ping")[0] == 200


def test_no_request_breaks_the_endpoint(process: tuple[subprocess.Popen[Any], Address, Contract]) -> None:
    child, address, contract = process
    body = npy(np.zeros(contract.shape, contract.dtype))
    good = (
        b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-npy\r\n"
        b"Content-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(body), body)
    )

    @MANY
    @given(st.data())
    def feed(data: st.DataObject) -> None:
        request = bytearray(good)
        reach = data.draw(st.sampled_from([30, 120, len(request)]))
        for _ in range(data.draw(st.integers(0, 4))):
            place = data.draw(st.integers(0, reach - 1))
            part = st.sampled_from([b"", b"\r\n", b":", b" ", b"\0", b"999999999", b"\xff"]) | st.binary(max_size=3)
            request[place : place + data.draw(st.integers(0, 3))] = data.draw(part)
        said = exchange(address, bytes(request[: data.draw(st.integers(1, len(request) + 10))]))
        judge(said)

    feed()
    assert child.poll() is None
    assert ask(address, "GET", "/ping")[0] == 200
