"""Calibration: quantisers see training samples and no others, whoever tries."""

import ast
import shutil
from pathlib import Path

import numpy as np
import pytest

from models import curated as reader
from models.contract import Contract
from models.curated import CuratedError
from models.export.calibration import COUNT, Calibration
from models.export.exporter import Source
from models.net import Answer, build

ROOT = Path(__file__).parents[2]
EXPORT = ROOT / "models" / "export"


def rows(tensors: np.ndarray) -> set[bytes]:
    return {tensor.tobytes() for tensor in tensors}


@pytest.mark.parametrize("name", ["curated", "table", "prices", "engines"])
def test_every_sample_is_of_the_training_split_and_none_of_another(name: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(name)
    found = Calibration(folder)
    assert 0 < len(found) == len(found.tensors) == len(found.labels) <= COUNT
    assert rows(found.tensors) <= rows(reader.read(folder, "train")[0])
    for split in ("test", "validation"):
        assert not rows(found.tensors) & rows(reader.read(folder, split)[0])


def test_there_is_no_way_to_name_a_split_or_to_hand_in_samples(curated: Path) -> None:
    tests = reader.read(curated, "test")[0]
    for given in ((curated, "test"), (curated, tests)):
        with pytest.raises(TypeError):
            Calibration(*given)  # type: ignore[call-arg]
    for named in ({"split": "test"}, {"tensors": tests}):
        with pytest.raises(TypeError):
            Calibration(curated, **named)  # type: ignore[call-arg]
    with pytest.raises((TypeError, CuratedError)):
        Calibration(tests)  # type: ignore[arg-type]


def test_a_folder_that_holds_test_samples_alone_gives_no_set(curated: Path, tmp_path: Path) -> None:
    shutil.copy(curated / "contract.json", tmp_path)
    shutil.copytree(curated / "test", tmp_path / "test")
    with pytest.raises(CuratedError, match="holds no sample"):
        Calibration(tmp_path)


@pytest.mark.parametrize("split", ["test", "validation"])
def test_a_training_split_that_holds_held_out_samples_is_refused(curated: Path, tmp_path: Path, split: str) -> None:
    folder = Path(shutil.copytree(curated, tmp_path / "curated"))
    shutil.copy(folder / split / "part-0.parquet", folder / "train" / "part-9.parquet")
    with pytest.raises(CuratedError, match=f"holds samples of {split}; nothing is calibrated on those"):
        Calibration(folder)


def test_test_samples_cannot_be_put_in_afterwards(curated: Path) -> None:
    found, tests = Calibration(curated), reader.read(curated, "test")[0]
    with pytest.raises(ValueError, match="read-only"):
        found.tensors[:1] = tests[:1]
    with pytest.raises(ValueError, match="read-only"):
        found.labels[:1] = 0
    with pytest.raises(AttributeError):
        found.tensors = tests  # type: ignore[misc]


def test_an_exporter_is_given_a_calibration_and_nothing_that_looks_like_one(curated: Path) -> None:
    class Other:
        tensors, labels, _ = reader.read(curated, "test")

    contract = Contract.load(curated / "contract.json")
    net = build(contract, "tiny")
    for other in (Other(), Other.tensors, None):
        with pytest.raises(TypeError, match="training split"):
            Source(net, Answer(net, contract), contract, other)  # type: ignore[arg-type]


def test_no_exporter_reads_curated_data_by_itself() -> None:
    """What makes artefacts knows one source of samples; the release alone reads the splits that it measures on."""
    for path in sorted(EXPORT.glob("*.py")):
        tree = ast.parse(path.read_text("utf-8"))
        names = {
            f"{getattr(node, 'module', '')}.{alias.name}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in node.names
        }
        if any("curated" in name for name in names):
            assert path.stem in ("calibration", "release"), path.name


def test_samples_are_spread_over_classes_and_over_the_range_of_a_target(curated: Path, prices: Path) -> None:
    few, many = np.unique(Calibration(curated).labels, return_counts=True)[1], Calibration(prices).labels
    whole = reader.read(prices, "train")[1]
    assert few.min() > 0
    assert np.quantile(many, 0.9) == pytest.approx(np.quantile(whole, 0.9), rel=0.1)


def test_the_same_folder_gives_the_same_samples(digits: Path) -> None:
    one, two = Calibration(digits), Calibration.load(digits)
    np.testing.assert_array_equal(one.tensors, two.tensors)
    assert one.tensors.dtype == np.uint8
