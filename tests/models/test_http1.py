"""Requests from bytes: whatever way they are cut, the same requests come out; what has two meanings is refused."""

import itertools
from http import HTTPStatus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.http1 import Reader, Request, parse
from models.payload import LIMIT_BYTES, BadRequest

PLAIN = b"POST /invocations?x=1 HTTP/1.1\r\nHost: a\r\nContent-Type: text/csv\r\nContent-Length: 5\r\n\r\n1,2,3"
CHUNKED = (
    b"POST /invocations HTTP/1.1\r\nhost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"3;name=value\r\n1,2\r\n2\r\n,3\r\n0\r\nTrailer: x\r\n\r\n"
)
PING = b"GET /ping HTTP/1.1\r\nHost: a\r\n\r\n"


def read(stream: bytes, cuts: list[int]) -> list[tuple[str, str, bytes]]:
    """Method, path and body of every request in `stream`, which arrives in the parts between `cuts`."""
    reader, found = Reader(), []
    places = [0, *sorted({cut % len(stream) for cut in cuts}), len(stream)]
    for start, end in itertools.pairwise(places):
        part = memoryview(stream)[start:end]
        while len(part):
            room = reader.room()
            if room is None:
                reader.feed(part)
                part = part[len(part) :]
            else:
                count = min(len(room), len(part))
                room[:count] = part[:count]
                reader.took(count)
                part = part[count:]
            while (request := reader.request()) is not None:
                found.append((request.head.method, request.head.path, bytes(request.body)))
    return found


@given(
    st.lists(st.sampled_from([PLAIN, CHUNKED, PING, b"\r\n" + PING]), min_size=1, max_size=4), st.lists(st.integers(0))
)
def test_requests_are_the_same_however_their_bytes_arrive(parts: list[bytes], cuts: list[int]) -> None:
    expected = [("GET", "/ping", b"") if b"GET" in part else ("POST", "/invocations", b"1,2,3") for part in parts]
    assert read(b"".join(parts), cuts) == expected


@given(st.binary(max_size=300))
def test_any_bytes_are_requests_or_a_refusal(data: bytes) -> None:
    try:
        read(data + b"\r\n\r\n", [])
    except BadRequest as refused:
        assert 400 <= refused.status < 500


@given(st.binary(max_size=80))
def test_any_chunks_are_a_body_or_a_refusal(data: bytes) -> None:
    reader = Reader()
    reader.feed(memoryview(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + data))
    try:
        request = reader.request()
    except BadRequest as refused:
        assert 400 <= refused.status < 500
    else:
        assert request is None or isinstance(request, Request)


@pytest.mark.parametrize(
    "head",
    [
        b"POST / HTTP/1.1",  # no host
        b"POST / HTTP/1.1\r\nHost: a\r\nHost: b",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked",
        b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1_0",
        b"POST / HTTP/1.1\r\nHost : a",
        b"POST / HTTP/1.1\r\nHost: a\r\n folded: b",
        b"POST / HTTP/1.1\r\nHost: a\nContent-Length: 1",
        b"POST / HTTP/1.1\r\nHost: a\0",
        b"POST  / HTTP/1.1\r\nHost: a",
        b"POST / HTTP/2.0\r\nHost: a",
        b"P(ST / HTTP/1.1\r\nHost: a",
    ],
)
def test_what_could_be_understood_in_two_ways_is_refused(head: bytes) -> None:
    with pytest.raises(BadRequest) as refused:
        parse(head)
    assert refused.value.status == HTTPStatus.BAD_REQUEST


@pytest.mark.parametrize(
    ("head", "closes"),
    [
        (b"GET / HTTP/1.1\r\nHost: a", False),
        (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Close", True),
        (b"GET / HTTP/1.0", True),
        (b"GET / HTTP/1.0\r\nConnection: keep-alive", False),
    ],
)
def test_a_connection_stays_as_its_version_says(head: bytes, closes: bool) -> None:
    assert parse(head).close is closes


def test_only_one_expectation_can_be_met() -> None:
    with pytest.raises(BadRequest) as refused:
        parse(b"POST / HTTP/1.1\r\nHost: a\r\nExpect: a-miracle")
    assert refused.value.status == HTTPStatus.EXPECTATION_FAILED


@pytest.mark.parametrize(
    ("stream", "status"),
    [
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 20_000, HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE),
        (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 101 + b"\r\n", HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (LIMIT_BYTES + 1), 413),
        (b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n" % (LIMIT_BYTES + 1), 413),
        (b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1" * 300, HTTPStatus.BAD_REQUEST),
        (
            b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"a: b\r\n" * 2000,
            HTTPStatus.BAD_REQUEST,
        ),
    ],
)
def test_what_is_too_long_is_refused_before_it_is_whole(stream: bytes, status: int) -> None:
    reader = Reader()
    reader.feed(memoryview(stream))
    with pytest.raises(BadRequest) as refused:
        reader.request()
    assert refused.value.status == status
