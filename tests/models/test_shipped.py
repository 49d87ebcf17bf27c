"""A baseline as a net answers as scikit-learn or numpy does, before and after it is saved, loaded and exported."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file

from models import baseline, net, shipped
from models import curated as reader
from models.contract import ANOMALY, Column, Contract, Target
from models.export import onnx
from models.fitted import Fitted, Unshippable, constant

Make = Callable[..., Contract]
Splits = list[tuple[np.ndarray, np.ndarray]]
CODES = tuple("abcdefghijkl")


def read(data: Path) -> tuple[Contract, Splits]:
    splits = [reader.read(data, split)[:2] for split in ("train", "validation", "test")]
    return Contract.load(data / "contract.json"), splits


def same(contract: Contract, found: np.ndarray, wanted: np.ndarray) -> None:
    assert found.shape == wanted.shape
    if contract.target is not None:
        # A float32 far from the target's values has steps larger than the tolerance.
        assert (np.abs(found - wanted) <= 1e-3 * contract.target.std + 1e-6 * np.abs(wanted)).all()
        return
    assert np.abs(found - wanted).max() <= 1e-4
    assert (found.argmax(1) == wanted.argmax(1)).mean() >= 0.999


def exported(made: shipped.Baseline, contract: Contract, path: Path) -> onnxruntime.InferenceSession:
    onnx.write(net.Answer(made, contract), contract, path)
    return onnxruntime.InferenceSession(path)


def strange(contract: Contract, tensors: np.ndarray) -> np.ndarray:
    """What no split has: nothing there, categories that training never saw, values far out."""
    if contract.modality == "image":
        return np.stack([np.full_like(tensors[0], value) for value in (0, 255)])
    rows = [np.full_like(tensors[0], np.nan), tensors[0] * 1000, -tensors[1]]
    for row in rows[1:]:
        for place, column in enumerate(contract.columns):
            if column.values is not None:
                row[..., place] = len(column.values) - 1
    return np.concatenate([np.stack(rows), tensors[:5]])


def proved(contract: Contract, splits: Splits, folder: Path, *, graph: bool = True) -> dict[str, shipped.Baseline]:
    """Every baseline of the contract, compared as a net, loaded again and as ONNX."""
    made = {}
    for name, fitted in baseline.fit(contract, splits[0], splits[1]).items():
        built = shipped.build(contract, name, fitted)
        net.save(built, contract, "", folder / name)
        loaded, known = net.load(folder / name)
        assert known == contract
        session = exported(built, contract, folder / f"{name}.onnx") if graph else None
        for tensors in (splits[2][0], strange(contract, splits[2][0])):
            wanted = fitted(tensors)
            same(contract, net.answers(built, tensors), wanted)
            np.testing.assert_array_equal(net.answers(loaded, tensors), net.answers(built, tensors))
            for count in (1, 3, len(tensors)) if session else ():
                same(contract, session.run(None, {onnx.INPUT: tensors[:count]})[0], wanted[:count])
        made[name] = built
    return made


def sparse_rows(count: int, seed: int, width: int = len(CODES)) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of very different size, a rare gap, two categories of which one is often missing; a hidden class."""
    rng = np.random.default_rng(seed)
    code, flag = rng.integers(0, width, count), rng.integers(0, 2, count)
    rows = np.stack(
        [rng.normal(1e6, 1e4, count), rng.exponential(1e-3, count), code, flag, np.round(rng.normal(0, 2, count))], 1
    )
    signal = np.isin(code, (1, 4, 5, 9)) * 2 + (rows[:, 4] > 0.5) - (rows[:, 1] > 1e-3) * flag
    labels = np.clip(signal + rng.normal(0, 0.3, count).round(), 0, 2).astype(np.int64)
    rows[rng.random(count) < 0.3, 2] = np.nan
    rows[rng.random(rows.shape[0]) < 0.05, 1] = np.nan
    rows[rng.random(rows.shape[0]) < 0.05, 4] = np.nan
    return rows.astype(np.float32), labels


