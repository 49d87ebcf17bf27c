"""The labelling queue at a person's desk: fetched with its samples, taken back into the raw data set."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from lab import label
from lab.engine import Engine
from lab.errors import DataError, LabError
from lab.home import Home
from lab.stack import Stack

REPO = Path(__file__).parents[2]
MANIFEST: dict[str, Any] = {
    "schema": 1, "dataset": "parts", "modality": "image", "task": "classification", "source": "parts",
    "classes": ["bad", "good"], "pixels": 32, "digest": "old",
    "files": [{"path": "good/1.png", "bytes": 3, "sha256": "a" * 64, "label": "good"}],
}  # fmt: skip
ROW = "a/2026-03-01/x.png,good,0.41,uncertain,a,"


@pytest.fixture
def stack(desk: Engine) -> Stack:
    """A stack whose bucket has a raw data set and a queue of another data set than the stack's own."""
    s3 = desk.client("s3")
    s3.create_bucket(Bucket="lake")
    desk.client("sagemaker").create_model_package_group(ModelPackageGroupName="models")
    queue = f"file,predicted,confidence,why,thing,label\r\n{ROW}\r\n"
    for key, body in {
        "raw/parts/_manifest.json": json.dumps(MANIFEST),
        "raw/parts-device/labels.csv": queue,
        "raw/parts-device/a/2026-03-01/x.png": "picture",
    }.items():
        s3.put_object(Bucket="lake", Key=key, Body=body.encode())
    outputs = {"DataBucket": "lake", "ModelPackageGroup": "models"}
    return Stack(desk, "lab-dev", outputs, {"data": {"dataset": "digits"}})


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(REPO, tmp_path / "home", REPO / "lab.toml")


def fill(folder: Path, label: str) -> Path:
    path = folder / "labels.csv"
    path.write_text(path.read_text().replace(ROW, ROW + label))
    return path


def test_the_queue_comes_with_its_samples_and_a_page_that_shows_them(stack: Stack, tmp_path: Path) -> None:
    found = label.fetch(stack, "parts", tmp_path / "q")
    assert (found["rows"], found["dataset"]) == (1, "parts")
    assert (tmp_path / "q" / "a" / "2026-03-01" / "x.png").read_bytes() == b"picture"
    page = (tmp_path / "q" / "index.html").read_text()
    assert '<img src="a/2026-03-01/x.png"' in page and "<b>good</b> (0.41), uncertain" in page
    with pytest.raises(LabError, match="is not empty"):
        label.fetch(stack, "parts", tmp_path / "q")


def test_what_a_device_wrote_is_text_on_the_page() -> None:
    row = {"file": "a.png", "predicted": "<script>", "why": '"', "confidence": ""}
    assert "<script>" not in label.page("d", [row], [])


def test_a_filled_queue_joins_the_raw_data_set_manifest_last(stack: Stack, home: Home, tmp_path: Path) -> None:
    label.fetch(stack, "parts", tmp_path / "q")
    found = label.take(home, stack, fill(tmp_path / "q", "bad"))
    assert (found["added"], found["labels"]) == (1, {"bad": 1})
    s3 = stack.client("s3")
    rows = s3.list_objects_v2(Bucket="lake", Prefix="raw/parts/")["Contents"]
    assert [row["Key"] for row in rows] == ["raw/parts/_manifest.json", "raw/parts/bad/device-x.png"]
    answer = s3.get_object(Bucket="lake", Key="raw/parts/_manifest.json")
    manifest = json.loads(answer["Body"].read())
    assert [row["path"] for row in manifest["files"]] == ["good/1.png", "bad/device-x.png"]
    # What the flow's first state reads of the object itself.
    assert answer["Metadata"] == {
        "digest": manifest["digest"], "dataset": "parts", "modality": "image", "task": "classification",
    }  # fmt: skip
    done = s3.get_object(Bucket="lake", Key="raw/parts-device/labelled.csv")["Body"].read().decode()
    assert list(csv.DictReader(done.splitlines())) == [{"file": "a/2026-03-01/x.png", "label": "bad"}]


def test_a_class_that_is_none_is_refused_and_nothing_is_changed(stack: Stack, home: Home, tmp_path: Path) -> None:
    label.fetch(stack, "parts", tmp_path / "q")
    with pytest.raises(DataError, match="the label 'baad'; there are bad, good"):
        label.take(home, stack, fill(tmp_path / "q", "baad"))
    body = stack.client("s3").get_object(Bucket="lake", Key="raw/parts/_manifest.json")["Body"].read()
    assert json.loads(body) == MANIFEST


def test_an_empty_queue_says_what_to_do(stack: Stack, tmp_path: Path) -> None:
    with pytest.raises(LabError, match="no sample of nothing waits") as error:
        label.fetch(stack, "nothing", tmp_path / "q")
    assert "capture_per_day" in str(error.value.hint)


def test_a_queue_that_points_outside_is_not_followed(stack: Stack, tmp_path: Path) -> None:
    body = b"file,predicted,confidence,why,thing,label\r\n../../x.png,good,0.4,drift,a,\r\n"
    stack.client("s3").put_object(Bucket="lake", Key="raw/parts-device/labels.csv", Body=body)
    with pytest.raises(LabError, match="lies outside"):
        label.fetch(stack, "parts", tmp_path / "q")
    assert not (tmp_path.parent / "x.png").exists()


def test_a_file_of_another_folder_is_refused(stack: Stack, home: Home, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("file,label\n")
    with pytest.raises(DataError, match="no folder that `lab label` made"):
        label.take(home, stack, tmp_path / "labels.csv")
