"""Which requests run together: what waits, within the batch and the model's time, and none spoils another."""

from typing import Any

import numpy as np
import pytest
from asking import SHAPE, Net

from models.batching import Job, Live, Waiting, infer
from models.loop import Limits


def job(live: Live, samples: int, ready: float = 0.0) -> Job:
    return Job(None, live, "application/json", np.zeros((samples, *SHAPE), np.uint8), ready, ready)


def live(pace: float = 0.001, net: Any = None) -> Live:
    found = Live(net or Net(), 1)
    found.pace = pace
    return found


def taken(waiting: Waiting) -> list[int]:
    return [len(each.batch) for each in waiting.take()]


def test_what_waits_runs_together_up_to_the_batch() -> None:
    waiting, model = Waiting(8, 0.0, 50.0), live()
    for samples in (3, 3, 2, 1):
        waiting.add(job(model, samples))
    assert taken(waiting) == [3, 3, 2]
    assert taken(waiting) == [1]
    assert not waiting


def test_a_slow_model_gets_smaller_batches() -> None:
    waiting, model = Waiting(8, 0.0, 50.0), live(pace=20.0)
    for _ in range(4):
        waiting.add(job(model, 1))
    assert taken(waiting) == [1, 1]  # 20 ms a sample, 50 ms a batch
    model.pace = 100.0
    assert taken(waiting) == [1]  # slower than the budget allows: one at a time


def test_the_pace_follows_what_is_measured() -> None:
    model = live(pace=1.0)
    for _ in range(50):
        model.learn(30.0, 10)
    assert model.pace == pytest.approx(3.0, rel=0.01)


def test_a_request_larger_than_the_batch_runs_alone_and_in_parts() -> None:
    net = Net()
    waiting, model = Waiting(8, 0.0, 50.0), live(net=net)
    waiting.add(job(model, 20))
    waiting.add(job(model, 1))
    jobs = waiting.take()
    net.batches.clear()
    (answer,) = infer(jobs, 8)
    assert isinstance(answer, np.ndarray) and answer.shape == (20, 2)
    assert net.batches == [8, 8, 4]


def test_requests_for_two_models_never_run_together() -> None:
    waiting, old, new = Waiting(8, 0.0, 50.0), live(), live()
    for model in (old, new, old):
        waiting.add(job(model, 1))
    assert [taken(waiting) for _ in range(3)] == [[1], [1], [1]]


def test_a_free_model_waits_for_a_fuller_batch_as_long_as_it_was_told() -> None:
    waiting, model = Waiting(2, 10.0, 50.0), live()
    waiting.add(job(model, 1, ready=5.0))
    assert waiting.due() == pytest.approx(5.010)
    waiting.add(job(model, 1, ready=5.001))
    assert waiting.due() == 0.0


def test_a_request_that_the_model_cannot_answer_does_not_spoil_its_neighbours() -> None:
    class Picky(Net):
        def predict(self, batch: Any) -> Any:
            if (batch == 7).any():
                raise RuntimeError("seven")
            return super().predict(batch)

    model = live(net=Picky())
    good, bad = job(model, 2), job(model, 1)
    bad.batch[:] = 7
    first, second, third = infer([good, bad, good], 8)
    assert isinstance(second, RuntimeError)
    assert isinstance(first, np.ndarray) and isinstance(third, np.ndarray)


@pytest.mark.parametrize("wrong", [{"batch": 0}, {"queue": 0}, {"wait_ms": -1.0}, {"connections": 0}])
def test_limits_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="counts are at least 1"):
        Limits(**wrong)
