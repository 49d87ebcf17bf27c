"""The device's drift index: of a full window, of the model that serves."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from edge.drift import WINDOW, Drift
from edge.switch import Serving
from models.runtime import Model


def test_a_shifted_stream_has_a_large_index_and_a_short_window_none(package: Callable[..., Path]) -> None:
    serving = Serving(Model.load(package(), threads=1), "1.0.1", "a")
    drift, random = Drift(), np.random.default_rng(3)
    dark = random.integers(0, 20, (WINDOW - 1, 1, 8, 8), np.uint8)
    drift.add(serving, dark)
    assert drift.take() is None
    drift.add(serving, dark[:1])
    index = drift.take()
    assert index is not None and index.psi > 1.0
    assert drift.take() is None, "the window starts anew"


def test_another_model_starts_another_window(package: Callable[..., Path]) -> None:
    model = Model.load(package(), threads=1)
    drift, dark = Drift(), np.zeros((WINDOW // 2 + 1, 1, 8, 8), np.uint8)
    drift.add(Serving(model, "1.0.1", "a"), dark)
    drift.add(Serving(model, "1.0.2", "b"), dark)
    assert drift.take() is None
