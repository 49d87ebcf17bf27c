"""The endpoint over real sockets: every content type and every kind of bad request."""

import http.client
import io
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from asking import Address, Answer, ask, instances, is_refusal, npy, picture, raw, running
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.runtime import Model

LIMIT = 6 * 1024 * 1024
TYPES = ("image/png", "image/jpeg", "application/x-npy", "application/json")
ODD = ("text/plain", "", "image/png; charset=x", "é", "application/json;", "a/b")
PIXELS = np.random.default_rng(0).integers(0, 256, (1, 16, 16), np.uint8)
PNG = picture(PIXELS[0])
FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
VERSION = "X-Amzn-SageMaker-Custom-Attributes"

Post = Callable[..., Answer]


@pytest.fixture(scope="module")
def model(served: Path) -> Model:
    return Model.load(served, threads=1)


@pytest.fixture(scope="module")
def address(model: Model) -> Iterator[Address]:
    with running(model) as endpoint:
        yield endpoint.address


@pytest.fixture
def post(address: Address) -> Post:
    def post(body: bytes, content_type: str, **headers: str) -> Answer:
        return ask(address, "POST", "/invocations", body, Content_Type=content_type, **headers)

    return post


def test_the_ping_names_the_version(address: Address, model: Model) -> None:
    status, document, headers = ask(address, "GET", "/ping")
    assert (status, document) == (200, {"model_version": model.version})
    assert headers[VERSION] == f"model_version={model.version}"


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("image/png", PNG),
        ("IMAGE/PNG; charset=binary", PNG),
        ("application/x-npy", npy(PIXELS)),
        ("application/x-npy", npy(PIXELS[None])),
        ("application/x-npy", npy(np.asfortranarray(PIXELS[None]))),
        ("application/x-npy", npy(PIXELS.astype(np.float32))),
        ("application/x-npy", npy(PIXELS.astype(">i4"))),
        ("application/json", instances([PIXELS.tolist()])),
        ("application/json; charset=utf-8", instances([PIXELS.astype(float).tolist()])),
    ],
)
def test_one_picture_is_answered_the_same_in_every_content_type(
    post: Post, model: Model, content_type: str, body: bytes
) -> None:
    expected = model.predict(PIXELS[None])
    status, document, headers = post(body, content_type)
    assert status == 200
    assert document["model_version"] == model.version
    assert headers[VERSION] == f"model_version={model.version}"
    (row,) = document["predictions"]
    assert row["label"] == expected.labels[0]
    assert row["index"] == expected.indices[0]
    assert row["confidence"] == pytest.approx(float(expected.confidences[0]), abs=1e-6)
    assert row["probabilities"] == pytest.approx(expected.probabilities[0].tolist(), abs=1e-6)


def test_a_jpeg_is_answered(post: Post, model: Model) -> None:
    status, document, _ = post(picture(PIXELS[0], "JPEG"), "image/jpeg")
    assert status == 200
    assert document["predictions"][0]["label"] in model.contract.classes


def test_a_batch_is_answered_in_order(post: Post, model: Model) -> None:
    batch = np.random.default_rng(1).integers(0, 256, (7, 1, 16, 16), np.uint8)
    status, document, _ = post(npy(batch), "application/x-npy")
    assert status == 200
    assert [row["label"] for row in document["predictions"]] == list(model.predict(batch).labels)


