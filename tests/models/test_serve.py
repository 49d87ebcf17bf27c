"""The endpoint over real sockets: every content type, every kind of bad request, and a drain that loses no answer."""

import http.client
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from models.runtime import Model
from models.serve import server

LIMIT = 6 * 1024 * 1024
ROOT = Path(__file__).parents[2]
TYPES = ("image/png", "image/jpeg", "application/x-npy", "application/json")
ODD = ("text/plain", "", "image/png; charset=x", "é", "application/json;", "a/b")
PIXELS = np.random.default_rng(0).integers(0, 256, (1, 16, 16), np.uint8)
FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
SCRIPT = """
import logging, sys
from pathlib import Path
from models.serve import serve
logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
serve(Path(sys.argv[1]), "127.0.0.1", 0, 1)
"""

Answer = tuple[int, Any, http.client.HTTPMessage]
Post = Callable[..., Answer]


def encoded(form: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(PIXELS[0]).save(buffer, form)
    return buffer.getvalue()


def npy(array: np.ndarray, allow_pickle: bool = False) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=allow_pickle)
    return buffer.getvalue()


def instances(value: Any) -> bytes:
    return json.dumps({"instances": value}).encode()


@pytest.fixture(scope="module")
def model(served: Path) -> Model:
    return Model.load(served, threads=1)


