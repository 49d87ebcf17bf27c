"""A column that is the target in disguise is caught and excluded with its evidence; honest ones stay."""

import contextlib
import io
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from adapted import Adapt, table
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.adapt import leaks
from models.adapt.__main__ import understood
from models.adapt.finding import EXCLUDED
from models.adapt.report import Options, Report

CLASSES = ["red", "green", "blue", "grey"]


@pytest.fixture
def adapt(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Adapt:
    return Adapt(tmp_path, capsys)


def looked_at(header: list[str], rows: list[list[Any]], target: str, task: str) -> Report:
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        return understood(table(Path(folder) / "data.csv", header, rows), Options(target=target, task=task))


def assert_caught(report: Report, name: str) -> None:
    assert name in report.data["exclude"]
    found = [one for one in report.findings if one.subject == name and one.level == EXCLUDED]
    assert found and found[0].kind == "leak" and any(letter.isdigit() for letter in found[0].evidence)


DISGUISES: dict[str, Callable[[float], Any]] = {
    "itself": lambda value: value,
    "cubed": lambda value: value**3,
    "shrunk": lambda value: float(np.arctan(value / 50)),
    "turned": lambda value: -2.5 * value + 7,
    "grown": lambda value: float(np.exp(value / 100)),
}


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**32 - 1), count=st.integers(12, 120), width=st.integers(1, 4), place=st.integers(0, 4),
    disguise=st.sampled_from(sorted(DISGUISES)), missing=st.booleans(),
)  # fmt: skip
def test_a_quantity_in_disguise_is_always_caught(
    seed: int, count: int, width: int, place: int, disguise: str, missing: bool
) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.normal(scale=30, size=count).round(3)
    columns: list[list[Any]] = [rng.normal(size=count).round(3).tolist() for _ in range(width)]
    hidden = [DISGUISES[disguise](float(value)) for value in truth]
    if missing:
        hidden[int(rng.integers(count))] = ""
    columns.insert(place, hidden)
    header = [f"f{number}" for number in range(width + 1)]
    name = header[min(place, width)]
    rows = [list(row) for row in zip(*columns, truth.tolist(), strict=True)]
    report = looked_at([*header, "amount"], rows, "amount", "regression")
    assert_caught(report, name)
    assert report.data["exclude"] == [name]


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1), count=st.integers(24, 120), kinds=st.integers(2, 4), words=st.booleans(),
    width=st.integers(1, 4), place=st.integers(0, 4),
)  # fmt: skip
def test_classes_under_other_names_are_always_caught(
    seed: int, count: int, kinds: int, words: bool, width: int, place: int
) -> None:
    rng = np.random.default_rng(seed)
    truth = np.concatenate([np.repeat(np.arange(kinds), 2), rng.integers(0, kinds, count - 2 * kinds)])
    columns: list[list[Any]] = [rng.normal(size=count).round(3).tolist() for _ in range(width)]
    names = rng.permutation(CLASSES if words else [3, 17, 40, 5])
    columns.insert(place, names[truth].tolist())
    header = [f"f{number}" for number in range(width + 1)]
    name = header[min(place, width)]
    rows = [[*row, f"class {label}"] for *row, label in zip(*columns, truth.tolist(), strict=True)]
    report = looked_at([*header, "kind"], rows, "kind", "classification")
    assert_caught(report, name)
    assert report.data["exclude"] == [name]


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(12, 150), noise=st.floats(0.0, 0.01))
def test_a_quantity_under_a_little_noise_is_always_caught(seed: int, count: int, noise: float) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=count)
    copy = -3 * truth + rng.normal(scale=3 * noise * truth.std(), size=count)
    rows = [[a, b, c] for a, b, c in zip(rng.normal(size=count), copy, truth, strict=True)]
    report = looked_at(["width", "copy", "amount"], rows, "amount", "regression")
    assert_caught(report, "copy")
    assert report.data["exclude"] == ["copy"]


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1), count=st.integers(60, 150), kinds=st.integers(2, 4), typed=st.booleans()
)  # fmt: skip
def test_classes_under_a_little_noise_are_always_caught(seed: int, count: int, kinds: int, typed: bool) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.permutation(np.arange(count) % kinds)
    copy: list[Any] = (truth + rng.normal(scale=0.08, size=count)).round(3).tolist()
    if typed:  # names in two ways of writing, each with variants
        copy = [f"{CLASSES[label]}{'' if rng.random() < 0.5 else '!'}" for label in truth]
    rows = [[a, b, f"class {label}"] for a, b, label in zip(rng.normal(size=count), copy, truth, strict=True)]
    report = looked_at(["width", "copy", "kind"], rows, "kind", "classification")
    assert_caught(report, "copy")
    assert report.data["exclude"] == ["copy"]