@pytest.mark.parametrize(
    ("content_type", "body", "status", "code"),
    [
        ("image/png", b"no picture", 400, "corrupt"),
        ("image/png", PNG[:60], 400, "corrupt"),
        ("image/jpeg", b"%PDF-1.7", 400, "corrupt"),
        ("application/x-npy", b"no array", 400, "corrupt"),
        ("application/x-npy", npy(PIXELS)[:-1], 400, "corrupt"),
        ("application/x-npy", npy(PIXELS) + b"x", 400, "corrupt"),
        ("application/x-npy", npy(PIXELS)[:40], 400, "corrupt"),
        ("application/x-npy", npy(np.zeros((1, 16, 17), np.uint8)), 400, "shape"),
        ("application/x-npy", npy(np.zeros((16, 16), np.uint8)), 400, "shape"),
        ("application/x-npy", npy(np.zeros((0, 1, 16, 16), np.uint8)), 400, "shape"),
        ("application/x-npy", npy(np.zeros((1025, 1, 16, 16), np.uint8)), 400, "shape"),
        ("application/x-npy", npy(np.uint8(3)), 400, "shape"),
        ("application/x-npy", npy(np.full((1, 16, 16), np.nan, np.float32)), 400, "values"),
        ("application/x-npy", npy(np.full((1, 16, 16), np.inf)), 400, "values"),
        ("application/x-npy", npy(np.full((1, 16, 16), 0.5)), 400, "values"),
        ("application/x-npy", npy(np.full((1, 16, 16), -1)), 400, "values"),
        ("application/x-npy", npy(np.full((1, 16, 16), 256)), 400, "values"),
        ("application/x-npy", npy(np.full((1, 16, 16), "7")), 400, "corrupt"),
        ("application/json", b"{", 400, "corrupt"),
        ("application/json", b"\xff", 400, "corrupt"),
        ("application/json", b"[" * 50_000, 400, "corrupt"),
        ("application/json", b"[1, 2]", 400, "schema"),
        ("application/json", b"{}", 400, "schema"),
        ("application/json", instances("text"), 400, "schema"),
        ("application/json", instances([[1], [1, 2]]), 400, "schema"),
        ("application/json", instances([{"a": 1}]), 400, "schema"),
        ("application/json", instances([]), 400, "shape"),
        ("application/json", instances([1, 2, 3]), 400, "shape"),
        ("application/json", instances([np.full((1, 16, 16), 300).tolist()]), 400, "values"),
        ("application/json", instances([np.full((1, 16, 16), np.nan).tolist()]), 400, "values"),
        ("application/json", instances([np.full((1, 16, 16), 10**400, object).tolist()]), 400, "schema"),
        ("text/plain", b"hello", 415, "content-type"),
        ("", b"hello", 415, "content-type"),
    ],
)
def test_a_body_that_cannot_be_answered_is_refused_with_a_code_and_a_message(
    post: Post, content_type: str, body: bytes, status: int, code: str
) -> None:
    got, document, _ = post(body, content_type)
    assert (got, document["error"]["code"]) == (status, code)
    assert is_refusal(got, document)


def test_a_pickle_is_never_unpickled(post: Post, tmp_path: Path) -> None:
    trap = tmp_path / "sprung"

    class Trap:
        def __reduce__(self) -> tuple[Callable[..., Any], tuple[Path]]:
            return Path.touch, (trap,)

    status, document, _ = post(npy(np.array([Trap()], object), allow_pickle=True), "application/x-npy")
    assert is_refusal(status, document)
    assert not trap.exists()


def test_an_archive_of_arrays_is_refused(post: Post) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, PIXELS)
    assert is_refusal(*post(buffer.getvalue(), "application/x-npy")[:2])


def test_a_header_that_claims_gigabytes_is_refused_at_once(post: Post) -> None:
    buffer = io.BytesIO()
    claim = {"descr": "|u1", "fortran_order": False, "shape": (2**34, 1, 16, 16)}
    np.lib.format.write_array_header_1_0(buffer, claim)
    status, document, _ = post(buffer.getvalue() + PIXELS.tobytes(), "application/x-npy")
    assert (status, document["error"]["code"]) == (400, "shape")


@pytest.mark.parametrize("length", [LIMIT + 1, 10 * LIMIT, 10**15])
def test_more_than_the_limit_is_refused_before_it_is_read(address: Address, length: int) -> None:
    head = b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: %d\r\n\r\n"
    answer = raw(address, head % length, b"x" * 100)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert is_refusal(413, json.loads(answer.partition(b"\r\n\r\n")[2]))


def test_a_whole_body_over_the_limit_gets_its_answer(post: Post) -> None:
    status, document, _ = post(b"\0" * (LIMIT + 1), "image/png")
    assert status == 413
    assert str(LIMIT) in document["error"]["message"]


@pytest.mark.parametrize("length", [b"0", b"-5", b"ten", b"1 1", b"0x10", b"9" * 30])
def test_a_body_of_nothing_is_refused(address: Address, length: bytes) -> None:
    answer = raw(address, b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: " + length + b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")


def test_a_length_is_needed(address: Address) -> None:
    answer = raw(address, b"POST /invocations HTTP/1.1\r\nHost: x\r\n\r\n", end=False)
    assert answer.startswith(b"HTTP/1.1 411 ")


def test_a_body_that_ends_too_early_is_refused(address: Address) -> None:
    head = b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: 1000\r\n\r\n"
    answer = raw(address, head, b"only this")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"9 of 1000 bytes arrived" in answer


@pytest.mark.parametrize("line", [b"nonsense\r\n\r\n", b"GET\r\n\r\n", b"POST /invocations HTTP/9.9\r\n\r\n"])
def test_a_broken_request_line_is_no_error_of_ours(address: Address, line: bytes) -> None:
    assert raw(address, line).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("path", ["/", "/invocation", "/ping/x", "/%2e%2e/etc/passwd"])