@pytest.fixture(scope="module")
def address(model: Model) -> Iterator[tuple[str, int]]:
    bound = server(model, "127.0.0.1", 0)
    thread = threading.Thread(target=bound.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield "127.0.0.1", bound.server_address[1]
    bound.shutdown()
    bound.server_close()
    thread.join()


def ask(address: tuple[str, int], method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
    connection = http.client.HTTPConnection(*address, timeout=30)
    try:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        return response.status, json.loads(response.read()), response.headers
    finally:
        connection.close()


@pytest.fixture
def post(address: tuple[str, int]) -> Post:
    def post(body: bytes, content_type: str, path: str = "/invocations") -> Answer:
        return ask(address, "POST", path, body, Content_Type=content_type)

    return post


def raw(address: tuple[str, int], *parts: bytes, end: bool = True) -> bytes:
    """What comes back for bytes as they are."""
    with socket.create_connection(address, timeout=30) as connection:
        for part in parts:
            connection.sendall(part)
        if end:
            connection.shutdown(socket.SHUT_WR)
        answer = b""
        while part := connection.recv(65536):
            answer += part
    return answer


def is_refusal(status: int, document: Any) -> bool:
    error = document["error"]
    return 400 <= status < 500 and bool(error["code"]) and bool(error["message"])


def test_the_ping_names_the_version(address: tuple[str, int], model: Model) -> None:
    status, document, headers = ask(address, "GET", "/ping")
    assert (status, document) == (200, {"model_version": model.version})
    assert headers["X-Amzn-SageMaker-Custom-Attributes"] == f"model_version={model.version}"


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("image/png", encoded("PNG")),
        ("IMAGE/PNG; charset=binary", encoded("PNG")),
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
    assert headers["X-Amzn-SageMaker-Custom-Attributes"] == f"model_version={model.version}"
    (row,) = document["predictions"]
    assert row["label"] == expected.labels[0]
    assert row["index"] == expected.indices[0]
    assert row["confidence"] == pytest.approx(float(expected.confidences[0]), abs=1e-6)
    assert row["probabilities"] == pytest.approx(expected.probabilities[0].tolist(), abs=1e-6)


def test_a_jpeg_is_answered(post: Post, model: Model) -> None:
    status, document, _ = post(encoded("JPEG"), "image/jpeg")
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
        ("image/png", encoded("PNG")[:60], 400, "corrupt"),
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
def test_more_than_the_limit_is_refused_before_it_is_read(address: tuple[str, int], length: int) -> None:
    head = b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: %d\r\n\r\n"
    answer = raw(address, head % length, b"x" * 100)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert is_refusal(413, json.loads(answer.partition(b"\r\n\r\n")[2]))


def test_a_whole_body_over_the_limit_gets_its_answer(post: Post) -> None:
    status, document, _ = post(b"\0" * (LIMIT + 1), "image/png")
    assert status == 413
    assert str(LIMIT) in document["error"]["message"]


@pytest.mark.parametrize("length", [b"0", b"-5"])
def test_a_body_of_nothing_is_refused(address: tuple[str, int], length: bytes) -> None:
    answer = raw(address, b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: " + length + b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("length", [b"", b"Content-Length: ten\r\n"])
def test_a_length_is_needed(address: tuple[str, int], length: bytes) -> None:
    answer = raw(address, b"POST /invocations HTTP/1.1\r\nHost: x\r\n" + length + b"\r\n", end=False)
    assert answer.startswith(b"HTTP/1.1 411 ")


def test_a_body_that_ends_too_early_is_refused(address: tuple[str, int]) -> None:
    head = b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: 1000\r\n\r\n"
    answer = raw(address, head, b"only this")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"9 of 1000 bytes arrived" in answer


@pytest.mark.parametrize("line", [b"nonsense\r\n\r\n", b"GET\r\n\r\n", b"POST /invocations HTTP/9.9\r\n\r\n"])
def test_a_broken_request_line_is_no_error_of_ours(address: tuple[str, int], line: bytes) -> None:
    status = raw(address, line).split(b" ", 2)[1]
    assert status in {b"400", b"404", b"505"}


@pytest.mark.parametrize(("method", "path"), [("GET", "/"), ("GET", "/invocations"), ("POST", "/"), ("POST", "/ping")])
def test_other_paths_are_not_found(address: tuple[str, int], method: str, path: str) -> None:
    status, document, _ = ask(address, method, path, b"x" if method == "POST" else None)
    assert status == 404
    assert is_refusal(status, document)


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH"])
def test_other_methods_are_refused(address: tuple[str, int], method: str) -> None:
    status, document, _ = ask(address, method, "/invocations")
    assert is_refusal(status, document)


def test_a_connection_goes_on_after_a_refusal(address: tuple[str, int]) -> None:
    connection = http.client.HTTPConnection(*address, timeout=30)
    try:
        for body, status in ((b"bad", 400), (encoded("PNG"), 200), (b"bad", 400), (encoded("PNG"), 200)):
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
    good = {"image/png": encoded("PNG"), "image/jpeg": encoded("JPEG"), "application/x-npy": npy(PIXELS)}
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


@pytest.fixture
def process(served: Path) -> Iterator[tuple[subprocess.Popen[str], tuple[str, int]]]:
    """A serving process and its address."""
    child = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(served)],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        assert child.stderr is not None
        line = next(line for line in child.stderr if line.startswith("serving "))
        yield child, ("127.0.0.1", int(line.rsplit(":", 1)[1]))
    finally:
        child.kill()
        child.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_finishes_the_answers_under_way_and_then_ends(
    process: tuple[subprocess.Popen[str], tuple[str, int]], number: signal.Signals
) -> None:
    child, address = process
    idle = socket.create_connection(address, timeout=30)
    busy = http.client.HTTPConnection(*address, timeout=30)
    try:
        busy.request("GET", "/ping")
        assert busy.getresponse().read()
        body = npy(np.zeros((64, 1, 16, 16), np.uint8))
        busy.request("POST", "/invocations", body, {"Content-Type": "application/x-npy"})
        child.send_signal(number)
        response = busy.getresponse()
        assert response.status == 200
        assert len(json.loads(response.read())["predictions"]) == 64
        assert child.wait(timeout=20) == 0
        assert child.stderr is not None
        assert "drained" in child.stderr.read()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address, timeout=5)
    finally:
        idle.close()
        busy.close()


def test_a_package_that_must_not_serve_ends_the_process(package: Path) -> None:
    (package / "model.onnx").write_bytes(b"changed")
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(package)], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode != 0
    assert "PackageError: digest: model.onnx" in done.stderr
