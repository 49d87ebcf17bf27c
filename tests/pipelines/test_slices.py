"""Series through the ETL: windows per unit or of one long series, their labels, and where they are cut."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import local_spark
import numpy as np
import pytest
from raw_tables import SPLITS, Raw

from models import curated, tables
from pipelines.jobs import etl, slices

pytestmark = [pytest.mark.slow, local_spark.QUIET]


@pytest.fixture(scope="module", autouse=True)
def spark() -> Iterator[Any]:
    with local_spark.session() as session:
        yield session


@pytest.fixture
def raw(tmp_path: Path) -> Raw:
    return Raw(tmp_path / "lake with space")


def engines(raw: Raw, **about: Any) -> list[list[str]]:
    """20 units of 12 to 40 cycles in any order, and their manifest."""
    rng = np.random.default_rng(5)
    lines = [
        [f"e{unit}", str(cycle), f"{cycle + rng.normal():.4f}", f"{unit}"]
        for unit in range(20)
        for cycle in range(1, int(rng.integers(12, 41)))
    ]
    lines.append(["short", "1", "0.5", "7"])
    mixed = [lines[at] for at in rng.permutation(len(lines))]
    raw.text("a.csv", mixed, ["unit", "cycle", "wear", "setting"])
    default = {
        "names": ["unit", "cycle", "wear", "setting"], "features": ["wear", "setting"], "categories": [],
        "target": "", "group": "unit", "time": "cycle", "rul_cap": 20, "window": 8, "stride": 3,
    }  # fmt: skip
    raw.manifest("timeseries", "rul", **{**default, **about})
    return lines


def test_lives_are_counted_in_rows_to_the_units_end_and_no_unit_straddles(raw: Raw) -> None:
    lines = engines(raw)
    contract = raw.curate()
    assert (contract.shape, contract.stride, contract.group) == ((8, 2), 3, "unit")
    assert contract.target is not None
    assert (contract.target.name, contract.target.cap) == ("rul", 20.0)
    units = [set(raw.table(split)["group"]) for split in SPLITS]
    assert sum(map(len, units)) == len(set.union(*units)) == 21
    for split in SPLITS:
        found = raw.table(split)
        for unit, group in dict.fromkeys(found["group"]).items():
            assert group is None
            own = [row for row in lines if row[0] == unit]
            series = np.array([[float(cell) for cell in row[2:]] for row in own], np.float32)
            wanted = tables.windows(series, 8, 3)
            lives = [min(20, 3 * back) for back in range(len(wanted))][::-1]
            at = [place for place, name in enumerate(found["group"]) if name == unit]
            got = {found["tensor"][place]: found["label"][place] for place in at}
            assert got == {window.tobytes(): life for window, life in zip(wanted, lives, strict=True)}


def test_windows_of_a_class_take_the_last_steps_label(raw: Raw) -> None:
    lines = engines(
        raw, target="setting", features=["wear"], window=4, stride=1, missing=[],
    )  # fmt: skip
    document = json.loads((raw.folder / "_manifest.json").read_text("utf-8"))
    document["task"] = "classification"
    flipped = [[*row[:3], "late" if int(row[1]) > 10 else "early"] for row in lines]
    raw.text("a.csv", flipped, ["unit", "cycle", "wear", "setting"])
    raw.manifest("timeseries", "classification", **document["table"])
    contract = raw.curate()
    assert contract.classes == ("early", "late")
    for split in SPLITS:
        found = raw.table(split)
        for tensor, label in zip(found["tensor"], found["label_name"], strict=True):
            own = np.frombuffer(tensor, np.float32)[-1]
            assert next(row[3] for row in flipped if np.float32(row[2]) == own) == label


def test_units_of_given_parts_may_have_the_same_names(raw: Raw) -> None:
    lines = engines(raw)
    header = ["unit", "cycle", "wear", "setting"]
    raw.text("train_1.csv", lines, header)
    raw.text("test_1.csv", [[*row[:2], f"{-float(row[2]):.4f}", row[3]] for row in lines], header)
    (raw.folder / "a.csv").unlink()
    document = json.loads((raw.folder / "_manifest.json").read_text("utf-8"))
    parts = {"train": ["train_1.csv"], "test": ["test_1.csv"]}
    raw.manifest("timeseries", "rul", **document["table"] | {"parts": parts})
    contract = raw.curate()
    assert {group.split("/")[0] for group in raw.table("test")["group"]} == {"test"}
    assert {group.split("/")[0] for split in SPLITS[:2] for group in raw.table(split)["group"]} == {"train"}
    ours = contract.counts["train"]["all"] + contract.counts["validation"]["all"]
    assert ours == contract.counts["test"]["all"]


def test_a_series_without_time_or_unit_is_in_the_order_of_its_rows(raw: Raw) -> None:
    for part in range(3):
        raw.text(f"{part}.csv", [[f"{100 * part + at}", f"{at}"] for at in range(100)], ["value", "target"])
    raw.manifest(
        "timeseries", "regression", names=["value", "target"], features=["value"], categories=[], target="target",
        window=4, stride=2,
    )  # fmt: skip
    raw.curate()
    for split in SPLITS:
        tensors, labels, _ = curated.read(raw.out(), split)
        assert (np.diff(tensors[:, :, 0], axis=1) == 1).all()
        np.testing.assert_array_equal(tensors[:, -1, 0] % 100, labels)
        assert (tensors[:, -1, 0] % 2 == 1).all()


def machine(raw: Raw, count: int = 600, **about: Any) -> list[list[str]]:
    """One series in ten-minute steps from 2024-01-01, shuffled, and its manifest."""
    start = np.datetime64("2024-01-01T00:00:00")
    lines = [[str(start + np.timedelta64(10 * at, "m")).replace("T", " "), f"{at}.5"] for at in range(count)]
    mixed = [lines[at] for at in np.random.default_rng(1).permutation(count)]
    raw.text("a.csv", mixed, ["when", "value"])
    # Rows 100 to 110, 450 to 460 and 470 to 475.
    spans = [
        ["2024-01-01 16:40:00", "2024-01-01 18:20:00"],
        ["2024-01-04 03:00:00", "2024-01-04 04:40:00"],
        ["2024-01-04 06:20:00.000000", "2024-01-04 07:10:00.000000"],
    ]
    default = {
        "names": ["when", "value"], "features": ["value"], "categories": [], "target": "", "time": "when",
        "window": 6, "stride": 1, "intervals": spans,
    }  # fmt: skip
    raw.manifest("timeseries", "anomaly", **{**default, **about})
    return lines


@pytest.mark.parametrize("chunk", [100_000, 70])
def test_anomalies_by_time_are_in_validation_and_test_and_no_window_straddles_a_cut(
    raw: Raw, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slices, "CHUNK", chunk)
    machine(raw)
    contract = raw.curate()
    assert contract.classes == ("normal", "anomaly")
    assert contract.counts["train"]["anomaly"] == 0
    assert min(contract.counts[split]["anomaly"] for split in ("validation", "test")) > 5
    seen: dict[str, list[float]] = {split: [] for split in SPLITS}
    for split in SPLITS:
        tensors, labels, _ = curated.read(raw.out(), split)
        assert (np.diff(tensors[:, :, 0], axis=1) == 1).all()
        ends = tensors[:, -1, 0] - 0.5
        odd = np.zeros(600, bool)
        for first, last in ((100, 110), (450, 460), (470, 475)):
            odd[first : last + 1] = True
        wanted = [odd[max(0, int(end) - 5) : int(end) + 1].any() for end in ends]
        np.testing.assert_array_equal(labels.astype(bool), wanted)
        seen[split] = [tensors.min(), tensors.max()]
    assert seen["train"][1] < seen["validation"][0]
    assert seen["validation"][1] < seen["test"][0]
    dropped = raw.report()["dropped"]
    assert dropped[slices.CUT] == 10
    assert dropped[slices.ODD] == 16
    total = sum(sum(part.values()) for part in raw.report()["counts"].values())
    assert total + sum(dropped.values()) == 595


def test_a_series_without_any_anomaly_is_curated_and_the_report_says_what_that_means(raw: Raw) -> None:
    machine(raw, intervals=[])
    raw.curate()
    checks = {row["name"]: row["detail"] for row in raw.report()["checks"]}
    assert "cannot be measured" in checks["anomalies"]


def test_a_date_that_is_none_is_named(raw: Raw) -> None:
    lines = machine(raw)
    lines[3][0] = "31.12.2024"
    raw.text("a.csv", lines, ["when", "value"])
    raw.manifest(
        "timeseries", "anomaly", names=["when", "value"], features=["value"], categories=[], target="", time="when"
    )
    with pytest.raises(etl.DataRefused, match=r"a\.csv:4 \(column 'when': '31\.12\.2024' is no number and no date"):
        raw.curate("r", "--corrupt-share", "0")