def mixed(contract: Make, **other: object) -> Contract:
    names = ("large", "small", "code", "flag", "step")
    values = {"code": CODES, "flag": ("n", "y")}
    given = {
        "modality": "tabular", "shape": (5,), "classes": ("no", "maybe", "yes"),
        "mean": (1e6, 1e-3, 0.0, 0.0, 0.0), "std": (1e4, 1e-3, 1.0, 1.0, 2.0),
        "columns": tuple(Column(name=name, values=values.get(name)) for name in names),
    }  # fmt: skip
    return contract(**given | other)


@pytest.mark.parametrize("name", ["table", "prices", "engines", "machine", "curated"])
def test_every_baseline_answers_the_same_as_a_net(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    contract, splits = read(request.getfixturevalue(name))
    proved(contract, splits, tmp_path, graph=False)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["table", "prices", "engines", "machine", "curated"])
def test_every_baseline_answers_the_same_as_onnx(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    contract, splits = read(request.getfixturevalue(name))
    proved(contract, splits, tmp_path)


@pytest.mark.slow
def test_gaps_sizes_and_categories_that_training_never_saw_take_the_same_way(contract: Make, tmp_path: Path) -> None:
    splits = [sparse_rows(1500, 0, 9), sparse_rows(300, 1, 9), sparse_rows(600, 2)]
    made = proved(mixed(contract), splits, tmp_path)
    assert made["gradient_boosting"].part("lookup") is not None
    assert made["gradient_boosting"].part("places") is not None


@pytest.mark.slow
def test_numbers_of_mixed_columns_are_the_same(contract: Make, tmp_path: Path) -> None:
    splits = [(rows, 5000.0 + 300.0 * labels) for rows, labels in (sparse_rows(800, seed) for seed in range(3))]
    target = Target(name="price", mean=5200.0, std=250.0)
    proved(mixed(contract, task="regression", classes=(), target=target), splits, tmp_path)


@pytest.mark.slow
def test_windows_with_gaps_and_a_category_are_the_same(contract: Make, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    splits = []
    for count in (400, 150, 200):
        windows = rng.normal(500, 10, (count, 8, 4)).cumsum(1).astype(np.float32)
        windows[:, :, 1] = 518.67  # a sensor that never moves
        windows[:, :, 2] = rng.integers(0, 3, (count, 8))
        labels = (windows[:, -1, 0] - windows[:, 0, 0] + 20 * windows[:, -1, 2]).astype(np.float64)
        windows[rng.random(windows.shape) < 0.15] = np.nan
        splits.append((windows, labels))
    mean, std = float(splits[0][1].mean()), float(splits[0][1].std())
    given = contract(
        modality="timeseries", task="regression", shape=(8, 4), classes=(), mean=(2e3, 518.0, 0.0, 2e3),
        std=(1e3, 1.0, 1.0, 1e3), target=Target(name="a", mean=mean, std=std),
        columns=tuple(Column(name=name, values=("x", "y", "z") if name == "c" else None) for name in "abcd"),
    )  # fmt: skip
    assert set(proved(given, splits, tmp_path)) == {"mean", "last_value", "ridge", "gradient_boosting"}


def test_a_life_less_its_age_is_the_same(contract: Make, tmp_path: Path) -> None:
    ages = np.tile(np.arange(20.0), 3)
    windows = np.zeros((60, 4, 2), np.float32)
    windows[:, -1, 0] = ages
    windows[7] = np.nan
    given = contract(
        modality="timeseries", task="rul", shape=(4, 2), classes=(), mean=(0.0, 0.0), std=(1.0, 1.0), time="cycle",
        columns=(Column(name="cycle"), Column(name="heat")), target=Target(name="rul", mean=9.5, std=5.8, cap=12.0),
    )  # fmt: skip
    made = proved(given, [(windows, np.minimum(19 - ages, 12.0))] * 3, tmp_path, graph=False)
    assert made["mean_life"].about["form"] == "last"


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 50, 33), (1, 3, 60)])
def test_pictures_of_every_shape_are_averaged_the_same(contract: Make, shape: tuple[int, ...], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(90) % 3
    pixels = (rng.integers(0, 100, (90, *shape)) + 50 * labels[:, None, None, None]).astype(np.uint8)
    splits = [
        (pixels[i::3], labels[i::3][rng.permutation(30)] if i else labels[i::3] * 0 + np.arange(30) % 2)
        for i in range(3)
    ]
    width = shape[0]
    proved(contract(shape=shape, mean=(1.0,) * width, std=(1.0,) * width, classes=("a", "b", "c")), splits, tmp_path)


@pytest.mark.slow
def test_a_picture_far_from_the_mean_is_as_far_as_a_net(contract: Make, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(100, 110, (60, 1, 8, 8)).astype(np.uint8)
    labels = (np.arange(60) % 6 == 0).astype(np.int64)
    pixels[labels == 1, 0, 2:4, 2:4] = 200
    normal = (pixels[labels == 0][:30], np.zeros(30, np.int64))
    made = proved(contract(task="anomaly", classes=ANOMALY), [normal, (pixels, labels), (pixels, labels)], tmp_path)
    assert set(made) == {"mean_image"}


def test_a_training_split_of_one_class_makes_constants(contract: Make, tmp_path: Path) -> None:
    rows, labels = sparse_rows(60, 0)
    made = proved(mixed(contract), [(rows, labels * 0 + 1)] * 3, tmp_path, graph=False)
    assert {net.about["form"] for net in made.values()} == {"constant"}


def test_values_on_a_threshold_fall_on_its_left_as_in_scikit_learn(contract: Make) -> None:
    values = np.linspace(0, 1, 64, dtype=np.float32)
    rows = np.repeat(values, 4)[:, None]
    labels = (rows[:, 0] > 0.5).astype(np.int64)
    given = contract(modality="tabular", shape=(1,), mean=(0.5,), std=(0.3,), columns=(Column(name="x"),))
    fitted = baseline.fit(given, (rows, labels), (rows, labels))["gradient_boosting"]
    made = shipped.build(given, "gradient_boosting", fitted)
    cuts = made.get_buffer("threshold").numpy()
    cuts = cuts[np.isfinite(cuts)]
    near = np.concatenate([cuts, np.nextafter(cuts, np.float32(np.inf)), np.nextafter(cuts, np.float32(-np.inf))])
    np.testing.assert_allclose(net.answers(made, near[:, None]), fitted(near[:, None]), atol=1e-6)


def test_a_folder_holds_tensors_and_json_and_names_the_kind(contract: Make, tmp_path: Path) -> None:
    rows, labels = sparse_rows(200, 0)
    fitted = baseline.fit(mixed(contract), (rows, labels), (rows, labels))["gradient_boosting"]
    net.save(shipped.build(mixed(contract), "gradient_boosting", fitted), mixed(contract), "", tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["contract.json", "model.json", "model.safetensors"]
    about = json.loads((tmp_path / "model.json").read_text("utf-8"))
    assert (about["schema"], about["net"], about["kind"], about["form"]) == (
        1,
        "Baseline",
        "gradient_boosting",
        "trees",
    )
    assert all(isinstance(value, torch.Tensor) for value in load_file(tmp_path / "model.safetensors").values())


def test_what_no_net_computes_is_refused_by_name(contract: Make) -> None:
    fitted = Fitted(lambda tensors: np.zeros((len(tensors), 2)), "nearest", dict)
    with pytest.raises(Unshippable, match="no net computes the form 'nearest'"):
        shipped.build(contract(), "nearest_neighbour", fitted)
    with pytest.raises(ValueError, match="form is 'nearest'; known are constant"):
        shipped.Baseline(contract(), "x", {"form": "nearest"}, {})
    assert shipped.build(contract(), "x", constant(np.array([0.25, 0.75]))).kind == "x"