@settings(max_examples=12, deadline=None)
@given(
    name=st.sampled_from(["iris", "wine", "breast_cancer", "diabetes"]), place=st.integers(0, 4),
    disguise=st.sampled_from(sorted(DISGUISES)), seed=st.integers(0, 99),
)  # fmt: skip
def test_in_a_real_table_the_disguise_is_caught_and_nothing_else(
    name: str, place: int, disguise: str, seed: int
) -> None:
    from sklearn import datasets

    found = getattr(datasets, f"load_{name}")()
    names = [*map(str, found.feature_names)]
    hidden = np.array([DISGUISES[disguise](float(value)) for value in found.target])
    if name != "diabetes":  # codes in another order
        hidden = np.random.default_rng(seed).permutation(np.unique(hidden))[found.target]
    columns = [*found.data.T[:place], hidden, *found.data.T[place:]]
    header = [*names[:place], "code", *names[place:], "answer"]
    rows = [[*row, answer] for row, answer in zip(np.stack(columns, 1).tolist(), found.target.tolist(), strict=True)]
    report = looked_at(header, rows, "answer", "regression" if name == "diabetes" else "classification")
    assert_caught(report, "code")
    assert report.data["exclude"] == ["code"]


def test_a_score_that_separates_the_classes_alone_is_caught(adapt: Adapt, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 2, 300)
    rows = [[rng.normal(), label + rng.normal(scale=0.1), label] for label in truth]
    found = adapt(table(tmp_path / "a.csv", ["width", "score", "label"], rows))
    assert found.data["exclude"] == ["score"] and "AUC 1.0000 on a held-out half" in found.out


def test_a_value_that_is_there_for_one_class_only_is_caught(adapt: Adapt, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 2, 300)
    rows = [[rng.normal(), rng.integers(1, 300) if label else "", label] for label in truth]
    found = adapt(table(tmp_path / "a.csv", ["width", "days_in_repair", "label"], rows))
    assert found.data["exclude"] == ["days_in_repair"] and "leak" in found.out


def test_a_function_of_the_target_that_does_not_grow_is_caught() -> None:
    rng = np.random.default_rng(1)
    column = rng.uniform(-3, 3, 400)
    assert "a function of it" in leaks.follows(column, np.sin(column), shuffled=True)


def test_remaining_life_in_disguise_is_caught(adapt: Adapt, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    lives = rng.integers(40, 90, 12)
    rows = [
        [unit, cycle, rng.normal(), np.sqrt(life - cycle)] for unit, life in enumerate(lives) for cycle in range(life)
    ]
    found = adapt(table(tmp_path / "a.csv", ["unit", "cycle", "heat", "health"], rows))
    assert found.data["task"] == "rul" and found.data["exclude"] == ["health"]


@pytest.mark.parametrize("name", ["iris", "wine", "breast_cancer"])
def test_no_honest_column_of_a_real_table_is_called_a_leak(name: str) -> None:
    from sklearn import datasets

    found = getattr(datasets, f"load_{name}")()
    for place in range(found.data.shape[1]):
        assert not leaks.foretells(found.data[:, place], found.target.astype(float)), found.feature_names[place]


def test_a_strong_but_honest_measure_of_a_quantity_stays() -> None:
    rng = np.random.default_rng(1)
    truth = rng.normal(size=500)
    assert not leaks.follows(truth + rng.normal(scale=0.2, size=500), truth, shuffled=True)
