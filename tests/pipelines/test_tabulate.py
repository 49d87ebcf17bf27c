"""Tables through the ETL: every form they come in, how they are split, and what is wrong with some."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import local_spark
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from raw_tables import HEADER, ROWS, SPLITS, Raw, rows

from models import curated, drift, tables
from models.contract import Column, Contract
from pipelines.jobs import curate_tables, etl, slices
from pipelines.jobs.manifest import ManifestError

pytestmark = [pytest.mark.slow, local_spark.QUIET]


@pytest.fixture(scope="module", autouse=True)
def spark() -> Iterator[Any]:
    with local_spark.session() as session:
        yield session


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


@pytest.mark.parametrize("form", ["no header", "semicolon", "comma", "whitespace", "parquet", "latin", "quoted"])
def test_any_form_of_a_table_gives_the_same_tensors(plain: Raw, raw: Raw, form: str) -> None:
    lines = rows()
    about: dict[str, Any] = {}
    if form == "no header":
        raw.text("a.csv", lines)
        about = {"header": False}
    elif form == "semicolon":
        raw.text("a.csv", lines, HEADER, ";")
        about = {"delimiter": ";"}
    elif form == "comma":
        # 1.000.003,250 as much of Europe writes it.
        swapped = str.maketrans(",.", ".,")
        tall = [f"{float(row[2]):,.3f}".translate(swapped) if row[2] else "" for row in lines]
        raw.text("a.csv", [[row[0].translate(swapped), row[1], y, row[3]] for row, y in zip(lines, tall, strict=True)],
                 HEADER, ";")  # fmt: skip
        about = {"delimiter": ";", "decimal": ","}
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


def test_times_in_the_pattern_that_the_settings_name_order_the_rows(raw: Raw) -> None:
    lines = [[f"{at % 28 + 1}.{at // 28 + 1}.2024", *row[1:]] for at, row in enumerate(rows())]
    lines[60][0] = "31.2.2024"
    raw.text("a.csv", lines, HEADER)
    raw.manifest(time="x", dates="%d.%m.%Y", features=HEADER[1:3], categories=["colour"])
    raw.curate()
    place = {int(source.split(":")[1]): split for split in SPLITS for source in raw.table(split)["source"]}
    assert [place[at] for at in (2, 101, 197, 200)] == ["train", "train", "test", "test"]
    assert raw.report()["corrupt"][0]["why"] == "column 'x': '31.2.2024' is no number and no date like %d.%m.%Y"


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


def test_a_unit_of_a_table_is_on_one_side_and_so_is_equal_content(raw: Raw) -> None:
    lines = [[*row, f"u{at % 30}"] for at, row in enumerate(rows())]
    lines += [[*lines[at][:4], "u99"] for at in range(5)]
    raw.text("a.csv", lines, [*HEADER, "unit"])
    raw.manifest(names=[*HEADER, "unit"], group="unit")
    raw.curate()
    found = [raw.table(split) for split in SPLITS]
    for key in ("group", "tensor"):
        kinds = [set(part[key]) for part in found]
        assert sum(map(len, kinds)) == len(set.union(*kinds))
    assert len(set.union(*(set(part["group"]) for part in found))) == 31
    left_out = raw.report()["dropped"].get(slices.COPY, 0)
    assert sum(len(part["id"]) for part in found) == ROWS + 5 - left_out


def test_a_table_with_a_time_is_learned_from_its_past(raw: Raw) -> None:
    lines = [[*row, str(1000 + at)] for at, row in enumerate(rows())]
    raw.text("a.csv", lines[::-1], [*HEADER, "when"])
    raw.manifest(names=[*HEADER, "when"], time="when")
    raw.curate()
    # Written backwards: the last line is the oldest.
    places = [[ROWS - int(source.split(":")[1]) for source in raw.table(split)["source"]] for split in SPLITS]
    assert [len(found) for found in places] == [140, 30, 30]
    assert max(places[0]) < min(places[1]) <= max(places[1]) < min(places[2])


def test_a_category_keeps_its_most_frequent_values_only(raw: Raw, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curate_tables, "VOCABULARY", 2)
    lines = [[row[0], "red" if at % 2 else "blue" if at % 3 else "rare", *row[2:]] for at, row in enumerate(rows())]
    raw.text("a.csv", lines, HEADER)
    raw.manifest()
    contract = raw.curate()
    assert contract.columns[1].values == ("blue", "red")
    found = raw.every()
    assert np.isnan(found["a.csv:1"][1])
    assert found["a.csv:2"][1] == 1


def test_a_file_that_spark_cuts_into_blocks_gives_the_same_rows(plain: Raw, raw: Raw, spark: Any) -> None:
    raw.text("a.csv", rows(), HEADER)
    raw.manifest()
    whole = {name: spark.conf.get(f"spark.sql.files.{name}") for name in ("maxPartitionBytes", "openCostInBytes")}
    for name in whole:
        spark.conf.set(f"spark.sql.files.{name}", "1000")
    try:
        raw.curate()
    finally:
        for name, value in whole.items():
            spark.conf.set(f"spark.sql.files.{name}", value)
    found = raw.every()
    assert len(found) == ROWS
    assert any("@" in source for source in found)
    assert sorted(tensor.tobytes() for tensor in found.values()) == sorted(
        tensor.tobytes() for tensor in plain.every().values()
    )


def test_text_whose_lines_cannot_be_told_apart_is_refused(raw: Raw) -> None:
    raw.text("a.csv", rows(), HEADER)
    raw.manifest(encoding="utf-16")
    with pytest.raises(ManifestError, match="lines in utf-16 cannot be told apart; save the files as UTF-8"):
        raw.curate()
