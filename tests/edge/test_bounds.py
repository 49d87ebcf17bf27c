"""E4, E6, E7 and E17: what the component may reach, leave behind, and take of disk and memory."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from component import Desk, eventually, png

from edge import inference
from edge.files import size
from edge.switch import Event

REPO = Path(__file__).parents[2]
Make = Callable[..., Path]
pytestmark = pytest.mark.slow


# E4 and E17


def inside(work: Path, *before: str, **environment: str) -> subprocess.Popen[bytes]:
    with (work / "log").open("ab") as log:
        return subprocess.Popen(
            [*before, sys.executable, "-B", "-m", "edge.inference", "--work", str(work)],
            cwd=REPO,
            env={"PATH": os.defpath, **environment},
            stdout=log,
            stderr=log,
        )


def test_e4_it_starts_and_serves_without_network_home_and_credentials(tmp_path: Path, package: Make) -> None:
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-n", "true"], capture_output=True).returncode:
        pytest.skip("a network of its own for a process is not permitted here; a machine where `unshare -n` runs it")
    one = Desk(tmp_path)
    one.stage(package(), "1.0.1")
    one.service.switch.step(one.store)
    (one.work / "inbox").mkdir()
    (one.work / "inbox" / "a.png").write_bytes(png(90))
    process = inside(one.work, "unshare", "-n")
    try:
        assert eventually(lambda: (one.work / "results.jsonl").exists()), (one.work / "log").read_text()
        assert one.results()[0]["model_version"] == "1.0.1"
    finally:
        process.terminate()
        assert process.wait(20) == 0


def test_e17_it_opens_no_network_socket_and_leaves_nothing_in_home(tmp_path: Path, package: Make) -> None:
    one = Desk(tmp_path)
    one.stage(package(), "1.0.1")
    one.service.switch.step(one.store)
    (one.work / "inbox").mkdir()
    home = tmp_path / "home"
    home.mkdir()
    process = inside(one.work, HOME=str(home), ORT_DISABLE_TELEMETRY="1")
    seen: set[str] = set()
    try:
        for number in range(100):
            (one.work / "inbox" / f"{number}.png").write_bytes(png(number))
            seen |= sockets(process.pid) & network()  # while it runs: what is closed is listed no more
            time.sleep(0.03)
        assert eventually(one.results), (one.work / "log").read_text()
    finally:
        process.terminate()
        process.wait(20)
    assert seen == set(), "no socket of an internet family in all that time"
    assert list(home.rglob("*")) == []


def sockets(pid: int) -> set[str]:
    """Inodes of the sockets that a process holds."""
    found = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir() if Path(f"/proc/{pid}/fd").exists() else ():
        try:
            target = str(entry.readlink())
        except OSError:
            continue
        if target.startswith("socket:["):
            found.add(target[8:-1])
    return found - unix()


def unix() -> set[str]:
    return {line.split()[6] for line in Path("/proc/net/unix").read_text().splitlines()[1:]}


def network() -> set[str]:
    found = set()
    for name in ("tcp", "tcp6", "udp", "udp6"):
        path = Path("/proc/net") / name
        found |= {line.split()[9] for line in path.read_text().splitlines()[1:]} if path.exists() else set()
    return found


# E6


def heavy(folder: Path, number: int, megabytes: int) -> Path:
    """The package with ballast, another one for each number."""
    (folder / "ballast.bin").write_bytes(np.random.default_rng(number).bytes(megabytes * 2**20))
    return folder


def test_e6_fifty_updates_never_take_more_than_a_few_packages(
    desk: Callable[..., Desk], package: Make, reseal: Make
) -> None:
    one, most = desk(), 0
    for number in range(50):
        version = f"1.0.{number}"
        one.stage(reseal(heavy(package(version), number, 1), version=version), version)
        event = one.service.switch.step(one.store)
        assert event is not None and event.kind == "swap"
        most = max(most, size(one.work.parent))
        shutil.rmtree(one.work.parent.parent / "packages", ignore_errors=True)
    # Two in the store, two of our own: what serves and what would come back.
    assert most < 4.3 * 2**20, most


def test_e6_fifty_updates_fit_on_a_file_system_of_64_megabytes(tmp_path: Path, package: Make, reseal: Make) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64m", "none", str(small)]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting is not permitted here; a machine where root may mount runs it")
    try:
        one = Desk(small, spool_mb=2.0, free_mb=4)
        for number in range(50):
            version = f"1.0.{number}"
            one.stage(reseal(heavy(package(version), number, 10), version=version), version)
            event = one.service.switch.step(one.store)
            assert event is not None and event.kind == "swap", event
            shutil.rmtree(tmp_path / "packages", ignore_errors=True)
        assert one.serves("1.0.49")
        one.service.forwarder.spool.close()
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_e6_a_package_that_would_fill_the_disk_is_refused_and_taken_when_there_is_room(
    desk: Callable[..., Desk], package: Make
) -> None:
    one = desk()
    one.stage(package("1.0.1", seed=1), "1.0.1")
    one.service.switch.step(one.store)
    one.stage(package("1.0.2", seed=2), "1.0.2")
    one.service.switch.free_mb = 1_000_000_000
    refused = one.service.switch.step(one.store)
    assert refused is not None and (refused.kind, refused.reason) == ("reject", "disk")
    assert one.serves("1.0.1")
    one.service.switch.free_mb = 0
    one.stage(package("1.0.2", seed=2), "1.0.2")
    assert one.service.switch.step(one.store) == Event("swap", "1.0.2"), "staged again, it is tried again"


# E7


def test_e7_memory_does_not_grow(tmp_path: Path, package: Make) -> None:
    """Some thousand answers, uploads failing and the cloud away: the resident size stays where it was."""
    one = Desk(tmp_path, source="replay:inbox", rate_hz=400, publish=True, capture_per_day=50, probation_n=0)
    one.stage(package(), "1.0.1")
    (one.work / "inbox").mkdir()
    for number in range(50):
        (one.work / "inbox" / f"{number}.png").write_bytes(png(number * 5))
    one.start()
    try:
        assert eventually(lambda: one.serves("1.0.1"))
        sizes = []
        for _ in range(40):
            time.sleep(0.5)
            sizes.append(inference.resident_mb() or 0.0)
    finally:
        one.stop()
    early, late = float(np.median(sizes[10:20])), float(np.median(sizes[-10:]))
    assert late - early < 8.0, sizes
    assert len(one.results()) > 1_000
