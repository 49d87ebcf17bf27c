"""Curated data read back: ordered, typed, and refused when a part is not whole."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from models import curated as reader
from models import features
from models.contract import Contract


@pytest.fixture
def broken(curated: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(curated, tmp_path / "curated"))


def test_a_split_is_read_as_arrays_ordered_by_sample_id(curated: Path) -> None:
    pixels, labels, sources = reader.read(curated, "train")
    assert pixels.shape == (len(labels), 1, 16, 16)
    assert (pixels.dtype, labels.dtype) == (np.uint8, np.int64)
    names = [features.sample_id(picture) for picture in pixels]
    assert names == sorted(names)
    assert all(Path(source).suffix == ".png" for source in sources)


def test_every_sample_is_where_its_content_says_and_has_its_folders_label(curated: Path) -> None:
    contract = Contract.load(curated / "contract.json")
    for split in ("train", "validation", "test"):
        pixels, labels, sources = reader.read(curated, split)
        assert {features.split_of(features.sample_id(picture), 17) for picture in pixels} == {split}
        assert [contract.classes[label] for label in labels] == [source.split("/")[0] for source in sources]


def test_no_content_is_in_two_splits(curated: Path) -> None:
    seen = [
        {features.sample_id(picture) for picture in reader.read(curated, split)[0]}
        for split in ("train", "validation", "test")
    ]
    assert sum(map(len, seen)) == len(set.union(*seen))


def test_the_order_does_not_depend_on_the_parts(curated: Path, broken: Path) -> None:
    parts = sorted((broken / "train").glob("*.parquet"))
    parts[0].rename(broken / "train" / "part-9.parquet")
    first, again = reader.read(curated, "train"), reader.read(broken, "train")
    np.testing.assert_array_equal(first[0], again[0])
    assert first[2] == again[2]


def test_a_split_without_parts_is_named(broken: Path) -> None:
    shutil.rmtree(broken / "test")
    with pytest.raises(reader.CuratedError, match="test holds no sample"):
        reader.read(broken, "test")


def test_tensors_of_another_shape_are_refused(broken: Path) -> None:
    document = Contract.load(broken / "contract.json").document() | {"shape": [1, 16, 20]}
    (broken / "contract.json").write_text(json.dumps(document))
    with pytest.raises(reader.CuratedError, match=r"tensors are not all of shape \[1, 16, 20\]"):
        reader.read(broken, "train")
