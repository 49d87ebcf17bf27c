"""Tables and series through the ETL: every form they come in, and what is wrong with some."""

import csv
import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import local_spark
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models import curated, drift, tables
from models.contract import Column, Contract
from pipelines.jobs import etl, slices
from pipelines.jobs.manifest import ManifestError

pytestmark = [pytest.mark.slow, local_spark.QUIET]
SPLITS = ("train", "validation", "test")
ROWS = 200


@pytest.fixture(scope="module", autouse=True)
def spark() -> Iterator[Any]:
    with local_spark.session() as session:
        yield session


def rows(count: int = ROWS) -> list[list[str]]:
    """x, colour, y with gaps, label."""
    rng = np.random.default_rng(3)
    found = []
    for at in range(count):
        x, y = rng.normal(0, 1), rng.normal(1e6, 3)
        colour = ("red", "blue", "green")[int(rng.integers(3))]
        found.append([f"{x:.6f}", colour, "" if at % 9 == 0 else f"{y:.3f}", "yes" if x > 0 else "no"])
    return found


HEADER = ["x", "colour", "y", "label"]


class Raw:
    """Raw files of a table in a folder, and their manifest."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = root / "raw" / "rows"
        self.folder.mkdir(parents=True)

    def put(self, name: str, content: bytes) -> None:
        (self.folder / name).write_bytes(content)

    def text(self, name: str, lines: list[list[str]], header: list[str] | None = None, delimiter: str = ",") -> None:
        out = io.StringIO()
        csv.writer(out, delimiter=delimiter).writerows(([header] if header else []) + lines)
        self.put(name, out.getvalue().encode())

    def manifest(self, modality: str = "tabular", task: str = "classification", **table: Any) -> None:
        files = [
            {
                "path": path.name,
                "bytes": path.stat().st_size,
                "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
                "label": "",
            }
            for path in sorted(self.folder.iterdir())
            if not path.name.startswith("_")
        ]
        lines = "".join(sorted(f"{file['path']} {file['sha256']} \n" for file in files))
        default = {
            "format": "csv", "delimiter": ",", "header": True, "encoding": "utf-8", "names": HEADER,
            "features": ["x", "colour", "y"], "categories": ["colour"], "target": "label", "group": "", "time": "",
            "missing": ["?"], "window": 8, "stride": 1, "rul_cap": 125, "intervals": [], "parts": {},
        }  # fmt: skip
        document = {
            "schema": 1, "dataset": "rows", "modality": modality, "task": task, "source": "test", "classes": [],
            "pixels": 0, "files": files, "digest": hashlib.sha256(lines.encode()).hexdigest(),
            "table": default | table,
        }  # fmt: skip
        self.put("_manifest.json", json.dumps(document).encode())

    def curate(self, run: str = "r", *more: str) -> Contract:
        key = "raw/rows/_manifest.json"
        assert etl.main(["--root", str(self.root), "--key", key, "--run", run, "--seed", "17", *more]) == 0
        return Contract.load(self.out(run) / "contract.json")

    def out(self, run: str = "r") -> Path:
        return self.root / "curated" / run

    def report(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.out() / "data_report.json").read_text("utf-8"))
        return found

    def table(self, split: str) -> dict[str, list[Any]]:
        parts = sorted((self.out() / split).glob("part-*.parquet"))
        found: dict[str, list[Any]] = pa.concat_tables([pq.read_table(part) for part in parts]).to_pydict()
        return found

    def every(self) -> dict[str, np.ndarray]:
        """Tensors by source, of all splits."""
        found = {}
        for split in SPLITS:
            tensors, _, sources = curated.read(self.out(), split)
            found.update(zip(sources, tensors, strict=True))
        return found


@pytest.fixture
def raw(tmp_path: Path) -> Raw:
    return Raw(tmp_path / "lake with space")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Raw:
    """A table with a category, gaps and a header, curated as run `r`."""
    raw = Raw(tmp_path_factory.mktemp("plain lake"))
    raw.text("a b ü.csv", rows(), HEADER)
    raw.manifest()
    raw.curate()
    return raw


def test_a_table_comes_out_as_the_tensors_that_endpoint_and_device_make_of_its_text(plain: Raw) -> None:
    contract = Contract.load(plain.out() / "contract.json")
    assert (contract.modality, contract.shape, contract.classes) == ("tabular", (3,), ("no", "yes"))
    assert contract.columns[1] == Column(name="colour", values=("blue", "green", "red"))
    text = "\n".join(",".join(row[:3]) for row in [HEADER, *rows()])
    served = tables.read(text.encode(), contract)
    found = plain.every()
    assert len(found) == ROWS
    for at, tensor in enumerate(served, 1):
        assert tensor.tobytes() == found[f"a b ü.csv:{at}"].tobytes()


def test_curated_rows_are_what_the_contract_says(plain: Raw) -> None:
    contract = Contract.load(plain.out() / "contract.json")
    for split in SPLITS:
        found = plain.table(split)
        assert list(found) == ["id", "source", "label", "label_name", "tensor", "group"]
        assert len(found["id"]) == sum(contract.counts[split].values())
        assert [contract.classes[label] for label in found["label"]] == found["label_name"]
        assert found["id"] == [hashlib.sha256(tensor).hexdigest() for tensor in found["tensor"]]
    assert sum(contract.counts["train"].values()) == 140
    report = plain.report()
    assert (report["rows"], report["corrupt_total"], report["split"][:10]) == (ROWS, 0, "stratified")


def test_statistics_are_those_of_training_without_what_is_missing(plain: Raw) -> None:
    contract = Contract.load(plain.out() / "contract.json")
    tensors, _, _ = curated.read(plain.out(), "train")
    seen = tensors.astype(np.float64)
    np.testing.assert_allclose(np.array(contract.mean)[[0, 2]], np.nanmean(seen, axis=0)[[0, 2]], rtol=1e-9)
    np.testing.assert_allclose(np.array(contract.std)[[0, 2]], np.nanstd(seen, axis=0)[[0, 2]], rtol=1e-6)
    assert (contract.mean[1], contract.std[1]) == (0.0, 1.0)
    watch = drift.Watch(contract.profile, HEADER[:3])
    watch.add(tensors)
    assert watch.worst() < 0.01
    assert all(len(part["shares"]) <= 10 for part in contract.profile.values())
    watch.add(np.repeat(tensors[:1] + 50, 500, axis=0))
    assert watch.worst() > 0.25


def test_the_same_rows_give_the_same_contract(plain: Raw) -> None:
    plain.curate("again")
    first, second = (plain.out(run) / "contract.json" for run in ("r", "again"))
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("form", ["no header", "semicolon", "whitespace", "parquet", "latin", "quoted"])
def test_any_form_of_a_table_gives_the_same_tensors(plain: Raw, raw: Raw, form: str) -> None:
    lines = rows()
    about: dict[str, Any] = {}
    if form == "no header":
        raw.text("a.csv", lines)
        about = {"header": False}
    elif form == "semicolon":
        raw.text("a.csv", lines, HEADER, ";")
        about = {"delimiter": ";"}
    elif form == "whitespace":
        raw.put("a.txt", "".join("  ".join(cell or "?" for cell in row) + " \n" for row in lines).encode())
        about = {"format": "whitespace", "header": False}
    elif form == "latin":
        raw.put("a.csv", "\r\n".join(",".join(row) for row in [["x", "colour", "y", "für"], *lines]).encode("latin-1"))
        about = {"encoding": "latin-1"}
    elif form == "quoted":
        # A comma, a line's end and a doubled quote within quotes, in a column that nobody uses.
        text = [",".join(["note", *HEADER]), *(f'"a, ""b""\nc",{",".join(row)}' for row in lines)]
        raw.put("a.csv", ("\ufeff" + "\n".join(text)).encode())
        about = {"names": ["note", *HEADER]}
    else:
        columns: list[list[Any]] = [list(column) for column in zip(*lines, strict=True)]
        columns[0] = [float(cell) for cell in columns[0]]
        columns[2] = [float(cell) if cell else None for cell in columns[2]]
        pq.write_table(pa.table(dict(zip(HEADER, columns, strict=True))), raw.folder / "a.parquet")
        about = {"format": "parquet"}
    raw.manifest(**about)
    raw.curate()
    wanted = {source.split(":")[1]: tensor.tobytes() for source, tensor in plain.every().items()}
    assert {source.split(":")[1]: tensor.tobytes() for source, tensor in raw.every().items()} == wanted


def test_a_value_that_training_has_not_seen_is_unknown_in_test(raw: Raw) -> None:
    raw.text("train.csv", rows(), HEADER)
    raw.text("test.csv", [[row[0], "violet" if at % 2 else "red", *row[2:]] for at, row in enumerate(rows(260)[200:])])
    raw.put("test.csv", (",".join(HEADER) + "\n").encode() + (raw.folder / "test.csv").read_bytes())
    raw.manifest(parts={"train": ["train.csv"], "test": ["test.csv"]})
    contract = raw.curate()
    assert contract.columns[1].values == ("blue", "green", "red")
    tensors, _, sources = curated.read(raw.out(), "test")
    assert len(tensors) == 60
    assert all(source.startswith("test.csv") for source in sources)
    assert np.isnan(tensors[:, 1]).sum() == 30


def test_marks_of_missing_values_and_blanks_are_missing_everywhere(raw: Raw) -> None:
    lines = rows()
    lines[0][:3] = ["?", "?", " "]
    lines[1][:3] = ["", " ", "?"]
    raw.text("a.csv", lines, HEADER)
    raw.manifest()
    raw.curate()
    found = raw.every()
    assert np.isnan(found["a.csv:1"]).all()
    assert np.isnan(found["a.csv:2"]).all()
    assert raw.report()["duplicates_total"] == 1


def test_rows_without_a_label_are_left_out_and_equal_rows_stay_on_one_side(raw: Raw) -> None:
    lines = rows()
    lines += [lines[at] for at in range(40)] + [[*lines[at][:3], "maybe"] for at in range(40, 43)]
    lines[50][3] = "?"
    raw.text("a.csv", lines, HEADER)
    raw.manifest()
    with pytest.raises(etl.DataRefused, match="each class needs 5 in train; maybe has"):
        raw.curate()
    report = raw.report()
    assert (report["duplicates_total"], report["conflicts_total"]) == (43, 3)
    assert sum(sum(part.values()) for part in report["counts"].values()) == 242


def test_a_regression_has_a_target_and_counts_of_all(raw: Raw) -> None:
    lines = [[*row[:3], f"{100 + 10 * float(row[0]):.4f}"] for row in rows()]
    lines[7][3] = ""
    raw.text("a.csv", lines, HEADER)
    raw.manifest(task="regression")
    contract = raw.curate()
    _, labels, _ = curated.read(raw.out(), "train")
    assert contract.counts["train"] == {"all": len(labels)}
    assert contract.target is not None
    assert (contract.target.name, contract.target.cap) == ("label", None)
    assert contract.target.mean == pytest.approx(labels.mean())
    assert contract.target.std == pytest.approx(labels.std())


def test_a_target_with_one_value_is_refused(raw: Raw) -> None:
    raw.text("a.csv", [[*row[:3], "5"] for row in rows()], HEADER)
    raw.manifest(task="regression")
    with pytest.raises(etl.DataRefused, match="every row of training has the target 5; choose another"):
        raw.curate()


def test_ten_thousand_classes_are_refused(raw: Raw) -> None:
    raw.text("a.csv", [[str(at), "red", "1", f"name {at}"] for at in range(10_001)], HEADER)
    raw.manifest()
    with pytest.raises(etl.DataRefused, match="more than 10000 classes"):
        raw.curate()


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b"1,red,2", "has 3 cells, the table has 4 columns"),
        (b"1,red,2,yes,more", "has 5 cells, the table has 4 columns"),
        (b'"1,red,2,yes', "has 1 cells, the table has 4 columns"),
        (b"1,red,many,yes", "column 'y': 'many' is no number"),
        (b"1,r\xe9d,2,yes", r"is not utf-8 text"),
    ],
)
def test_a_broken_row_is_named_with_file_row_and_column(raw: Raw, line: bytes, says: str) -> None:
    text = [",".join(row).encode() for row in [HEADER, *rows()]]
    raw.put("a.csv", b"\n".join([*text[:18], line, *text[18:]]))
    raw.manifest()
    with pytest.raises(etl.DataRefused, match=rf"corrupt: 1 of 201 rows cannot be used.*a\.csv:18 \({says}"):
        raw.curate("r", "--corrupt-share", "0.001")
    raw.curate("r", "--corrupt-share", "0.01")
    assert raw.report()["corrupt"][0]["source"] == "a.csv:18"
    assert len(raw.every()) == ROWS


def test_a_file_that_is_gone_or_cut_short_is_named(raw: Raw) -> None:
    raw.text("a.csv", rows(), HEADER)
    raw.manifest()
    raw.put("a.csv", b"x\n")
    with pytest.raises(ManifestError, match=r"a\.csv has 2 bytes, not the"):
        raw.curate()
    raw.put("b.csv", (raw.folder / "a.csv").read_bytes())
    (raw.folder / "a.csv").unlink()
    with pytest.raises(ManifestError, match=r"a\.csv is missing"):
        raw.curate()


def test_a_manifest_that_names_no_such_column_is_refused(raw: Raw) -> None:
    raw.text("a.csv", rows(), HEADER)
    raw.manifest(target="lable")
    with pytest.raises(ManifestError, match="the column 'lable' is none of x, colour, y, label"):
        raw.curate()


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
