"""Labelled samples join the raw data set; what a person got wrong is one clear line."""

import csv
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from models import relabel
from models.datafiles import DatasetError
from pipelines.jobs import manifest as jobs_manifest
from pipelines.jobs.lake import Lake

FORMER = [
    {"path": "good/1.png", "bytes": 3, "sha256": "a" * 64, "label": "good"},
    {"path": "bad/2.png", "bytes": 3, "sha256": "b" * 64, "label": "bad"},
]
IMAGES: dict[str, Any] = {
    "schema": 1, "dataset": "parts", "modality": "image", "task": "classification", "source": "parts",
    "classes": ["bad", "good"], "pixels": 32, "files": FORMER, "digest": "old",
}  # fmt: skip
TABLE: dict[str, Any] = {
    "schema": 1, "dataset": "rows", "modality": "tabular", "task": "classification", "source": "rows.csv",
    "classes": [], "pixels": 0, "sample": "_sample.csv", "digest": "old",
    "files": [{"path": "rows.csv", "bytes": 3, "sha256": "c" * 64, "label": ""}],
    "table": {
        "format": "csv", "delimiter": ";", "header": True, "encoding": "utf-8", "names": ["id", "size", "kind"],
        "features": ["size"], "categories": [], "target": "kind", "group": "", "time": "", "missing": [],
        "window": 1, "stride": 1, "rul_cap": 125, "intervals": [], "parts": {},
    },
}  # fmt: skip


@pytest.fixture
def queue(tmp_path: Path) -> Any:
    """A folder as `lab label` hands it out, and the filled file: labels by sample."""

    def queue(samples: dict[str, bytes], labels: dict[str, str], delimiter: str = ",") -> tuple[Path, Path]:
        folder = tmp_path / "queue"
        for name, content in samples.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        for name, rows in (("labels.csv", dict.fromkeys(samples, "")), ("filled.csv", labels)):
            with (folder / name).open("w", encoding="utf-8", newline="") as stream:
                out = csv.writer(stream, delimiter=delimiter)
                out.writerow(["file", "predicted", "confidence", "why", "thing", "label"])
                out.writerows([file, "good", "0.5", "uncertain", "a", label] for file, label in rows.items())
        return folder, folder / "filled.csv"

    return queue


def test_pictures_join_their_classes_and_the_manifest_holds_old_and_new(queue: Any, tmp_path: Path) -> None:
    folder, filled = queue({"a/d/x.png": b"x", "a/d/y.png": b"y", "b/d/z.png": b"z"}, {
        "a/d/x.png": "bad", "a/d/y.png": "skip", "b/d/z.png": "good",
    })  # fmt: skip
    found = relabel.join(folder, filled, IMAGES, tmp_path / "raw")
    assert (found["added"], found["skipped"], found["labels"]) == (2, 1, {"bad": 1, "good": 1})
    made = json.loads((tmp_path / "raw" / "_manifest.json").read_text())
    assert made["files"][:2] == FORMER
    assert made["files"][2] == {
        "path": "bad/device-x.png", "bytes": 1, "sha256": hashlib.sha256(b"x").hexdigest(), "label": "bad",
    }  # fmt: skip
    assert (tmp_path / "raw" / "good" / "device-z.png").read_bytes() == b"z"
    assert found["digest"] == made["digest"] != "old"
    assert {name: made[name] for name in ("dataset", "classes", "pixels")} == {
        "dataset": "parts", "classes": ["bad", "good"], "pixels": 32,
    }  # fmt: skip


def test_the_etl_reads_the_new_manifest(queue: Any, tmp_path: Path) -> None:
    folder, filled = queue({"a/d/x.png": b"x"}, {"a/d/x.png": "bad"})
    relabel.join(folder, filled, IMAGES, tmp_path / "raw")
    head = jobs_manifest.head(Lake(str(tmp_path)), "raw/_manifest.json")
    assert isinstance(head, jobs_manifest.Head)
    assert (head.files, head.classes) == (3, ("bad", "good"))


