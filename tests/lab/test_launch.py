"""Starting and ending the embedded AWS: one at a time, whatever ends it, and nothing left behind."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from lab import launch, processes, up
from lab.errors import EngineError
from lab.home import Home
from lab.progress import Silent

REPO = Path(__file__).parents[2]
SERVER = """
import json, os, pathlib, subprocess, sys, time
words = dict(zip(sys.argv[1::2], sys.argv[2::2]))
root = pathlib.Path(words["--root"])
mode = (pathlib.Path(__file__).parent / "mode").read_text()
if mode == "dies":
    sys.exit("moto is not what was expected")
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)", str(root)], start_new_session=True)
if mode == "stubborn":
    import signal
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
said = {"pid": os.getpid(), "port": int(words["--port"]), "endpoint": "http://127.0.0.1:1", "region": words["--region"],
        "account": "123456789012"}
(root / "half").write_text(json.dumps(said))
(root / "half").rename(root / "engine.json")
print("ready", flush=True)
time.sleep(300)
"""


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    """A lab whose engine is a stand-in that starts one child and waits."""
    repo = tmp_path / "repo"
    (repo / "lab").mkdir(parents=True)
    (repo / "lab" / "__init__.py").touch()
    (repo / "lab" / "server.py").write_text(SERVER)
    mode(repo, "good")
    yield Home(repo, tmp_path / ".lab", repo / "lab.toml")
    for process in left(tmp_path):
        process.kill()


def mode(repo: Path, name: str) -> None:
    (repo / "lab" / "mode").write_text(name)


def left(folder: Path) -> list[psutil.Process]:
    """Live processes whose command line names `folder`."""
    return [
        process
        for process in psutil.process_iter(["cmdline", "status"])
        if process.info["status"] != psutil.STATUS_ZOMBIE
        and process.pid != os.getpid()
        and any(str(folder) in word for word in process.info["cmdline"] or [])
    ]


def start(home: Home, port: int = 0) -> launch.Server:
    return launch.start(home, home.up, region="us-east-1", port=port, with_us=False)


def test_it_starts_answers_and_ends_with_all_that_it_started(home: Home) -> None:
    server = start(home)
    assert launch.running(home.up) == server and len(left(home.root)) == 2
    launch.stop(server)
    assert launch.running(home.up) is None and left(home.root) == []


def test_one_that_ignores_the_request_to_end_is_killed(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    mode(home.repo, "stubborn")
    server = start(home)
    processes.end_tree(server.pid, grace=0.5)
    launch.stop(server)
    assert left(home.root) == []


def test_one_that_dies_at_the_start_is_quoted(home: Home) -> None:
    mode(home.repo, "dies")
    with pytest.raises(EngineError, match="moto is not what was expected"):
        start(home)
    assert left(home.root) == []


def test_a_stale_sign_of_a_dead_engine_is_removed(home: Home) -> None:
    home.up.mkdir(parents=True)
    gone = {"pid": 2**22 - 3, "port": 1, "endpoint": "x", "region": "r", "account": "a"}
    (home.up / "engine.json").write_text(json.dumps(gone))
    assert launch.running(home.up) is None
    assert not (home.up / "engine.json").exists()


def test_a_used_process_id_is_not_taken_for_the_engine(home: Home) -> None:
    home.up.mkdir(parents=True)
    other = {"pid": os.getpid(), "port": 1, "endpoint": "x", "region": "r", "account": "a"}
    (home.up / "engine.json").write_text(json.dumps(other))
    assert launch.running(home.up) is None


def test_a_port_in_use_is_one_clear_message(home: Home) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(EngineError, match=f"port {port} is in use") as caught:
            start(home, port)
    assert "--port" in str(caught.value.hint)


def test_an_exception_inside_an_ephemeral_engine_ends_it_and_its_folder(home: Home) -> None:
    with pytest.raises(RuntimeError, match="mine"), launch.ephemeral(home, region="us-east-1") as coming:
        assert coming.ready().root.is_dir()
        raise RuntimeError("mine")
    assert left(home.root) == [] and list(home.engines.iterdir()) == []


def test_one_that_is_still_on_its_way_up_is_ended_too(home: Home) -> None:
    with pytest.raises(RuntimeError, match="mine"), launch.ephemeral(home, region="us-east-1"):
        raise RuntimeError("mine")
    assert left(home.root) == [] and list(home.engines.iterdir()) == []


def test_what_a_killed_run_left_is_swept(home: Home) -> None:
    orphan = home.engines / f"20260101-000000-{2**22 - 3}"
    orphan.mkdir(parents=True)
    with launch.ephemeral(home, region="us-east-1"):
        assert not orphan.exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_ephemeral_engine(home: Home, number: signal.Signals) -> None:
    program = (
        "import time; from pathlib import Path; from lab import launch, processes; from lab.home import Home;"
        # SIGINT ignored at first, as a script's background commands have it; SIGHUP not, whoever started the tests.
        "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); signal.signal(signal.SIGHUP, signal.SIG_DFL);"
        f"processes.stop_like_ctrl_c(); repo = Path({str(home.repo)!r});"
        f"engine = launch.ephemeral(Home(repo, Path({str(home.root)!r}), repo / 'x'), region='us-east-1');"
        "engine.__enter__().ready(); print('up', flush=True)\n"
        "try: time.sleep(60)\n"
        "finally: engine.__exit__(None, None, None)"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(REPO)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert child.stdout is not None and child.stdout.readline() == "up\n"
    child.send_signal(number)
    child.communicate(timeout=30)
    assert child.returncode != 0 and left(home.root) == []


def test_the_server_in_the_background_holds_none_of_the_callers_pipes(home: Home) -> None:
    program = (
        "from pathlib import Path; from lab import launch; from lab.home import Home;"
        f"r = Path({str(home.repo)!r}); h = Home(r, Path({str(home.root)!r}), r / 'x');"
        "launch.start(h, h.up, region='us-east-1', with_us=False)"
    )
    began = time.monotonic()
    env = {**os.environ, "PYTHONPATH": str(REPO)}
    done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, timeout=30, check=True)
    assert done.returncode == 0 and time.monotonic() - began < 20, "the pipe stayed open"
    server = launch.running(home.up)
    assert server is not None
    launch.stop(server)


def test_a_second_up_says_that_one_runs_and_down_ends_it(home: Home) -> None:
    server = start(home)
    with pytest.raises(EngineError, match="runs already") as caught:
        up.up(home, Silent(), port=0)
    assert "lab down" in str(caught.value.hint)
    ended = up.down(home)
    assert ended is not None and ended.pid == server.pid
    assert up.down(home) is None


def test_env_points_a_client_at_the_engine(home: Home) -> None:
    server = start(home)
    found = up.env(home)
    assert found["AWS_ENDPOINT_URL"] == server.endpoint and found["AWS_DEFAULT_REGION"] == "us-east-1"
    assert found["AWS_ACCESS_KEY_ID"] and found["AWS_SECRET_ACCESS_KEY"]
    launch.stop(server)
