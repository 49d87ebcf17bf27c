"""E8, E10 and E14: a worker that hangs, samples that come too late, settings that change while it serves."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from component import Desk, eventually, png

from edge import inference
from edge.files import read_json
from edge.frames import Frame
from edge.inference import HUNG
from models.runtime import Model, Prediction

REPO = Path(__file__).parents[2]
Make = Callable[..., Path]
pytestmark = pytest.mark.slow


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
