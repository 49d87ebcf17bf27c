"""Patches from pictures whose defects are marked by boxes."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models import datasets, patches
from models.datafiles import DatasetError


@pytest.fixture
def marked(tmp_path: Path) -> Path:
    """Four dark pictures with one bright square each, marked, and a good one without a mark."""
    folder = tmp_path / "tags"
    (folder / "bad").mkdir(parents=True)
    (folder / "good").mkdir()
    lines = ["source_ref,annotations"]
    for number in range(4):
        plane = np.zeros((100, 140), np.uint8)
        plane[40:60, 20 + number : 40 + number] = 255
        Image.fromarray(plane).save(folder / "bad" / f"p{number}.png")
        box = json.dumps([{"top": 40, "left": 20 + number, "height": 20, "width": 20}]).replace('"', "'")
        lines.append(f'bucket/some/where/p{number}.png,"{box}"')
    Image.fromarray(np.zeros((100, 140), np.uint8)).save(folder / "good" / "g.png")
    Image.fromarray(np.zeros((100, 140), np.uint8)).save(folder / "bad" / "never-marked.png")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n", "utf-8")
    return folder


def test_objects_are_what_the_boxes_hold_and_background_is_elsewhere(marked: Path, tmp_path: Path) -> None:
    found = datasets.write(str(marked), tmp_path / "out", settings={"labels": "labels.csv", "patch": 24})
    assert found["classes"] == ["background", "object"]
    for row in found["files"]:
        pixels = np.asarray(Image.open(tmp_path / "out" / row["path"]))
        assert pixels.shape == (24, 24)
        assert (pixels == 255).sum() == (400 if row["label"] == "object" else pytest.approx(0, abs=20))


def test_a_picture_that_no_one_looked_at_gives_nothing(marked: Path, tmp_path: Path) -> None:
    found = datasets.write(str(marked), tmp_path / "out", settings={"labels": "labels.csv"})
    heads = {Path(row["path"]).name.split(patches.SEPARATOR)[0] for row in found["files"]}
    assert heads == {"p0", "p1", "p2", "p3", "g"}
    assert found["grouped"] is True


def test_the_same_seed_cuts_the_same_patches(marked: Path, tmp_path: Path) -> None:
    one = datasets.write(str(marked), tmp_path / "one", settings={"labels": "labels.csv"})
    two = datasets.write(str(marked), tmp_path / "two", settings={"labels": "labels.csv"})
    assert one["digest"] == two["digest"]


def test_a_line_without_boxes_is_named(marked: Path, tmp_path: Path) -> None:
    with (marked / "labels.csv").open("a") as stream:
        stream.write("p9.png,none\n")
    with pytest.raises(DatasetError, match=r"labels.csv, line 6: one cell names a picture and one holds its boxes"):
        datasets.write(str(marked), tmp_path / "out", settings={"labels": "labels.csv"})


@pytest.mark.parametrize("cell", ["[]", '[{"top": 1, "left": 2, "height": 3, "width": 4}]'])
def test_boxes_are_read_from_json_too(cell: str) -> None:
    assert patches.parsed(cell) in ([], [(1, 2, 3, 4)])


def test_other_cells_hold_no_boxes() -> None:
    assert patches.parsed("image.png") is None
    assert patches.parsed("[1, 2]") is None
    assert patches.parsed("[__import__('os')]") is None
