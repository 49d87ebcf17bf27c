"""The load generator: it counts what was answered, and takes nothing but answers."""

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import load

REQUEST = b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    asked = 0

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        type(self).asked += 1
        self.send_response(200 if self.path == "/x" else 503)
        self.send_header("Content-Length", str(len(body) * 40_000))  # longer than what one read takes
        self.end_headers()
        self.wfile.write(body * 40_000)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def port() -> Iterator[int]:
    Handler.asked = 0
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def test_it_counts_whole_answers_of_all_connections(port: int) -> None:
    found = load.load(port, REQUEST, 4, 0.5)
    assert 0 < found["requests"] <= Handler.asked
    assert 0 < found["p50_ms"] <= found["p95_ms"] <= found["p99_ms"]
    assert found["per_s"] > 0
    assert 0 <= found["generator_busy"] <= 1.5


def test_an_answer_that_is_none_ends_it(port: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "request").write_bytes(REQUEST.replace(b"/x", b"/y"))
    assert load.main([str(port), str(tmp_path / "request"), "--seconds", "0.2"]) == 1
    assert "503" in capsys.readouterr().err


def test_the_figures_are_one_document(port: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "request").write_bytes(REQUEST)
    assert load.main([str(port), str(tmp_path / "request"), "--connections", "2", "--seconds", "0.2"]) == 0
    assert json.loads(capsys.readouterr().out)["requests"] > 0
