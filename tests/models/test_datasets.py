"""Data sets through the command line: what is written, what the manifest says, and every refusal in one line."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from models import datasets, features


def run(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    code = datasets.main(argv)
    said = capsys.readouterr()
    return code, said.out, said.err


def picture(path: Path, value: int = 100, side: int = 8) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((side, side), value, np.uint8)).save(path)


def bytes_below(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.png")}


def test_digits_are_written_with_their_manifest(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out, err = run(capsys, "digits", "--out", str(tmp_path / "raw"), "--count", "50")
    head = json.loads(out.splitlines()[-1])
    assert (code, err) == (0, "")
    assert head["files"] == 50
    assert head["classes"] == [str(n) for n in range(10)]
    assert (head["dataset"], head["modality"], head["task"]) == ("digits", "image", "classification")
    assert len(bytes_below(tmp_path / "raw")) == 50


def test_all_1797_digits_are_there_and_decode(tmp_path: Path) -> None:
    found = datasets.write("digits", tmp_path)
    assert len(found["files"]) == 1797
    assert found["pixels"] == 8
    scans = [features.decode((tmp_path / row["path"]).read_bytes(), (1, 8, 8)) for row in found["files"]]
    assert (min(scan.min() for scan in scans), max(scan.max() for scan in scans)) == (0, 255)


def test_the_manifest_describes_the_files(tmp_path: Path) -> None:
    found = datasets.write("surface-defects", tmp_path, count=12, pixels=16)
    assert json.loads((tmp_path / "_manifest.json").read_text("utf-8")) == found
    assert found["schema"] == 1
    assert found["classes"] == ["dent", "good", "scratch", "stain"]
    for row in found["files"]:
        data = (tmp_path / row["path"]).read_bytes()
        assert row["bytes"] == len(data)
        assert row["sha256"] == hashlib.sha256(data).hexdigest()
        assert row["label"] == row["path"].split("/")[0]


def test_the_digest_is_the_sha256_of_the_sorted_lines(tmp_path: Path) -> None:
    found = datasets.write("digits", tmp_path, count=20)
    lines = sorted(f"{row['path']} {row['sha256']} {row['label']}\n" for row in found["files"])
    assert found["digest"] == hashlib.sha256("".join(lines).encode()).hexdigest()


def test_the_digest_changes_with_one_byte_and_with_one_label(tmp_path: Path) -> None:
    for name in ("one", "byte", "label"):
        picture(tmp_path / name / "a" / "1.png")
        picture(tmp_path / name / "b" / "2.png", 7)
        picture(tmp_path / name / "b" / "3.png", 9)
    picture(tmp_path / "byte" / "b" / "3.png", 10)
    (tmp_path / "label" / "b" / "3.png").rename(tmp_path / "label" / "a" / "3.png")
    digests = {datasets.manifest(tmp_path / name, "x", "y")["digest"] for name in ("one", "byte", "label")}
    assert len(digests) == 3


def test_rendered_surfaces_are_the_same_for_the_same_seed_and_others_for_another(tmp_path: Path) -> None:
    for name, seed in (("one", 3), ("again", 3), ("other", 4)):
        datasets.write("surface-defects", tmp_path / name, count=8, pixels=24, seed=seed)
    one, again, other = (bytes_below(tmp_path / name) for name in ("one", "again", "other"))
    assert one == again
    assert one.keys() == other.keys()
    assert all(one[name] != other[name] for name in one)


def test_more_surfaces_begin_with_the_fewer(tmp_path: Path) -> None:
    datasets.write("surface-defects", tmp_path / "few", count=8, pixels=16)
    datasets.write("surface-defects", tmp_path / "more", count=16, pixels=16)
    few, more = bytes_below(tmp_path / "few"), bytes_below(tmp_path / "more")
    assert {name: more[name] for name in few} == few


def test_surfaces_have_the_side_and_the_count_that_were_asked_for(tmp_path: Path) -> None:
    found = datasets.write("surface-defects", tmp_path, count=10, pixels=40)
    assert len(found["files"]) == 10
    assert found["pixels"] == 40
    for row in found["files"]:
        with Image.open(tmp_path / row["path"]) as image:
            assert (image.size, image.mode) == ((40, 40), "L")


def test_no_side_means_the_own_side_of_the_set(tmp_path: Path) -> None:
    assert datasets.write("surface-defects", tmp_path, count=4, pixels=0)["pixels"] == 48


def test_a_folder_is_copied_as_it_is(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    source = tmp_path / "My parts (Übung) 2"
    picture(source / "gut – früh" / "Bild 1 ä.png")
    picture(source / "schlecht" / "deep er" / "日本.PNG", 9)
    (source / "schlecht" / "broken.jpg").write_bytes(b"no picture")
    (source / "schlecht" / "notes.txt").write_text("left out")
    (source / ".cache").mkdir()
    code, out, err = run(capsys, str(source), "--out", str(tmp_path / "raw"))
    head = json.loads(out)
    assert (code, err) == (0, "")
    assert head["dataset"] == "my-parts-bung-2"
    assert head["classes"] == ["gut – früh", "schlecht"]
    found = json.loads((tmp_path / "raw" / "_manifest.json").read_text("utf-8"))
    paths = {row["path"]: row["label"] for row in found["files"]}
    assert paths == {
        "gut – früh/Bild 1 ä.png": "gut – früh",
        "schlecht/broken.jpg": "schlecht",
        "schlecht/deep er/日本.PNG": "schlecht",
    }
    for path in paths:
        assert (tmp_path / "raw" / path).read_bytes() == (source / path).read_bytes()


def test_a_folder_whose_name_has_no_plain_letter_still_gets_a_name(tmp_path: Path) -> None:
    for label in "ab":
        picture(tmp_path / "写真" / label / "1.png")
    assert datasets.write(str(tmp_path / "写真"), tmp_path / "raw")["dataset"] == "data"


@pytest.mark.parametrize(("side", "wanted"), [(5, 8), (20, 24), (32, 32), (500, 64)])
def test_the_manifest_names_the_side_that_suits_the_pictures(tmp_path: Path, side: int, wanted: int) -> None:
    for label in "ab":
        picture(tmp_path / "parts" / label / "1.png", side=side)
    assert datasets.write(str(tmp_path / "parts"), tmp_path / "raw")["pixels"] == wanted


def test_the_built_in_sets_are_listed_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--list")
    assert code == 0
    assert set(json.loads(out)) == {"digits", "surface-defects", "breast-cancer", "turbofan-like"}


@pytest.mark.parametrize("argv", [[], ["digits"], ["--out", "somewhere"]])
def test_a_name_and_a_place_are_needed(capsys: pytest.CaptureFixture[str], argv: list[str]) -> None:
    code, _, err = run(capsys, *argv)
    assert (code, err.count("\n")) == (2, 1)


def arrange(kind: str, at: Path) -> None:
    match kind:
        case "file":
            at.write_text("x")
        case "empty":
            at.mkdir()
        case "pictures without classes":
            picture(at / "1.png")
        case "one class":
            picture(at / "good" / "1.png")
        case "an empty class":
            picture(at / "good" / "1.png")
            (at / "bad").mkdir()
        case "a class without pictures":
            picture(at / "good" / "1.png")
            (at / "bad").mkdir()
            (at / "bad" / "readme.txt").write_text("x")


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("nothing", "there is no data set, folder or file '{at}'; built in are digits, surface-defects"),
        ("file", "{at} is a file, and lab.toml does not say how to read it; try: lab adapt"),
        ("empty", "{at} has no sub-folder; one sub-folder per class is needed, and two classes at least"),
        ("pictures without classes", "{at} has no sub-folder; one sub-folder per class"),
        ("one class", "{at} has one sub-folder, good; one sub-folder per class is needed"),
        ("an empty class", "{at}/bad holds no picture (.bmp, .gif"),
        ("a class without pictures", "{at}/bad holds no picture (.bmp, .gif"),
    ],
)
def test_a_folder_that_is_no_data_set_is_refused_in_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, kind: str, message: str
) -> None:
    at = tmp_path / "my parts"
    arrange(kind, at)
    code, out, err = run(capsys, str(at), "--out", str(tmp_path / "raw"))
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.startswith(message.format(at=at))
    assert not (tmp_path / "raw").exists()


def test_a_data_set_is_not_written_over_another(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    datasets.write("digits", tmp_path, count=10)
    before = bytes_below(tmp_path)
    code, _, err = run(capsys, "surface-defects", "--out", str(tmp_path))
    assert (code, err.count("\n")) == (1, 1)
    assert "holds a data set already; give an empty folder" in err
    assert bytes_below(tmp_path) == before


def test_a_place_that_cannot_be_written_is_named_in_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "taken").write_text("a file")
    code, _, err = run(capsys, "digits", "--out", str(tmp_path / "taken" / "raw"), "--count", "3")
    assert (code, err.count("\n")) == (1, 1)
    assert "taken" in err


@pytest.mark.parametrize("option", [["--count", "0"], ["--count", "-3"], ["--pixels", "-1"], ["--pixels", "2"]])
@pytest.mark.parametrize("name", ["digits", "surface-defects"])
def test_a_count_or_side_that_makes_no_sense_is_refused_in_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str, option: list[str]
) -> None:
    code, out, err = run(capsys, name, "--out", str(tmp_path / "raw"), *option)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert option[0].removeprefix("--") in err
    assert not (tmp_path / "raw").exists()


def test_an_unreadable_picture_is_named_in_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for label in "ab":
        picture(tmp_path / "parts" / label / "1.png")

    def refuse(source: Path, target: Path) -> Any:
        raise PermissionError(13, "Permission denied", str(source))

    monkeypatch.setattr("shutil.copyfile", refuse)
    code, _, err = run(capsys, str(tmp_path / "parts"), "--out", str(tmp_path / "raw"))
    assert (code, err.count("\n")) == (1, 1)
    assert "Permission denied" in err
    assert "1.png" in err


def test_it_runs_as_a_module_and_exits_1_with_one_line(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "models.datasets", str(tmp_path / "nowhere"), "--out", str(tmp_path / "raw")]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "there is no data set, folder or file" in done.stderr


def test_a_folder_with_files_of_something_else_is_not_written_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "left.png").write_bytes(b"of an earlier try")
    assert datasets.main(["digits", "--out", str(tmp_path), "--count", "20"]) == 1
    assert "holds files already; give an empty folder" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["left.png"]


def test_a_copy_into_its_own_source_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.png").write_bytes(b"x")
    assert datasets.main([str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    assert "whose data it would become part of" in capsys.readouterr().err


def test_hidden_files_beside_pictures_are_none(tmp_path: Path) -> None:
    for name in ("a/1.png", "a/._1.png", "b/2.png", "b/.thumbnails/2.png"):
        path = tmp_path / "source" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    found = datasets.write(str(tmp_path / "source"), tmp_path / "out")
    assert [row["path"] for row in found["files"]] == ["a/1.png", "b/2.png"]


def test_classes_may_stand_in_a_label_file(tmp_path: Path) -> None:
    source = tmp_path / "parts"
    for number in range(4):
        picture(source / f"p{number}.png", number * 9)
    (source / "labels.csv").write_text("file;kind\nsome/where/p0.png;ok\np1.png;bad\np2.png;ok\n", "utf-8")
    settings = {"labels": "labels.csv", "target": "kind"}
    found = datasets.write(str(source), tmp_path / "raw", settings=settings)
    assert [(row["path"], row["label"]) for row in found["files"]] == [
        ("bad/p1.png", "bad"),
        ("ok/p0.png", "ok"),
        ("ok/p2.png", "ok"),
    ]
    with pytest.raises(datasets.DatasetError, match=r"labels\.csv has no column 'sort'; there are file, kind"):
        datasets.write(str(source), tmp_path / "again", settings={**settings, "target": "sort"})


@pytest.mark.parametrize(("good", "bad", "normal"), [(30, 4, "good"), (3, 30, "bad")])
def test_a_detector_learns_what_there_is_enough_of(tmp_path: Path, good: int, bad: int, normal: str) -> None:
    for label, count in (("good", good), ("bad", bad)):
        for number in range(count):
            picture(tmp_path / "parts" / label / f"{number}.png", number)
    found = datasets.write(str(tmp_path / "parts"), tmp_path / "raw", settings={"task": "anomaly"})
    assert (found["task"], found["normal"]) == ("anomaly", normal)
