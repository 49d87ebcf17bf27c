"""Faithfulness: agreement, the loss with its paired interval, and what quantisation does to logits."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.contract import Contract, Target
from models.export.fidelity import Samples

Make = Callable[..., Contract]
RNG = np.random.default_rng(0)


def softmax(logits: np.ndarray) -> np.ndarray:
    raised = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(raised / raised.sum(1, keepdims=True), np.float32)


def classes(contract: Make, logits: np.ndarray, labels: np.ndarray | None = None) -> Samples:
    count = len(logits)
    truth = logits.argmax(1) if labels is None else labels
    return Samples(
        np.zeros((count, 1, 8, 8), np.uint8), truth, np.arange(count) < count // 2, softmax(logits), contract()
    )


def numbers(contract: Make, expected: np.ndarray, labels: np.ndarray) -> Samples:
    about: dict[str, Any] = {
        "modality": "image", "task": "classification", "classes": ("even", "odd"),
    }  # fmt: skip
    made = contract(**about)
    object.__setattr__(made, "task", "regression")
    object.__setattr__(made, "target", Target(name="price", mean=0.0, std=10.0))
    tensors = np.zeros((len(labels), 1, 8, 8), np.uint8)
    return Samples(tensors, labels, np.full(len(labels), True), expected.astype(np.float32)[:, None], made)


def test_an_artefact_that_answers_the_same_loses_nothing(contract: Make) -> None:
    samples = classes(contract, RNG.normal(0, 2, (200, 2)))
    found = samples.figures_of(samples.expected)
    assert found["agreement"] == 1.0 and found["max_abs_diff"] == 0.0
    assert found["metric_drop"] == found["metric_drop_low"] == found["metric_drop_high"] == 0.0
    assert (found["logit_slope"], found["logit_l2"]) == pytest.approx((1.0, 0.0))


def test_the_metric_is_of_the_test_split_and_agreement_of_all(contract: Make) -> None:
    samples = classes(contract, RNG.normal(0, 2, (200, 2)))
    answers = samples.expected.copy()
    answers[150:] = answers[150:, ::-1]  # the last quarter, which no test sample is in
    assert samples.metric_of(answers) == 1.0
    assert samples.agreement_of(answers) == 0.75


@given(share=st.floats(0.3, 0.95))
def test_shrunk_logits_show_as_a_slope_where_agreement_stays_whole(share: float) -> None:
    logits = np.random.default_rng(1).normal(0, 2, (100, 2))
    samples = classes(simple, logits)
    found = samples.figures_of(softmax(share * logits))
    assert found["agreement"] == 1.0
    assert found["logit_slope"] == pytest.approx(share, abs=0.02)
    assert found["logit_l2"] == pytest.approx(1 - share, abs=0.02)


def simple() -> Contract:
    return Contract(
        schema=2, dataset="d", modality="image", task="classification", shape=(1, 8, 8), classes=("even", "odd"),
        mean=(80.0,), std=(60.5,), counts={}, profile={},
    )  # fmt: skip


def test_the_interval_of_a_loss_is_paired_and_holds_it(contract: Make) -> None:
    samples = classes(contract, RNG.normal(0, 2, (800, 2)))
    answers = samples.expected.copy()
    answers[:40] = answers[:40, ::-1]  # a tenth of the test split
    low, high = samples.drop_interval(answers)
    assert samples.drop_of(answers) == pytest.approx(0.1)
    assert 0.05 < low < 0.1 < high < 0.15
    assert samples.drop_interval(answers) == (low, high), "the same draws each time"


def test_what_is_lost_here_and_won_there_is_no_loss(contract: Make) -> None:
    """Two models that err as often, on other samples: the interval holds zero."""
    logits = RNG.normal(0, 2, (400, 2))
    labels = logits.argmax(1)
    labels[:30] ^= 1
    samples = classes(contract, logits, labels)
    answers = samples.expected.copy()
    answers[15:45] = answers[15:45, ::-1]
    low, high = samples.drop_interval(answers)
    assert samples.drop_of(answers) == 0.0
    assert low < 0 < high


def test_numbers_agree_within_a_twentieth_of_a_deviation_and_lose_by_the_share_of_their_error(contract: Make) -> None:
    labels = RNG.normal(0, 10, 300)
    samples = numbers(contract, labels + RNG.normal(0, 1, 300), labels)
    near = samples.expected + 0.49
    assert samples.agreement_of(near) == 1.0
    assert samples.agreement_of(samples.expected + 0.51) == 0.0
    worse = labels.astype(np.float32)[:, None] + 2 * (samples.expected - labels.astype(np.float32)[:, None])
    assert samples.drop_of(worse) == pytest.approx(1.0, abs=1e-3), "twice the error is a growth of one"
    low, high = samples.drop_interval(worse)
    assert low == pytest.approx(1.0, abs=1e-3) and high == pytest.approx(1.0, abs=1e-3)
