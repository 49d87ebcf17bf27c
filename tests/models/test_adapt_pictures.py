"""What adapt makes of folders of pictures: classes by folder or label file, patches by boxes, or the wrong tool."""

from pathlib import Path

import pytest
from adapted import Adapt, folders, picture, table


@pytest.fixture
def adapt(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Adapt:
    return Adapt(tmp_path, capsys)


def test_folders_are_classes(adapt: Adapt, tmp_path: Path) -> None:
    found = adapt(folders(tmp_path / "Teile 2024", dent=25, scratch=30))
    assert found.rc == 0 and "dent 25, scratch 30" in found.out and "guessed" not in found.out
    assert found.data == {
        "dataset": "teile-2024", "path": str(tmp_path / "Teile 2024"), "modality": "image", "task": "classification",
    }  # fmt: skip


@pytest.mark.parametrize(("good", "bad"), [(60, 5), (5, 60)])
def test_few_of_one_class_is_anomaly_detection_and_says_why(adapt: Adapt, tmp_path: Path, good: int, bad: int) -> None:
    found = adapt(folders(tmp_path / "parts", good=good, bad=bad))
    assert found.data["task"] == "anomaly" and "a classifier cannot learn from so few" in found.out
    assert "--task classification" in found.out and found.toml["gate"]["auroc"] == 0.7


def test_boxes_allow_patches_where_a_classifier_of_pictures_could_not_learn(adapt: Adapt, tmp_path: Path) -> None:
    root = folders(tmp_path / "tags", good=5)
    rows = []
    for number in range(40):
        picture(root / "bad" / f"b{number}.png", 500 + number, side=64)
        boxes = [{"class_id": 0, "top": 10, "left": 12, "height": 18, "width": 21}]
        rows.append([f"s3://bucket/x/b{number}.png", repr(boxes)])
    table(root / "labels.csv", ["source", "annotations"], rows)
    (root / "LICENSE").write_text("MIT")
    found = adapt(root)
    assert (found.data["task"], found.data["labels"], found.data["patch"]) == ("classification", "labels.csv", 24)
    assert "object 40, background 80" in found.out and "5 'good': too few" in found.out


def test_a_box_that_is_none_is_named_by_its_line(adapt: Adapt, tmp_path: Path) -> None:
    root = folders(tmp_path / "tags", good=5, bad=5)
    rows = [[f"bad-{number:03}.png", '[{"top": 1, "left": 1, "height": 8, "width": 8}]'] for number in range(5)]
    rows[3][1] = "[{'top': 1}]"
    said = adapt.refused(_labelled(root, ["file", "boxes"], rows))
    assert "labels.csv, line 5, column 'boxes'" in said


def test_a_label_file_gives_classes_to_a_flat_folder(adapt: Adapt, tmp_path: Path) -> None:
    root = tmp_path / "flat"
    rows = [[picture(root / f"p{number}.png", number).name, number, "ab"[number % 2]] for number in range(50)]
    found = adapt(_labelled(root, ["file", "serial", "label"], rows))
    assert found.data["labels"] == "labels.csv" and found.data["target"] == "label" and "a 25, b 25" in found.out


def test_a_label_column_that_does_not_exist_suggests_the_nearest(adapt: Adapt, tmp_path: Path) -> None:
    rows = [[picture(tmp_path / "flat" / f"p{n}.png", n).name, "ab"[n % 2]] for n in range(50)]
    said = adapt.refused(_labelled(tmp_path / "flat", ["file", "label"], rows), "--target", "lable")
    assert "labels.csv has no column 'lable'" in said and "'label'" in said


def test_a_label_file_of_other_pictures_is_refused(adapt: Adapt, tmp_path: Path) -> None:
    rows = [[f"other{n}.png", "ab"[n % 2]] for n in range(50)]
    picture(tmp_path / "flat" / "p.png")
    assert "50 of 50 pictures that are not in the folder" in adapt.refused(
        _labelled(tmp_path / "flat", ["file", "label"], rows)
    )


def test_folders_that_nobody_judged_and_empty_ones_are_no_classes(adapt: Adapt, tmp_path: Path) -> None:
    root = folders(tmp_path / "parts", good=30, bad=30, samples=4)
    (root / "empty").mkdir()
    found = adapt(root)
    assert found.data["exclude"] == ["samples", "empty"] and "bad 30, good 30" in found.out


def test_copies_look_alikes_and_pictures_in_two_classes_are_found(adapt: Adapt, tmp_path: Path) -> None:
    root = folders(tmp_path / "parts", good=30, bad=30)
    (root / "bad" / "again.png").write_bytes((root / "good" / "good-003.png").read_bytes())
    from PIL import Image

    with Image.open(root / "bad" / "bad-007.png") as opened:
        opened.point(lambda value: min(255, value + 2)).save(root / "bad" / "brighter.png")
    found = adapt(root)
    assert "1 are copies of another one" in found.out and "1 pictures stand in two classes" in found.out
    assert "near-duplicates: pictures: 1 look like another one" in found.out


def test_given_parts_are_told_from_classes(adapt: Adapt, tmp_path: Path) -> None:
    folders(tmp_path / "set" / "train", good=30, bad=30)
    folders(tmp_path / "set" / "test", good=5, bad=5)
    found = adapt(tmp_path / "set")
    assert found.data["path"] == str(tmp_path / "set" / "train") and "bad 30, good 30" in found.out


def test_the_data_card_holds_its_pictures(adapt: Adapt, tmp_path: Path) -> None:
    adapt(folders(tmp_path / "parts", good=30, bad=30))
    assert (tmp_path / "data-card.html").read_text().count("data:image/jpeg;base64,") == 12


def _labelled(root: Path, header: list[str], rows: list[list[object]]) -> Path:
    table(root / "labels.csv", header, rows)
    return root
