"""The server process: where it answers, what it says when it cannot, and that it ends with all that it started."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lab import server
from lab.engine import Engine

REPO = Path(__file__).parents[2]
START = """import subprocess, sys, time
subprocess.Popen([sys.executable, '-m', 'lab.server', *sys.argv[1:]])
time.sleep(60)"""


def argv(root: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "lab.server", "--root", str(root), *more]


def ready(root: Path, until: Callable[..., Any]) -> dict[str, Any]:
    until(lambda: (root / "engine.json").is_file(), 120)
    said: dict[str, Any] = json.loads((root / "engine.json").read_text())
    return said


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_it_answers_on_loopback_alone_and_says_where(engine: Engine) -> None:
    said = json.loads((engine.root / "engine.json").read_text())
    assert said["endpoint"] == engine.endpoint == f"http://127.0.0.1:{said['port']}"
    assert said["region"] == "us-east-1" and said["account"] == "123456789012"
    assert engine.client("sts").get_caller_identity()["Account"] == "123456789012"
    own = socket.gethostbyname(socket.gethostname())
    if not own.startswith("127."):
        with socket.socket() as probe:
            probe.settimeout(2)
            assert probe.connect_ex((own, said["port"])) != 0


def test_every_stand_in_of_the_list_is_there() -> None:
    for name in server.STAND_INS:
        assert (REPO / (name.replace(".", "/") + ".py")).is_file(), name


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_and_takes_its_sign_away(
    tmp_path: Path, until: Callable[..., Any], number: signal.Signals
) -> None:
    started = subprocess.Popen(argv(tmp_path, "--region", "eu-west-1"), cwd=REPO)
    said = ready(tmp_path, until)
    assert said["pid"] == started.pid and said["region"] == "eu-west-1"
    started.send_signal(number)
    assert started.wait(timeout=20) == 0
    assert not (tmp_path / "engine.json").exists()


@pytest.mark.slow
def test_it_ends_when_the_process_that_started_it_is_gone(tmp_path: Path, until: Callable[..., Any]) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", START, "--root", str(tmp_path), "--watch-parent"], cwd=REPO, stderr=subprocess.DEVNULL
    )
    said = ready(tmp_path, until)
    parent.kill()
    parent.wait()
    until(lambda: gone(said["pid"]), 20)
    assert not (tmp_path / "engine.json").exists()


@pytest.mark.slow
def test_a_port_in_use_is_one_line_and_not_a_traceback(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = subprocess.run(argv(tmp_path, "--port", port), cwd=REPO, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert done.stderr.strip() == f"cannot listen on port {port} of 127.0.0.1: Address already in use"
