"""What the component promises, held as a whole: under load, under fire, without a network, on a small disk.

E1 to E18 are the promises' numbers; those that one file keeps alone are tested beside it.
"""

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from edge import inference, stager
from edge.files import read_json, size
from edge.frames import Frame
from edge.inference import HUNG, Service
from edge.settings import Settings
from edge.switch import Event
from models.runtime import Model, Prediction

REPO = Path(__file__).parents[2]
Make = Callable[..., Path]
pytestmark = pytest.mark.slow


def eventually(condition: Callable[[], Any], seconds: float = 30.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return bool(condition())


class Desk:
    """The service in this process, with what it says to the cloud."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.work = folder / "work" / "lab.Inference"
        self.store = folder / "work" / "lab.Model" / "store"
        self.work.mkdir(parents=True, exist_ok=True)
        self.service = Service(self.work, "desk-1", None)
        self.service.settings = Settings(
            model_component="lab.Model", poll_s=0.02, **{"probation_n": 40, "source": "folder:inbox", **settings}
        )
        self.service.prepare()
        self.alerts: list[dict[str, Any]] = []
        self.service.forwarder.alert = self._alert  # type: ignore[method-assign]
        self.ended: list[int] = []

    def _alert(self, kind: str, **about: Any) -> None:
        self.alerts.append({"kind": kind, **about})

    def start(self) -> None:
        self.thread = threading.Thread(target=lambda: self.ended.append(self.service.serve()), daemon=True)
        self.thread.start()

    def stop(self) -> None:
        self.service.stopping.set()
        if hasattr(self, "thread"):
            self.thread.join(20)

    def stage(self, package: Path, version: str) -> None:
        stager.stage(package, version, self.store)

    def serves(self, version: str) -> bool:
        current = self.service.switch.current
        return current is not None and current.version == version

    def results(self) -> list[dict[str, Any]]:
        self.service.results.flush()
        found = []
        for name in ("results.jsonl.1", "results.jsonl"):
            path = self.work / name
            found += [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        return found

    def kinds(self) -> list[str]:
        return [str(alert["kind"]) for alert in self.alerts]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Callable[..., Desk]]:
    made: list[Desk] = []

    def make(**settings: Any) -> Desk:
        made.append(Desk(tmp_path, **settings))
        return made[-1]

    yield make
    for one in made:
        one.stop()


def png(value: int) -> bytes:
    import io

    data = io.BytesIO()
    Image.fromarray(np.full((8, 8), value, np.uint8)).save(data, "PNG")
    return data.getvalue()


def answered(seed: int, value: int) -> float:
    """Confidence of the package of a seed on a grey picture, by numpy."""
    weights = np.random.default_rng(seed).normal(0, 0.01, (64, 3)).astype(np.float32)
    scores = np.full(64, value, np.float32) @ weights
    powers = np.exp(scores - scores.max())
    return float((powers / powers.sum()).max())


# E2


def test_e2_at_200_requests_a_second_20_swaps_lose_and_mix_no_answer(desk: Callable[..., Desk], package: Make) -> None:
    one = desk(probation_n=0)
    packages = {seed: package(f"1.0.{seed}", seed=seed) for seed in (1, 2)}
    one.stage(packages[1], "1.0.1")
    one.start()
    assert eventually(lambda: one.serves("1.0.1"))
    sent, stop, grey = Counter[int](), threading.Event(), {value: png(value) for value in (20, 90, 160, 230)}

    def ask() -> None:
        due = time.monotonic()
        for value in itertools.cycle(grey):
            if stop.is_set():
                return
            while not one.service.pipeline.frames.offer(Frame(f"{value}.png", grey[value])):
                pass
            sent[value] += 1
            due += 1 / 200
            time.sleep(max(0.0, due - time.monotonic()))

    asking = threading.Thread(target=ask)
    asking.start()
    for number in range(20):
        seed = 2 - number % 2
        one.stage(packages[seed], f"1.0.{seed}")
        assert eventually(lambda seed=seed: one.serves(f"1.0.{seed}"))  # type: ignore[misc]
    stop.set()
    asking.join()
    assert eventually(lambda: len(one.results()) == sum(sent.values())), "every request has its answer"
    wanted = {(seed, value): answered(seed, value) for seed in (1, 2) for value in grey}
    versions = Counter[str]()
    for row in one.results():
        seed, value = int(row["model_version"].rsplit(".", 1)[1]), int(row["source"].removesuffix(".png"))
        assert row["confidence"] == pytest.approx(wanted[seed, value], abs=2e-4), row
        versions[row["model_version"]] += 1
    assert min(versions.values()) > 0 and len(versions) == 2


# E3


def black_is_nothing(folder: Path) -> None:
    """A model that is right on every picture with any light in it, and gives no number for a black one."""
    weights = np.random.default_rng(7).normal(0, 1, (64, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Cast", ["pixels"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["floats"], ["flat"]),
        helper.make_node("ReduceMean", ["flat", "axis"], ["mean"], keepdims=1),
        helper.make_node("Div", ["flat", "mean"], ["scaled"]),
        helper.make_node("MatMul", ["scaled", "w"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["probabilities"], axis=1),
    ]
    made = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["N", 1, 8, 8])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 3])],
        [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(np.array([1], np.int64), "axis")],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    (folder / "model.onnx").write_bytes(onnx.ModelProto.SerializeToString(model))
    with np.load(folder / "golden.npz") as data:
        inputs = data["inputs"]
    flat = inputs.reshape(len(inputs), -1).astype(np.float32)
    scores = flat / flat.mean(axis=1, keepdims=True) @ weights
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    np.savez(folder / "golden.npz", inputs=inputs, outputs=(powers / powers.sum(axis=1, keepdims=True)))


def test_e3_a_model_that_fails_on_what_the_device_sees_gives_way_and_is_never_tried_again(
    desk: Callable[..., Desk], package: Make, reseal: Make
) -> None:
    one = desk(probation_n=40)
    one.stage(package("1.0.1", seed=1), "1.0.1")
    one.start()
    assert eventually(lambda: one.serves("1.0.1"))
    bad = package("1.0.2", seed=2)
    black_is_nothing(bad)
    one.stage(reseal(bad, version="1.0.2"), "1.0.2")
    assert eventually(lambda: one.serves("1.0.2")), "its golden answers are right"
    for number in range(30):
        assert one.service.pipeline.frames.offer(Frame(f"{number}.png", png(0)), patience=20)
    assert eventually(lambda: one.serves("1.0.1") and "revert" in one.kinds()), one.alerts
    revert = next(alert for alert in one.alerts if alert["kind"] == "revert")
    assert (revert["version"], revert["reason"], revert["model_version"]) == ("1.0.2", "errors", "1.0.1")
    verdict = read_json(one.work / "verdicts" / "1.0.2") or {}
    assert (verdict["accepted"], verdict["reason"]) == (False, "errors"), "its acceptance is taken back"
    one.stop()
    again = desk()
    again.start()
    assert eventually(lambda: again.serves("1.0.1"))
    again.stage(bad, "1.0.9")
    assert eventually(lambda: (read_json(again.work / "verdicts" / "1.0.9") or {}).get("accepted") is False)
    assert again.serves("1.0.1"), "the same package under another version is known"


def test_e3_a_model_that_did_well_is_the_one_to_go_back_to(desk: Callable[..., Desk], package: Make) -> None:
    one = desk(probation_n=5)
    one.stage(package("1.0.1", seed=1), "1.0.1")
    one.start()
    assert eventually(lambda: one.serves("1.0.1"))
    for number in range(6):
        one.service.pipeline.frames.offer(Frame(f"{number}.png", png(90)), patience=20)
    assert eventually(lambda: "probation" not in (read_json(one.work / "serving.json") or {"probation": 1}))
    assert not one.service.switch.on_probation


KILLED = """
import itertools, os, signal, sys
from pathlib import Path
from edge import files, switch
from edge.switch import Switch
point, steps = int(sys.argv[3]), itertools.count()
def dying(original):
    def stand_in(*given, **named):
        if next(steps) == point: os.kill(os.getpid(), signal.SIGKILL)
        result = original(*given, **named)
        if next(steps) == point: os.kill(os.getpid(), signal.SIGKILL)
        return result
    return stand_in
held = Switch(Path(sys.argv[1]), threads=1)
held.restore()
for name in ("copy_folder", "identity", "write_json"):
    setattr(switch, name, dying(getattr(switch, name)))
files.os.fsync = dying(files.os.fsync)
held.step(Path(sys.argv[2]))
print("lived", next(steps))
"""


@pytest.mark.parametrize("point", range(0, 36, 3))
def test_e3_kill_9_at_a_dozen_points_of_a_swap_leaves_a_model_that_serves(
    desk: Callable[..., Desk], package: Make, tmp_path: Path, point: int
) -> None:
    one = desk()
    one.stage(package("1.0.1", seed=1), "1.0.1")
    assert one.service.switch.step(one.store) == Event("swap", "1.0.1")
    one.stage(package("1.0.2", seed=2), "1.0.2")
    argv = [sys.executable, "-c", KILLED, str(one.work), str(one.store), str(point)]
    killed = subprocess.run(argv, cwd=REPO, capture_output=True, text=True, timeout=60, check=False)
    assert killed.returncode == -signal.SIGKILL, f"the swap has fewer points: {killed.stdout}{killed.stderr}"
    again = desk()
    restored = again.service.switch.restore()
    assert restored is not None and again.service.switch.current is not None, "a valid model serves"
    again.service.switch.step(again.store)
    assert again.serves("1.0.2"), "and the new one is taken on after all"


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


# E8


class Sleeper(Model):
    """A model that never answers a black picture."""

    asleep = threading.Event()

    def predict(self, batch: Any) -> Prediction:
        if not batch.any():
            type(self).asleep.set()
            time.sleep(3600)
        return super().predict(batch)


@pytest.fixture
def sleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    Sleeper.asleep.clear()
    load = Model.load.__func__  # type: ignore[attr-defined]
    made = inference.Switch
    monkeypatch.setattr(
        inference, "Switch", lambda *given, **named: made(*given, **named, load=lambda *a, **n: load(Sleeper, *a, **n))
    )


def test_e8_a_worker_that_hangs_is_replaced_then_the_process_and_at_last_the_model(
    desk: Callable[..., Desk], package: Make, sleeps: None
) -> None:
    def hung(one: Desk) -> None:
        Sleeper.asleep.clear()
        assert one.service.pipeline.frames.offer(Frame("black.png", png(0)), patience=20)
        assert Sleeper.asleep.wait(20)

    def works(one: Desk) -> bool:
        before = len(one.results())
        assert one.service.pipeline.frames.offer(Frame("grey.png", png(90)), patience=20)
        return eventually(lambda: len(one.results()) > before)

    one = desk(hang_s=0.5, probation_n=0, budget_ms=1.0)
    one.stage(package("1.0.1", seed=1), "1.0.1")
    one.start()
    assert eventually(lambda: one.serves("1.0.1"))
    one.stage(package("1.0.2", seed=2), "1.0.2")
    assert eventually(lambda: one.serves("1.0.2"))
    hung(one)
    assert eventually(lambda: "hang" in one.kinds()) and works(one), "first another worker"
    hung(one)
    assert eventually(lambda: one.ended == [HUNG]), "then another process"
    one = desk(hang_s=0.5, probation_n=0, budget_ms=1.0)
    one.start()
    assert eventually(lambda: one.serves("1.0.2"))
    for _ in range(2):
        hung(one)
    assert eventually(lambda: one.ended == [HUNG])
    one = desk(hang_s=0.5, probation_n=0, budget_ms=1.0)
    one.start()
    for _ in range(2):
        hung(one)
    assert eventually(lambda: one.serves("1.0.1")), "a third end in an hour would be the last: the model goes instead"
    assert one.ended == [] and works(one)
    assert (read_json(one.work / "verdicts" / "1.0.2") or {})["reason"] == "hang"


def test_e8_a_package_that_takes_the_process_down_is_refused_the_third_time(
    desk: Callable[..., Desk], package: Make
) -> None:
    one = desk()
    one.stage(package("1.0.1", seed=1), "1.0.1")
    one.service.switch.step(one.store)
    one.stage(package("1.0.2", seed=2), "1.0.2")
    code = (
        "import os, sys; from pathlib import Path; from edge.switch import Switch\n"
        "held = Switch(Path(sys.argv[1]), threads=1, load=lambda *_, **__: os.abort())\n"
        "held.step(Path(sys.argv[2]))\n"
    )
    for _ in range(2):
        argv = [sys.executable, "-c", code, str(one.work), str(one.store)]
        done = subprocess.run(argv, cwd=REPO, capture_output=True, check=False, timeout=60)
        assert done.returncode == -signal.SIGABRT
    again = desk()
    assert again.service.switch.restore() is not None
    event = again.service.switch.step(again.store)
    assert event is not None and (event.kind, event.reason) == ("reject", "crash") and again.serves("1.0.1")


# E10


def test_e10_samples_beyond_their_deadline_are_dropped_and_answers_over_budget_counted(
    desk: Callable[..., Desk], package: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict = Model.predict
    monkeypatch.setattr(Model, "predict", lambda *given: (time.sleep(0.05), predict(*given))[1])
    one = desk(deadline_ms=100, budget_ms=20, probation_n=0)
    one.stage(package(p95_ms=None), "1.0.1")
    one.start()
    assert eventually(lambda: one.serves("1.0.1"))
    for number in range(40):
        one.service.pipeline.frames.push(Frame(f"{number}.png", png(90)))
    assert eventually(lambda: len(one.service.pipeline.frames) == 0)
    assert eventually(lambda: one.service.pipeline.busy_for() == 0)
    dropped = one.service.pipeline.frames.dropped
    answers = one.results()
    assert dropped["queue"] >= 30 and dropped["late"] >= 1
    assert len(answers) + dropped["queue"] + dropped["late"] == 40, "each sample is answered or counted"
    assert all(row["ms"] > 20 for row in answers)


# E14


def test_e14_a_changed_configuration_is_applied_at_once_and_a_bad_one_changes_nothing(
    desk: Callable[..., Desk], package: Make
) -> None:
    class Nucleus:
        def __init__(self) -> None:
            self.raw: dict[str, Any] = {}

        def configuration(self) -> dict[str, Any]:
            return dict(self.raw)

        def lost_for(self) -> float:
            return 0.0

        def subscribe(self, *_: object) -> bool:
            return False

        def publish(self, *_: object) -> bool:
            return False

    one = desk(probation_n=0)
    one.stage(package(), "1.0.1")
    one.start()
    assert eventually(lambda: one.serves("1.0.1"))
    nucleus = Nucleus()
    one.service.nucleus = nucleus  # type: ignore[assignment]
    model = one.service.switch.current
    common = {"model_component": "lab.Model", "poll_s": "0.02", "source": "other", "threads": "2.0", "publish": "yes"}
    nucleus.raw = common
    try:
        one.service.configure()
        assert (one.service.settings.threads, one.service.settings.publish) == (2, True)
        (one.work / "other").mkdir()
        (one.work / "other" / "a.png").write_bytes(png(90))
        assert eventually(lambda: [row["source"] for row in one.results()] == ["a.png"]), "the source changed"
        assert eventually(lambda: one.service.switch.current is not model), "the session has other threads"
        nucleus.raw = {**common, "threads": "many"}
        one.service.configure()
        assert one.service.settings.threads == 2 and one.kinds()[-1] == "configuration"
    finally:
        one.service.nucleus = None