def test_rows_become_one_more_file_of_the_table(queue: Any, tmp_path: Path) -> None:
    samples = {"a/d/x.csv": b"size\r\n3.5\r\n", "a/d/y.csv": b"size\r\n\r\n7\r\n"}
    folder, filled = queue(samples, {"a/d/x.csv": "round", "a/d/y.csv": "square"}, delimiter=";")
    relabel.join(folder, filled, TABLE, tmp_path / "raw", ["round", "square"])
    made = json.loads((tmp_path / "raw" / "_manifest.json").read_text())
    assert [row["path"] for row in made["files"]] == ["rows.csv", "device-x-2.csv"]
    with (tmp_path / "raw" / "device-x-2.csv").open() as stream:
        assert list(csv.reader(stream, delimiter=";")) == [
            ["id", "size", "kind"], ["", "3.5", "round"], ["", "7", "square"],
        ]  # fmt: skip


def test_what_was_labelled_is_remembered_with_what_was_before(queue: Any, tmp_path: Path) -> None:
    folder, filled = queue({"a/d/x.png": b"x"}, {"a/d/x.png": "skip"})
    (folder / "labelled.csv").write_text("file,label\na/d/old.png,good\n")
    with pytest.raises(DatasetError, match="skips every sample"):
        relabel.join(folder, filled, IMAGES, tmp_path / "raw")
    filled.write_text(filled.read_text().replace("skip", "good"))
    relabel.join(folder, filled, IMAGES, tmp_path / "raw")
    done = (tmp_path / "raw" / "labelled.csv").read_text().split()
    assert done == ["file,label", "a/d/old.png,good", "a/d/x.png,good"]


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        ({"x.png": "goood"}, "the label 'goood'; there are bad, good, and 'skip'"),
        ({"x.png": ""}, "1 rows without a label, such as 'x.png'; 'skip' leaves one out"),
        ({"x.png": "good", "w.png": "bad"}, "'w.png', which the queue has not"),
        ({}, "has no row"),
    ],
)
def test_what_a_person_got_wrong_is_one_clear_line(
    queue: Any, tmp_path: Path, labels: dict[str, str], says: str
) -> None:
    folder, filled = queue({"x.png": b"x"}, labels)
    with pytest.raises(DatasetError, match=says):
        relabel.join(folder, filled, IMAGES, tmp_path / "raw")
    assert not (tmp_path / "raw" / "_manifest.json").exists()


def test_a_regression_asks_for_numbers(queue: Any, tmp_path: Path) -> None:
    folder, filled = queue({"x.csv": b"size\n1\n"}, {"x.csv": "large"})
    with pytest.raises(DatasetError, match="'large'; a number is asked for"):
        relabel.join(folder, filled, {**TABLE, "task": "regression"}, tmp_path / "raw")


def test_windows_of_a_series_are_refused_with_what_to_do_instead(queue: Any, tmp_path: Path) -> None:
    folder, filled = queue({"x.csv": b"size\n1\n"}, {"x.csv": "round"})
    with pytest.raises(DatasetError, match="add the series' rows to the raw files"):
        relabel.join(folder, filled, {**TABLE, "modality": "timeseries"}, tmp_path / "raw")


def test_the_command_line_ends_with_its_summary_or_with_one_line(
    queue: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, filled = queue({"x.png": b"x"}, {"x.png": "bad"})
    (tmp_path / "m.json").write_text(json.dumps(IMAGES))
    argv = [str(folder), str(filled), "--manifest", str(tmp_path / "m.json"), "--out", str(tmp_path / "raw")]
    assert relabel.main(argv) == 0
    assert json.loads(capsys.readouterr().out)["added"] == 1
    filled.write_text("file,label\nx.png,\n")
    assert relabel.main(argv) == 1
    assert capsys.readouterr().err.count("\n") == 1
