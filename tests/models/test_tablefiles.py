"""A customer's table as a raw data set: files as they came, and how to read them."""

import json
from pathlib import Path
from typing import Any

import pytest

from models import datasets
from models.datafiles import DatasetError

SETTINGS = {"modality": "tabular", "task": "classification", "target": "kind"}


def written(source: Path, tmp_path: Path, **settings: Any) -> dict[str, Any]:
    return datasets.write(str(source), tmp_path / "out", settings={**SETTINGS, **settings})


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "Größe 1.csv"
    path.write_text("id,a,b,kind\n1,2,x,good\n2,3,y,bad\n", "utf-8")
    return path


def test_the_file_stays_as_it_came_and_each_column_has_its_role(table: Path, tmp_path: Path) -> None:
    found = written(table, tmp_path, exclude=["id"], categories=["b"], missing=["?"])
    assert (tmp_path / "out" / table.name).read_bytes() == table.read_bytes()
    assert found["dataset"] == "gr-e-1"
    assert found["table"] == {
        "format": "csv", "delimiter": ",", "header": True, "encoding": "utf-8", "decimal": ".", "dates": "",
        "names": ["id", "a", "b", "kind"],
        "features": ["a", "b"], "categories": ["b"], "target": "kind", "group": "", "time": "", "missing": ["?"],
        "window": 30, "stride": 1, "rul_cap": 125, "intervals": [], "parts": {},
    }  # fmt: skip


def test_the_sample_holds_a_row_of_the_features_alone(table: Path, tmp_path: Path) -> None:
    found = written(table, tmp_path, exclude=["id"])
    assert (tmp_path / "out" / found["sample"]).read_text("utf-8") == "a,b\n2,x\n"
    assert found["sample"] not in [row["path"] for row in found["files"]]


def test_the_sample_of_a_series_is_a_window(tmp_path: Path) -> None:
    source = tmp_path / "s.txt"
    source.write_text("".join(f"1  {step} {step * 2}\n" for step in range(9)), "utf-8")
    found = written(
        source, tmp_path, modality="timeseries", task="rul", target="", format="whitespace", header=False,
        group="c0", time="c1", window=4,
    )  # fmt: skip
    assert found["table"]["features"] == ["c2"]
    assert (tmp_path / "out" / found["sample"]).read_text("utf-8") == "c2\n0\n2\n4\n6\n"


def test_many_files_are_one_table_and_train_and_test_keep_their_side(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("train_1", "train_2", "test"):
        (folder / f"{name}.csv").write_text("a,kind\n1,x\n", "utf-8")
    found = written(folder, tmp_path)
    assert found["table"]["parts"] == {"test": ["test.csv"], "train": ["train_1.csv", "train_2.csv"]}
    assert [row["path"] for row in found["files"]] == ["test.csv", "train_1.csv", "train_2.csv"]


def test_files_with_other_columns_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.csv").write_text("a,kind\n1,x\n", "utf-8")
    (folder / "b.csv").write_text("a,sort\n1,x\n", "utf-8")
    with pytest.raises(DatasetError, match=r"b\.csv has the columns a, sort"):
        written(folder, tmp_path)


@pytest.mark.parametrize("role", ["target", "group", "time"])
def test_a_role_that_names_no_column_is_refused(table: Path, tmp_path: Path, role: str) -> None:
    with pytest.raises(DatasetError, match=rf"\[data\] {role} names the column 'knd'; there are id, a, b, kind"):
        written(table, tmp_path, **{role: "knd"})


def test_intervals_lie_beside_the_table(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "s.csv").write_text("t,v\n1,2\n2,3\n", "utf-8")
    (folder / "spans.json").write_text(json.dumps([["1", "2"]]), "utf-8")
    told = {"modality": "timeseries", "task": "anomaly", "target": "", "time": "t", "intervals": "spans.json"}
    assert written(folder, tmp_path, **told)["table"]["intervals"] == [["1", "2"]]
    (folder / "spans.json").write_text('{"a": 1}', "utf-8")
    with pytest.raises(DatasetError, match=r"spans.json is no JSON list of \[start, end\] pairs"):
        datasets.write(str(folder), tmp_path / "again", settings={**SETTINGS, **told})


@pytest.mark.parametrize(("name", "task"), [("breast-cancer", "classification"), ("turbofan-like", "rul")])
def test_built_in_tables_come_with_their_form(name: str, task: str, tmp_path: Path) -> None:
    found = datasets.write(name, tmp_path / "one", count=40)
    again = datasets.write(name, tmp_path / "two", count=40)
    assert found["task"] == task
    assert found["digest"] == again["digest"]
    assert found["table"]["features"]


def test_a_file_without_settings_is_sent_to_adapt(table: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"lab\.toml does not say how to read it; try: lab adapt"):
        datasets.write(str(table), tmp_path / "out")
