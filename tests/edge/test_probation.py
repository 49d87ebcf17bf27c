"""The first answers of a model decide whether it stays."""

from typing import Any

from edge.probation import ENOUGH, Probation


def on_probation(**changed: Any) -> Probation:
    named: dict[str, Any] = {"seconds": 60.0, "answers": 100, "errors_percent": 5.0, "budget_ms": 10.0, **changed}
    return Probation("a", **named)


def test_it_passes_after_so_many_answers() -> None:
    probation = on_probation()
    for _ in range(99):
        probation.add("a", 1.0)
    assert probation.verdict() is None
    probation.add("a", 1.0)
    assert probation.verdict() == (True, "", "")


def test_it_passes_after_so_long_whatever_it_saw() -> None:
    now = [0.0]
    probation = on_probation(clock=lambda: now[0])
    assert probation.verdict() is None
    now[0] = 60.0
    assert probation.verdict() == (True, "", "")


def test_too_many_errors_fail_it_and_few_answers_say_nothing() -> None:
    probation = on_probation()
    for _ in range(ENOUGH - 1):
        probation.add("a", None)
    assert probation.verdict() is None
    probation.add("a", None)
    assert probation.verdict() == (False, "errors", f"{ENOUGH} of {ENOUGH} answers failed, 5 % may")


def test_errors_within_the_share_are_forgiven() -> None:
    probation = on_probation()
    for number in range(100):
        probation.add("a", None if number % 25 == 0 else 1.0)
    assert probation.verdict() == (True, "", "")


def test_answers_slower_than_the_budget_fail_it() -> None:
    probation = on_probation()
    for number in range(ENOUGH):
        probation.add("a", 1.0 if number % 5 else 40.0)
    assert probation.verdict() == (False, "slow", "95 % of answers take up to 40.0 ms, the budget is 10 ms")


def test_answers_of_another_model_do_not_count() -> None:
    probation = on_probation(answers=1)
    probation.add("b", None)
    assert probation.verdict() is None
