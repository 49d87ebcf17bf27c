"""E2 and E3: a swap loses and mixes no answer, and the last good model survives whatever happens in one."""

import itertools
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from component import Desk, answered, eventually, png
from onnx import TensorProto, helper, numpy_helper

from edge.files import read_json
from edge.frames import Frame
from edge.switch import Event

REPO = Path(__file__).parents[2]
Make = Callable[..., Path]
pytestmark = pytest.mark.slow


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
