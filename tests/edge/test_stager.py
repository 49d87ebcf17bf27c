"""The stager as the device runs it: a process with the standard library alone."""

import hashlib
import json
import socket
import subprocess
import sys
import threading
import time
from base64 import b64encode
from pathlib import Path

import pytest

from edge import stager
from edge.files import SIGNATURE, BrokenPackage, identity, read_json, write_json

REPO = Path(__file__).parents[2]


def package(folder: Path, content: bytes = b"graph") -> Path:
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(content)
    digests = {"model.onnx": hashlib.sha256(content).hexdigest()}
    (folder / "model.json").write_text(json.dumps({"schema": 1, "version": "1.0.1", "sha256": digests}))
    return folder


def verdict(folder: Path, name: str, accepted: bool, reason: str | None = None) -> None:
    write_json(folder / "1.0.1", {"identity": name, "accepted": accepted, "reason": reason, "detail": "off by 1"})


def start(tmp_path: Path, *more: str, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
    options = {"package": tmp_path / "package", "work": tmp_path / "work", "verdicts": tmp_path / "verdicts"}
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    # -S leaves site-packages out: what is not in the standard library cannot be imported.
    argv = [sys.executable, "-S", "-m", "edge.stager", *words, "--version", "1.0.1", *more]
    return subprocess.Popen(argv, cwd=REPO, env=env or {}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_an_accepted_package_is_staged_and_the_nucleus_is_told(tmp_path: Path) -> None:
    name = identity(package(tmp_path / "package"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(str(tmp_path / "notify"))
        notify.settimeout(20)
        running = start(tmp_path, env={"NOTIFY_SOCKET": str(tmp_path / "notify")})
        wanted = tmp_path / "work" / "store" / "wanted.json"
        while not wanted.exists():
            assert running.poll() is None
            time.sleep(0.02)
        said = read_json(wanted) or {}
        assert (said["version"], said["identity"], len(said["staged"])) == ("1.0.1", name, 32)
        verdict(tmp_path / "verdicts", name, True)
        assert notify.recv(100) == b"READY=1"
    assert (running.wait(20), "accepted" in running.communicate()[0]) == (0, True)
    assert (tmp_path / "work" / "store" / "1.0.1" / "model.onnx").read_bytes() == b"graph"


def test_a_refused_package_exits_with_four_and_says_why(tmp_path: Path) -> None:
    verdict(tmp_path / "verdicts", identity(package(tmp_path / "package")), False, "golden")
    running = start(tmp_path)
    _, said = running.communicate(timeout=20)
    assert (running.returncode, said) == (4, "version 1.0.1 is refused: golden: off by 1\n")


def test_a_verdict_on_another_package_of_the_same_version_is_not_taken(tmp_path: Path) -> None:
    package(tmp_path / "package")
    verdict(tmp_path / "verdicts", "another", True)
    running = start(tmp_path, "--patience", "0.3")
    assert "the runtime said nothing within 0.3 s" in running.communicate(timeout=20)[1]
    assert running.returncode == 4


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (lambda folder: (folder / "model.onnx").write_bytes(b"grapf"), "digest"),
        (lambda folder: (folder / "model.onnx").unlink(), "missing"),
        (lambda folder: (folder / "model.json").unlink(), "missing"),
        (lambda folder: (folder / "model.json").write_text("{"), "schema"),
        (lambda folder: (folder / "model.json").write_text('{"schema": 1, "sha256": {"../x": "1"}}'), "schema"),
    ],
)
def test_a_broken_package_is_refused_before_it_is_staged(tmp_path: Path, harm: object, reason: str) -> None:
    harm(package(tmp_path / "package"))  # type: ignore[operator]
    with pytest.raises(BrokenPackage) as error:
        stager.stage(tmp_path / "package", "1.0.1", tmp_path / "store")
    assert error.value.reason == reason
    assert not (tmp_path / "store" / "wanted.json").exists()


def test_staging_again_changes_nothing_and_heals_a_damaged_copy(tmp_path: Path) -> None:
    source, store = package(tmp_path / "package"), tmp_path / "store"
    stager.stage(source, "1.0.1", store)
    before = (store / "1.0.1" / "model.onnx").stat().st_ino
    stager.stage(source, "1.0.1", store)
    assert (store / "1.0.1" / "model.onnx").stat().st_ino == before
    (store / "1.0.1" / "model.onnx").write_bytes(b"rotten")
    stager.stage(source, "1.0.1", store)
    assert (store / "1.0.1" / "model.onnx").read_bytes() == b"graph"


def test_the_recipes_signature_lies_beside_the_copy(tmp_path: Path) -> None:
    source, store = package(tmp_path / "package"), tmp_path / "store"
    stager.stage(source, "1.0.1", store)
    assert not (store / "1.0.1" / SIGNATURE).exists()
    stager.stage(source, "1.0.1", store, b64encode(b"signed").decode())
    assert (store / "1.0.1" / SIGNATURE).read_bytes() == b"signed"
    with pytest.raises(BrokenPackage, match="is no base64") as error:
        stager.stage(source, "1.0.1", store, "not so")
    assert error.value.reason == "signature"


def test_the_store_keeps_two_versions(tmp_path: Path) -> None:
    for number in range(4):
        source = package(tmp_path / f"package{number}", f"graph {number}".encode())
        stager.stage(source, f"1.0.{number}", tmp_path / "store")
    assert sorted(path.name for path in (tmp_path / "store").iterdir()) == ["1.0.2", "1.0.3", "wanted.json"]


def test_waiting_sees_a_verdict_that_comes_late(tmp_path: Path) -> None:
    timer = threading.Timer(0.2, verdict, (tmp_path, "me", True))
    timer.start()
    found = stager.wait(tmp_path / "1.0.1", "me", 10)
    timer.join()
    assert found is not None and found["accepted"]
