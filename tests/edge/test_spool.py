"""Store and forward: durable, bounded, the most important first, each message at least once."""

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edge.spool import AHEAD, ALERT, RESULT, TELEMETRY, Spool

REPO = Path(__file__).parents[2]
LIMIT = 2_000_000
HOUR = 3600.0


def opened(folder: Path, limit: int = LIMIT, max_age_s: float = 24 * HOUR, **named: object) -> Spool:
    return Spool(folder / "spool.db", limit, max_age_s, **named)  # type: ignore[arg-type]


def drained(spool: Spool) -> list[bytes]:
    found = []
    while (message := spool.first()) is not None:
        found.append(message.payload)
        spool.done(message)
    return found


def test_alerts_go_before_telemetry_and_telemetry_before_results_each_in_order(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    for rank, name in ((RESULT, b"r1"), (TELEMETRY, b"t1"), (ALERT, b"a1"), (RESULT, b"r2"), (ALERT, b"a2")):
        assert spool.put(rank, "x", name)
    assert drained(spool) == [b"a1", b"a2", b"t1", b"r1", b"r2"]


def test_what_was_not_delivered_is_there_after_a_restart(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool.put_all(RESULT, "x", [b"1", b"2", b"3"])
    first = spool.first()
    assert first is not None
    spool.done(first)
    spool.close()
    assert drained(opened(tmp_path)) == [b"2", b"3"]


def test_nothing_that_put_has_answered_is_lost_by_a_kill(tmp_path: Path) -> None:
    """A child says after each message that it is kept, and is killed in the middle of the next."""
    code = (
        "import sys; from pathlib import Path; from edge.spool import Spool, ALERT\n"
        f"spool = Spool(Path({str(tmp_path)!r}) / 'spool.db', {LIMIT}, 1e9)\n"
        "number = 0\n"
        "while spool.put(ALERT, 'x', b'%d' % number):\n"
        "    print(number, flush=True); number += 1\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=REPO, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        for _ in range(200):
            child.stdout.readline()
        child.send_signal(signal.SIGKILL)
        said = [int(line) for line in child.stdout.read().split()]
    kept = [int(payload) for payload in drained(opened(tmp_path))]
    last = max(said, default=199)
    assert kept[: last + 1] == list(range(last + 1)), "every answered message, in order"


def test_the_budget_holds_and_every_alert_outlives_everything_else(tmp_path: Path) -> None:
    spool, rng = opened(tmp_path), random.Random(5)
    alerts, most = [], 0
    for number in range(6_000):
        spool.put(RESULT, "x", rng.randbytes(2_000))
        if number % 100 == 0:
            alert = b"alert %d" % number
            assert spool.put(ALERT, "x", alert)
            alerts.append(alert)
            most = max(most, spool.disk())
    assert most <= LIMIT and spool.disk() <= LIMIT
    assert spool.dropped["result"] > 5_000 and spool.dropped["alert"] == 0
    assert drained(spool)[: len(alerts)] == alerts


def test_a_message_less_important_than_all_that_is_kept_is_refused_and_counted(tmp_path: Path) -> None:
    (tmp_path / "probe").mkdir()
    probe, room = opened(tmp_path / "probe"), 0
    while probe.dropped["alert"] == 0:
        probe.put(ALERT, "x", b"a" * 5_000)
        room += 1
    spool = opened(tmp_path)
    for _ in range(room - 1):
        spool.put(ALERT, "x", b"a" * 5_000)
    assert not spool.put(RESULT, "x", b"r" * 5_000)
    assert spool.dropped == {"result": 1}


def test_what_is_too_old_goes_except_alerts(tmp_path: Path) -> None:
    now = [1_000_000.0]
    spool = opened(tmp_path, max_age_s=HOUR, clock=lambda: now[0])
    spool.put(ALERT, "x", b"alert")
    spool.put(TELEMETRY, "x", b"telemetry")
    now[0] += 2 * HOUR
    spool.put(RESULT, "x", b"result")
    assert drained(spool) == [b"alert", b"result"] and spool.dropped["telemetry"] == 1


def test_a_spool_that_cannot_be_read_starts_anew_and_is_counted(tmp_path: Path) -> None:
    (tmp_path / "spool.db").write_bytes(b"no data base" * 1_000)
    spool = opened(tmp_path)
    assert spool.put(ALERT, "x", b"1") and spool.dropped["spool"] == 1
    assert drained(spool) == [b"1"]


def test_a_disk_that_takes_no_more_leaves_alerts_in_memory_and_sends_nothing_for_ever(tmp_path: Path) -> None:
    """In a child whose files may not grow: every write fails as on a full disk."""
    code = (
        "import resource, sys; from pathlib import Path; from edge.spool import Spool, ALERT, RESULT\n"
        f"spool = Spool(Path({str(tmp_path)!r}) / 'spool.db', {LIMIT}, 1e9)\n"
        "spool.put(ALERT, 'x', b'before')\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))\n"
        "for number in range(1_000): spool.put(RESULT, 'x', b'result')\n"
        "spool.put(ALERT, 'x', b'during')\n"
        "found = []\n"
        "while (message := spool.first()) is not None and len(found) < 2_000:\n"
        "    found.append(message.payload.decode()); spool.done(message)\n"
        "print(found[:2], len(found), spool.dropped['disk'] > 0, spool.dropped['result'] > 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, timeout=60)
    assert done.stdout.split("\n")[0] == "['before', 'during'] 257 True True", done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="a file system of 2 MB is mounted by root alone; run the tests as root")
@pytest.mark.slow
def test_on_a_full_file_system_messages_go_on_and_the_counter_rises(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(small)], capture_output=True).returncode:
        pytest.skip("mounting is not permitted here; a machine where root may mount runs it")
    try:
        spool = opened(small, limit=1_500_000)
        (small / "filler").write_bytes(b"x" * 1_700_000)
        for number in range(500):
            spool.put(ALERT, "x", b"%d" % number + b"." * 1_000)
        assert spool.dropped["disk"] > 0
        (small / "filler").unlink()
        assert spool.put(ALERT, "x", b"after")
        found = drained(spool)
        assert found[-1] == b"after" or b"after" in found
        spool.close()
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_a_budget_that_sqlite_cannot_keep_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=str(4 * AHEAD)):
        opened(tmp_path, limit=1_000)


def test_ten_thousand_results_are_written_together_and_do_not_hold_up_an_alert(tmp_path: Path) -> None:
    spool = opened(tmp_path, limit=20_000_000)
    spool.put_all(RESULT, "x", [b"r" * 100] * 10_000)
    assert spool.put(ALERT, "x", b"alert") and len(spool) == 10_001
    first = spool.first()
    assert first is not None and first.payload == b"alert"


def test_of_results_that_do_not_fit_the_newest_stay_and_the_others_are_counted(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool.put_all(RESULT, "x", [b"%06d" % number + b"r" * 1_000 for number in range(3_000)])
    kept = [int(payload[:6]) for payload in drained(spool)]
    assert kept[-1] == 2_999 and kept == list(range(3_000 - len(kept), 3_000))
    assert spool.dropped == {"result": 3_000 - len(kept)} and 0 < len(kept) < 3_000


def test_results_that_the_disk_refuses_are_kept_once_each(tmp_path: Path) -> None:
    code = (
        "import resource; from pathlib import Path; from edge.spool import Spool, RESULT\n"
        f"spool = Spool(Path({str(tmp_path)!r}) / 'spool.db', {LIMIT}, 1e9)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))\n"
        "spool.put_all(RESULT, 'x', [b'%d' % number for number in range(100)])\n"
        "found = []\n"
        "while (message := spool.first()) is not None and len(found) < 500:\n"
        "    found.append(int(message.payload)); spool.done(message)\n"
        "print(found == list(range(100)), spool.dropped['result'])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, timeout=60)
    assert done.stdout.split("\n")[0] == "True 0", done.stderr
