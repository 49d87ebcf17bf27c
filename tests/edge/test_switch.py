"""The gate and the swap: six bad packages and a good one, kills in between, answers under load."""

import itertools
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edge import stager, switch
from edge.files import identity, read_json
from edge.switch import Event, Switch

Make = Callable[..., Path]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "component" / "store"


@pytest.fixture
def work(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


def staged(package: Path, version: str, store: Path) -> str:
    return stager.stage(package, version, store)[0]


def told(event: Event | None) -> tuple[str, str, str] | None:
    """An event without its detail."""
    return None if event is None else (event.kind, event.version, event.reason)


def test_the_first_model_serves_and_its_verdict_says_so(package: Make, store: Path, work: Path) -> None:
    name = staged(package(), "1.0.1", store)
    held = Switch(work, threads=1)
    assert held.restore() is None and held.step(work / "nowhere") is None
    assert held.step(store) == Event("swap", "1.0.1")
    assert held.current is not None and (held.current.version, held.current.identity) == ("1.0.1", name)
    verdict = read_json(work / "verdicts" / "1.0.1")
    assert verdict is not None and (verdict["accepted"], verdict["identity"]) == (True, name)
    assert held.step(store) is None


def flip(folder: Path) -> None:
    data = bytearray((folder / "model.onnx").read_bytes())
    data[100] ^= 1
    (folder / "model.onnx").write_bytes(bytes(data))


def golden_off(folder: Path) -> None:
    with np.load(folder / "golden.npz") as data:
        inputs, outputs = data["inputs"], data["outputs"]
    outputs[0, 0] += 0.01
    np.savez(folder / "golden.npz", inputs=inputs, outputs=outputs)


@pytest.mark.parametrize(
    ("reason", "harm", "about"),
    [
        ("digest", flip, None),
        ("missing", lambda folder: (folder / "golden.npz").unlink(), None),
        ("golden", golden_off, {}),
        ("opset", lambda folder: None, {"opset": 99}),
        ("slow", lambda folder: None, {"p95_ms": 1e-9}),
        ("load", lambda folder: (folder / "model.onnx").write_bytes(b"no graph"), {}),
    ],
)
def test_a_bad_package_is_refused_with_its_own_reason_and_the_old_model_answers(
    package: Make,
    reseal: Make,
    store: Path,
    work: Path,
    reason: str,
    harm: Callable[[Path], None],
    about: dict[str, object] | None,
) -> None:
    held = Switch(work, threads=1)
    staged(package("1.0.1", seed=1), "1.0.1", store)
    held.step(store)
    bad = package("1.0.2", seed=2)
    if about is None:  # damaged after it was staged, as a disk does it
        staged(bad, "1.0.2", store)
        harm(store / "1.0.2")
    else:
        harm(bad)
        staged(reseal(bad, version="1.0.2", **about), "1.0.2", store)
    assert told(held.step(store)) == ("reject", "1.0.2", reason)
    verdict = read_json(work / "verdicts" / "1.0.2")
    assert verdict is not None and (verdict["accepted"], verdict["reason"]) == (False, reason)
    assert held.current is not None and held.current.version == "1.0.1"
    assert len(list((work / "models").iterdir())) == 1
    assert Switch(work, threads=1).step(store) is None, "a refused package is not tried again after a restart"


def test_the_last_good_model_serves_after_a_restart_without_any_store(package: Make, store: Path, work: Path) -> None:
    staged(package(), "1.0.1", store)
    Switch(work, threads=1).step(store)
    shutil.rmtree(store)
    again = Switch(work, threads=1)
    assert again.restore() == Event("restore", "1.0.1")
    assert again.current is not None and again.current.version == "1.0.1"


def test_a_damaged_last_good_model_gives_way_to_the_one_before(package: Make, store: Path, work: Path) -> None:
    held = Switch(work, threads=1)
    for number in (1, 2):
        name = staged(package(f"1.0.{number}", seed=number), f"1.0.{number}", store)
        held.step(store)
    flip(work / "models" / name)
    assert told(Switch(work, threads=1).restore()) == ("revert", "1.0.1", "crash")


def test_two_models_stay_on_disk(package: Make, store: Path, work: Path) -> None:
    held = Switch(work, threads=1)
    names = []
    for number in (1, 2, 3):
        names.append(staged(package(f"1.0.{number}", seed=number), f"1.0.{number}", store))
        assert held.step(store) == Event("swap", f"1.0.{number}")
    assert {path.name for path in (work / "models").iterdir()} == set(names[1:])


def test_going_back_to_an_earlier_version_is_a_swap_like_any_other(package: Make, store: Path, work: Path) -> None:
    held = Switch(work, threads=1)
    for number in (1, 2, 1):
        staged(package(f"1.0.{number}", seed=number), f"1.0.{number}", store)
        assert held.step(store) == Event("swap", f"1.0.{number}")


def test_the_serving_package_under_a_new_version_is_accepted_without_a_second_test(
    package: Make, store: Path, work: Path
) -> None:
    held = Switch(work, threads=1)
    source = package()
    staged(source, "1.0.1", store)
    held.step(store)
    staged(source, "1.0.9", store)
    assert held.step(store) is None
    verdict = read_json(work / "verdicts" / "1.0.9")
    assert verdict is not None and verdict["accepted"]
    assert held.current is not None and held.current.version == "1.0.9"


class Killed(BaseException):
    """Stands for SIGKILL: nothing below may handle it."""


@pytest.mark.parametrize("point", range(8))
def test_a_kill_at_any_point_of_a_swap_leaves_a_model_that_serves(
    package: Make, store: Path, work: Path, monkeypatch: pytest.MonkeyPatch, point: int
) -> None:
    held = Switch(work, threads=1)
    staged(package("1.0.1", seed=1), "1.0.1", store)
    held.step(store)
    second = package("1.0.2", seed=2)
    new = identity(second)
    staged(second, "1.0.2", store)
    steps = itertools.count()

    def dying(original: Callable[..., object]) -> Callable[..., object]:
        def stand_in(*given: object, **named: object) -> object:
            if next(steps) == point:
                raise Killed
            result = original(*given, **named)
            if next(steps) == point:
                raise Killed
            return result

        return stand_in

    with monkeypatch.context() as patch:
        for name in ("copy_folder", "identity", "write_json"):
            patch.setattr(switch, name, dying(getattr(switch, name)))
        with pytest.raises(Killed):
            held.step(store)
    again = Switch(work, threads=1)
    assert again.restore() is not None
    again.step(store)
    assert again.current is not None and again.current.identity == new
    verdict = read_json(work / "verdicts" / "1.0.2")
    assert verdict is not None and verdict["accepted"]


def test_under_load_no_answer_is_lost_or_belongs_to_another_model(
    package: Make, expected: Callable[[int], tuple[np.ndarray, np.ndarray]], store: Path, work: Path
) -> None:
    packages = {1: package("1.0.1", seed=1), 2: package("1.0.2", seed=2)}
    held = Switch(work, threads=1)
    staged(packages[1], "1.0.1", store)
    held.step(store)
    batch = expected(1)[0]
    wanted = {f"1.0.{seed}": expected(seed)[1] for seed in (1, 2)}
    stop, wrong, count = threading.Event(), [], itertools.count()

    def ask() -> None:
        while not stop.is_set():
            serving = held.current
            assert serving is not None
            got = serving.model.predict(batch).probabilities
            next(count)
            if not np.allclose(got, wanted[serving.version], atol=1e-4):
                wrong.append(serving.version)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        for number in range(20):
            seed = 2 - number % 2
            staged(packages[seed], f"1.0.{seed}", store)
            assert held.step(store) == Event("swap", f"1.0.{seed}")
    finally:
        stop.set()
        asking.join()
    assert wrong == [] and next(count) > 20
