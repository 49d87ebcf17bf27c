"""What adapt makes of tables and series as people bring them: form, roles, task, and what it finds."""

import datetime
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from adapted import Adapt, measures, table

HEADER = ["width", "height", "label"]
START = datetime.datetime(2024, 1, 1)


@pytest.fixture
def adapt(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Adapt:
    return Adapt(tmp_path, capsys)


def test_text_of_run_to_failure_without_header_is_remaining_life(adapt: Adapt, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    lines = [
        f"{unit} {cycle} {rng.normal():.4f} {rng.normal() + cycle / 50:.4f} 518.67  "
        for unit in range(1, 15)
        for cycle in range(1, int(rng.integers(60, 120)))
    ]
    (tmp_path / "train_FD001.txt").write_text("\n".join(lines) + "\n")
    data = adapt(tmp_path / "train_FD001.txt").data
    assert (data["modality"], data["task"], data["group"], data["time"]) == ("timeseries", "rul", "c0", "c1")
    assert (data["format"], data["header"], data["exclude"], data["rul_cap"]) == ("whitespace", False, ["c4"], 125)


def test_readings_with_labelled_spans_are_anomaly_detection(adapt: Adapt, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [[START + datetime.timedelta(minutes=5 * n), rng.normal()] for n in range(4000)]
    table(tmp_path / "pump" / "readings.csv", ["timestamp", "value"], rows)
    spans = [
        [str(START + datetime.timedelta(days=day)), str(START + datetime.timedelta(days=day + 1))] for day in (3, 9)
    ]
    (tmp_path / "pump" / "windows.json").write_text(json.dumps(spans))
    found = adapt(tmp_path / "pump")
    assert found.data["task"] == "anomaly" and found.data["time"] == "timestamp"
    assert found.data["intervals"] == "windows.json" and 16 <= found.data["window"] <= 96
    assert found.toml["gate"] == {"auroc": 0.7, "min_agreement": 0.99} and "in 2 spans" in found.out


def test_a_flag_that_marks_few_rows_of_units_is_anomaly_detection(adapt: Adapt, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [
        [f"M{unit}", START + datetime.timedelta(hours=hour), rng.normal(), int(rng.random() < 0.03)]
        for unit in range(6)
        for hour in range(150)
    ]
    data = adapt(table(tmp_path / "a.csv", ["machine_id", "timestamp", "vibration", "failure"], rows)).data
    assert (data["task"], data["target"], data["group"], data["time"]) == (
        "anomaly", "failure", "machine_id", "timestamp",
    )  # fmt: skip


def test_a_table_sorted_by_class_with_a_row_number_is_no_series(adapt: Adapt, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [[n, rng.normal(), rng.normal(), ("a", "b", "c")[n // 50]] for n in range(150)]
    data = adapt(table(tmp_path / "a.csv", ["Id", "length", "depth", "Species"], rows)).data
    assert (data["modality"], data["target"]) == ("tabular", "Species") and data["exclude"] == ["Id"]


def test_a_table_without_header_has_its_classes_found(adapt: Adapt, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    ids = rng.choice(10**8, 200, replace=False)
    rows = [
        [number, "MB"[int(a > 0)], a + rng.normal(), rng.normal()]
        for number, a in zip(ids, rng.normal(size=200), strict=True)
    ]
    found = adapt(table(tmp_path / "wdbc.data", [], rows))
    assert found.data["target"] == "c1" and found.data["exclude"] == ["c0"] and found.data["header"] is False
    assert "target: c1" in found.out and "--target COLUMN" in found.out


def test_what_is_certain_is_not_asked_about(adapt: Adapt, tmp_path: Path) -> None:
    assert "guessed" not in adapt(table(tmp_path / "a.csv", HEADER, measures())).out


def test_options_overrule_guesses(adapt: Adapt, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [[n % 20, rng.normal(), rng.integers(3, 9), rng.normal()] for n in range(400)]
    path = table(tmp_path / "a.csv", ["patient", "age", "quality", "x"], rows)
    data = adapt(path, "--target", "quality", "--task", "regression", "--group", "patient").data
    assert (data["target"], data["task"], data["group"]) == ("quality", "regression", "patient")


def test_marks_for_missing_values_of_every_kind_are_found(adapt: Adapt, tmp_path: Path) -> None:
    rows = [[*row[:2], n, row[2]] for n, row in enumerate(measures(100))]
    for place, mark in enumerate(["?", "NA", "", "-", "null", "  "]):
        rows[place * 7][1] = mark
    for place in (3, 30, 60):
        rows[place][2] = -999
    found = adapt(table(tmp_path / "a.csv", ["width", "height", "count", "label"], rows))
    assert found.data["missing"] == ["-", "-999", "?", "NA", "null"]


def test_categories_units_and_constants_are_told(adapt: Adapt, tmp_path: Path) -> None:
    rows = [[*row[:2], "ABC"[n % 3], "on", row[2]] for n, row in enumerate(measures(90))]
    path = table(tmp_path / "a.csv", ["temp_C", "speed [rpm]", "line", "state", "label"], rows)
    found = adapt(path, "--json")
    columns = {row["name"]: row for row in json.loads(found.out)["columns"]}
    assert found.data["categories"] == ["line"] and found.data["exclude"] == ["state"]
    assert (columns["temp_C"]["unit"], columns["speed [rpm]"]["unit"]) == ("C", "rpm")


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_every_delimiter_is_found(adapt: Adapt, tmp_path: Path, delimiter: str) -> None:
    data = adapt(table(tmp_path / "a.csv", HEADER, measures(), delimiter=delimiter)).data
    assert data.get("delimiter", ",") == delimiter and data["target"] == "label"


def test_parquet_is_read_with_its_types(adapt: Adapt, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    columns = {
        "id": np.arange(120), "speed": rng.normal(size=120), "ok": rng.integers(0, 2, 120).astype(bool),
        "when": [START + datetime.timedelta(minutes=int(n)) for n in rng.integers(0, 9999, 120)],
        "outcome": rng.choice(["a", "b"], 120),
    }  # fmt: skip
    pq.write_table(pa.table(columns), tmp_path / "a.parquet", row_group_size=50)
    data = adapt(tmp_path / "a.parquet").data
    assert (data["format"], data["exclude"], data["categories"], data["time"]) == ("parquet", ["id"], ["ok"], "when")


def test_many_files_are_one_table_and_drift_between_given_parts_is_found(adapt: Adapt, tmp_path: Path) -> None:
    moved = [[a + 2, b, c] for a, b, c in measures(200, 1)]
    table(tmp_path / "parts" / "train.csv", HEADER, measures(200))
    table(tmp_path / "parts" / "test.csv", HEADER, moved)
    found = adapt(tmp_path / "parts")
    assert "2 files, 400 rows" in found.out and "drift: width: PSI" in found.out and "drift: height" not in found.out


def test_duplicates_and_contradictions_are_found_by_their_lines(adapt: Adapt, tmp_path: Path) -> None:
    rows = measures(100)
    rows[50] = [*rows[10][:2], "good" if rows[10][2] == "bad" else "bad"]
    found = adapt(table(tmp_path / "a.csv", HEADER, rows))
    assert "1 of 100 rows repeat" in found.out and "line 52 is a.csv, line 12 again" in found.out
    assert "1 rows have the inputs of another row and another target" in found.out


def test_labels_that_neighbours_contradict_are_found(adapt: Adapt, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, 200)
    points = rng.normal(size=(200, 3)) + truth[:, None] * 2.2
    words = [("low", "high")[label] for label in truth]
    wrong = int(np.flatnonzero(truth == 0)[np.argmin(points[truth == 0].sum(1))])
    words[wrong] = "high"
    rows = [[*point.round(4), word] for point, word in zip(points, words, strict=True)]
    found = adapt(table(tmp_path / "a.csv", ["x", "y", "z", "label"], rows))
    assert "label noise" in found.out and f"line {wrong + 2} (high; neighbours: low)" in found.out


def test_imbalance_changes_the_gate(adapt: Adapt, tmp_path: Path) -> None:
    rows = [[a, b, "rare" if n % 20 == 0 else "usual"] for n, (a, b, _) in enumerate(measures(400))]
    found = adapt(table(tmp_path / "a.csv", HEADER, rows))
    assert "imbalance: rare: 'rare' is 20 of 400" in found.out
    assert "balanced_accuracy" in found.toml["gate"] and "accuracy" not in found.toml["gate"]


def test_few_samples_are_told(adapt: Adapt, tmp_path: Path) -> None:
    assert "too few samples: rows: 30 samples" in adapt(table(tmp_path / "a.csv", HEADER, measures(30))).out


def test_the_data_card_is_one_file_that_needs_no_network(adapt: Adapt, tmp_path: Path) -> None:
    rows = [["<b>&", *row] for row in measures()]
    adapt(table(tmp_path / "a.csv", ["<i>odd", *HEADER], rows))
    page = (tmp_path / "data-card.html").read_text("utf-8")
    assert "<svg" in page and "http://" not in page and "https://" not in page and "<script" not in page
    assert "&lt;i&gt;odd" in page and "<i>odd" not in page


def test_one_answer_is_json(adapt: Adapt, tmp_path: Path) -> None:
    found = json.loads(adapt(table(tmp_path / "a.csv", HEADER, measures()), "--json").out)
    assert found["data"]["target"] == "label" and found["settings"].endswith("lab.toml") and found["guesses"]