def test_other_paths_are_not_found(address: Address, path: str) -> None:
    status, document, _ = ask(address, "GET", path)
    assert status == 404
    assert is_refusal(status, document)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("PUT", "/invocations", "POST"), ("GET", "/invocations", "POST"), ("DELETE", "/ping", "GET, HEAD")],
)
def test_other_methods_are_refused_with_those_that_are_taken(
    address: Address, method: str, path: str, allowed: str
) -> None:
    status, document, headers = ask(address, method, path)
    assert (status, headers["Allow"]) == (405, allowed)
    assert is_refusal(status, document)


def test_a_ping_by_head_has_no_body(address: Address) -> None:
    status, body, headers = ask(address, "HEAD", "/ping")
    assert (status, body) == (200, b"")
    assert int(headers["Content-Length"]) > 0


def test_a_connection_goes_on_after_a_refusal(address: Address) -> None:
    connection = http.client.HTTPConnection(*address, timeout=30)
    try:
        for body, status in ((b"bad", 400), (PNG, 200), (b"bad", 400), (PNG, 200)):
            connection.request("POST", "/invocations", body, {"Content-Type": "image/png"})
            response = connection.getresponse()
            response.read()
            assert response.status == status
    finally:
        connection.close()


def test_many_at_once_all_get_their_own_answer(post: Post, model: Model) -> None:
    batches = [np.full((1, 1, 16, 16), value, np.uint8) for value in range(0, 240, 20)]
    found: dict[int, Any] = {}

    def one(number: int) -> None:
        found[number] = post(npy(batches[number]), "application/x-npy")

    threads = [threading.Thread(target=one, args=(number,)) for number in range(len(batches))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, batch in enumerate(batches):
        status, document, _ = found[number]
        assert status == 200
        expected = model.predict(batch).probabilities[0].tolist()
        assert document["predictions"][0]["probabilities"] == pytest.approx(expected, abs=1e-6)


@FUZZ
@given(st.sampled_from(TYPES + ODD), st.binary(min_size=1, max_size=400))
def test_any_bytes_are_answered_or_refused(post: Post, content_type: str, body: bytes) -> None:
    status, document, _ = post(body, content_type)
    assert status == 200 or is_refusal(status, document)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@FUZZ
@given(st.sampled_from(TYPES), st.data())
def test_a_damaged_body_is_answered_or_refused(post: Post, content_type: str, data: st.DataObject) -> None:
    good = {"image/png": PNG, "image/jpeg": picture(PIXELS[0], "JPEG"), "application/x-npy": npy(PIXELS)}
    body = bytearray(good.get(content_type, instances([PIXELS.tolist()])))
    reach = min(len(body), data.draw(st.sampled_from([128, len(body)])))
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, reach - 1))] = data.draw(st.integers(0, 255))
    status, document, _ = post(bytes(body), content_type)
    assert status == 200 or is_refusal(status, document)


Json = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=12,
)


@FUZZ
@given(Json, st.booleans())
def test_any_json_is_answered_or_refused(post: Post, value: Any, wrapped: bool) -> None:
    status, document, _ = post(instances(value) if wrapped else json.dumps(value).encode(), "application/json")
    assert is_refusal(status, document)


def test_numbers_come_back_in_numpys_format_when_they_are_asked_for(post: Post, model: Model) -> None:
    status, body, headers = post(npy(PIXELS), "application/x-npy", Accept="application/x-npy")
    assert (status, headers["Content-Type"]) == (200, "application/x-npy")
    np.testing.assert_allclose(np.load(io.BytesIO(body)), model.predict(PIXELS[None]).answers, atol=1e-6)


def test_lines_come_back_when_they_are_asked_for(post: Post, model: Model) -> None:
    status, body, headers = post(npy(PIXELS), "application/x-npy", Accept="text/csv;q=0.9, text/html")
    assert (status, headers["Content-Type"]) == (200, "text/csv")
    head, row, *_ = body.decode().split("\r\n")
    assert head == "label,confidence,uncertain," + ",".join(f"p_{name}" for name in model.contract.classes)
    assert row.startswith(model.predict(PIXELS[None]).labels[0] + ",")


def test_a_form_that_is_none_of_ours_is_not_acceptable(post: Post) -> None:
    status, document, _ = post(npy(PIXELS), "application/x-npy", Accept="text/html")
    assert (status, document["error"]["code"]) == (406, "accept")


def test_an_answer_says_whether_a_person_should_look_at_it(post: Post, model: Model) -> None:
    batch = np.random.default_rng(2).integers(0, 256, (40, 1, 16, 16), np.uint8)
    _, document, _ = post(npy(batch), "application/x-npy")
    found = [row["uncertain"] for row in document["predictions"]]
    assert found == [bool(value < 0.6) for value in model.predict(batch).confidences]
