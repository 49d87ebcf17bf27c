"""Bad input through the command line: one message with place and remedy, exit 1, lab.toml as it was."""

import codecs
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from adapted import Adapt, folders, measures, picture, table

from models.adapt import sample

HEADER = ["width", "height", "label"]


@pytest.fixture
def adapt(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Adapt:
    return Adapt(tmp_path, capsys)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data.csv"


def test_an_empty_file_is_named(adapt: Adapt, data: Path) -> None:
    data.touch()
    assert "data.csv is empty" in adapt.refused(data)


def test_a_header_without_rows_is_named(adapt: Adapt, data: Path) -> None:
    data.write_text("width,height,label\n")
    assert "has a header and no row" in adapt.refused(data)


def test_a_path_that_does_not_exist_suggests_the_nearest(adapt: Adapt, data: Path) -> None:
    table(data, HEADER, measures())
    assert f"did you mean {data}" in adapt.refused(data.with_name("dta.csv"))


def test_a_ragged_row_is_named_by_its_line(adapt: Adapt, data: Path) -> None:
    rows = measures()
    rows[40] = [*rows[40], "more"]
    said = adapt.refused(table(data, HEADER, rows))
    assert "data.csv, line 42 has 4 cells, the table has 3 columns" in said


def test_a_file_that_was_cut_off_is_a_ragged_row(adapt: Adapt, data: Path) -> None:
    table(data, HEADER, measures())
    text = data.read_text()
    data.write_text(text[: text.rindex(",")])
    assert "line 61 has 2 cells" in adapt.refused(data)


def test_a_quote_that_never_closes_is_named_by_the_line_it_opens_in(adapt: Adapt, data: Path) -> None:
    table(data, HEADER, measures())
    lines = data.read_text().splitlines()
    lines[30] = '"' + lines[30]
    data.write_text("\n".join(lines))
    assert "line 31" in adapt.refused(data)


def test_text_among_numbers_is_named_by_line_and_column(adapt: Adapt, data: Path) -> None:
    rows = measures()
    rows[10][1] = "tall"
    said = adapt.refused(table(data, HEADER, rows))
    assert "data.csv, line 12, column 'height': 'tall' is no number" in said and "--missing 'tall'" in said


def test_text_that_stands_for_missing_can_be_said_so(adapt: Adapt, data: Path) -> None:
    rows = measures()
    rows[10][1] = "tall"
    found = adapt(table(data, HEADER, rows), "--missing", "tall")
    assert found.rc == 0 and found.data["missing"] == ["tall"]


def test_a_target_with_one_class_is_refused(adapt: Adapt, data: Path) -> None:
    rows = [[a, b, "good"] for a, b, _ in measures()]
    assert "has one class: 'good' in all 60 rows" in adapt.refused(table(data, HEADER, rows), "--target", "label")


@pytest.mark.parametrize("more", [[], ["--task", "classification"]])
def test_a_target_that_is_all_unique_is_refused(adapt: Adapt, data: Path, more: list[str]) -> None:
    rows = [[a, b, f"part {place}"] for place, (a, b, _) in enumerate(measures())]
    said = adapt.refused(table(data, HEADER, rows), "--target", "label", *more)
    assert "'label'" in said and "different in each of its 60 rows" in said


def test_a_number_of_rows_is_no_target_of_a_regression(adapt: Adapt, data: Path) -> None:
    rows = [[a, b, place] for place, (a, b, _) in enumerate(measures())]
    assert "as a number of rows is" in adapt.refused(table(data, HEADER, rows), "--target", "label")


def test_a_class_with_one_sample_is_named_with_its_row(adapt: Adapt, data: Path) -> None:
    rows = measures()
    rows[5][2] = "odd"
    said = adapt.refused(table(data, HEADER, rows))
    assert "data.csv, line 7: class 'odd'" in said and "one sample" in said


def test_a_target_that_does_not_exist_suggests_the_nearest(adapt: Adapt, data: Path) -> None:
    said = adapt.refused(table(data, HEADER, measures()), "--target", "lable")
    assert "data.csv has no column 'lable'" in said and "--target 'label'" in said


def test_words_cannot_be_regressed(adapt: Adapt, data: Path) -> None:
    said = adapt.refused(table(data, HEADER, measures()), "--task", "regression")
    assert "line 2, column 'label'" in said and "is no number" in said


def test_dates_that_do_not_parse_are_named(adapt: Adapt, data: Path) -> None:
    rows = [[f"2024-01-01 {place // 60:02}:{place % 60:02}:00", a] for place, (a, _, _) in enumerate(measures(200))]
    rows[77][0] = "2024-13-01 01:17:00"
    said = adapt.refused(table(data, ["timestamp", "value"], rows))
    assert "data.csv, line 79, column 'timestamp': the date '2024-13-01 01:17:00' does not parse" in said


def test_dates_in_a_form_that_cannot_be_ordered_are_refused_where_they_are_needed(adapt: Adapt, data: Path) -> None:
    rows = [[f"day {place % 28 + 1} of {place // 28 + 1}", a] for place, (a, _, _) in enumerate(measures(200))]
    said = adapt.refused(table(data, ["date", "value"], rows), "--task", "anomaly")
    assert "line 2, column 'date': the date 'day 1 of 1' does not parse" in said


def test_a_day_that_no_month_has_is_named_in_dates_of_any_form(adapt: Adapt, data: Path) -> None:
    rows = [[f"{place % 28 + 1:02}.{place // 28 + 1:02}.2024", a] for place, (a, _, _) in enumerate(measures(200))]
    rows[58][0] = "31.02.2024"
    said = adapt.refused(table(data, ["date", "value"], rows))
    assert "line 60, column 'date': the date '31.02.2024' does not parse" in said


def test_spans_that_do_not_parse_are_named(adapt: Adapt, tmp_path: Path) -> None:
    rows = [[f"2024-01-01 {place // 60:02}:{place % 60:02}:00", a] for place, (a, _, _) in enumerate(measures(200))]
    table(tmp_path / "series" / "a.csv", ["timestamp", "value"], rows)
    (tmp_path / "series" / "windows.json").write_text('[["2024-01-01 01:00:00", "soon"]]')
    assert "entry 1: the date 'soon'" in adapt.refused(tmp_path / "series")


def test_a_stray_pdf_among_pictures_is_named(adapt: Adapt, tmp_path: Path) -> None:
    root = folders(tmp_path / "parts", good=25, bad=25)
    (root / "good" / "scan.pdf").write_bytes(b"%PDF-1.7")
    said = adapt.refused(root)
    assert "scan.pdf is no picture" in said and "move it out" in said


@pytest.mark.parametrize("content", [None, b"", b"no picture at all"])
def test_a_truncated_picture_is_named(adapt: Adapt, tmp_path: Path, content: bytes | None) -> None:
    root = folders(tmp_path / "parts", good=25, bad=25)
    broken = picture(root / "bad" / "broken.png", 77)
    broken.write_bytes(broken.read_bytes()[:200] if content is None else content)
    assert "broken.png cannot be read" in adapt.refused(root)


def test_a_few_truncated_pictures_among_many_are_a_finding(adapt: Adapt, tmp_path: Path) -> None:
    root = folders(tmp_path / "parts", good=100, bad=100)
    (root / "bad" / "bad-001.png").write_bytes(b"")
    found = adapt(root)
    assert found.rc == 0 and "corrupt files: bad-001.png: 1 of 200" in found.out


def test_a_class_of_one_picture_is_named(adapt: Adapt, tmp_path: Path) -> None:
    said = adapt.refused(folders(tmp_path / "parts", good=25, bad=1))
    assert "bad-000.png is the only sample of class 'bad'" in said


def test_one_folder_of_pictures_is_no_two_classes(adapt: Adapt, tmp_path: Path) -> None:
    assert "one class, 'good'" in adapt.refused(folders(tmp_path / "parts", good=5))


def test_too_many_folders_are_too_many_classes(adapt: Adapt, tmp_path: Path) -> None:
    for number in range(1001):
        (tmp_path / "parts" / f"c{number}").mkdir(parents=True)
    assert "holds 1,001 folders" in adapt.refused(tmp_path / "parts")


def test_a_hundred_thousand_classes_are_refused(adapt: Adapt, data: Path) -> None:
    rows = ((place % 7, place % 11, f"class {place // 2}") for place in range(200_000))
    said = adapt.refused(table(data, HEADER, rows), "--target", "label")
    assert "has 100,000 classes; at most 1,000" in said


def test_mixed_encodings_are_named_by_their_lines(adapt: Adapt, data: Path) -> None:
    lines = [f"{a},{b},{c}" for a, b, c in measures()]
    text = "\n".join(["width,height,label", *lines[:20]]).encode() + "\n1,2,größer\n".encode() + b"1,2,gr\xf6\xdfer\n"
    data.write_bytes(text)
    assert "mixes encodings: line 22 is UTF-8, line 23 is not" in adapt.refused(data)


def test_files_in_two_encodings_are_named(adapt: Adapt, tmp_path: Path) -> None:
    rows = [[a, b, "größer" if c == "good" else c] for a, b, c in measures()]
    table(tmp_path / "two" / "a.csv", HEADER, rows)
    table(tmp_path / "two" / "b.csv", HEADER, rows, encoding="cp1252")
    said = adapt.refused(tmp_path / "two")
    assert "a.csv is written in utf-8 and b.csv in cp1252" in said


def test_files_with_other_columns_are_named(adapt: Adapt, tmp_path: Path) -> None:
    table(tmp_path / "two" / "test.csv", HEADER[:2], [row[:2] for row in measures()])
    table(tmp_path / "two" / "train.csv", HEADER, measures())
    said = adapt.refused(tmp_path / "two")
    assert "train.csv has other columns than test.csv: it adds label" in said


@pytest.mark.parametrize(
    ("content", "what"),
    [(b"PK\x03\x04rest", "spreadsheet"), (b"\x1f\x8brest", "compressed"), (b"a,b\0,label\n1,2,3\n", "not text")],
)
def test_what_is_no_text_is_said_to_be_so(adapt: Adapt, data: Path, content: bytes, what: str) -> None:
    data.write_bytes(content)
    assert what in adapt.refused(data)


def test_a_truncated_parquet_is_named(adapt: Adapt, tmp_path: Path) -> None:
    path = tmp_path / "data.parquet"
    pq.write_table(pa.table({"a": list(range(1000)), "label": [0, 1] * 500}), path)
    path.write_bytes(path.read_bytes()[:-100])
    assert "data.parquet is no whole Parquet file" in adapt.refused(path)


def test_a_folder_with_nothing_to_learn_from_is_refused(adapt: Adapt, tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    assert "holds no picture and no table" in adapt.refused(tmp_path / "nothing")


def test_two_columns_of_one_name_are_named(adapt: Adapt, data: Path) -> None:
    said = adapt.refused(table(data, ["width", "width", "label"], measures()))
    assert "columns 1 and 2 are both called 'width'" in said


def test_a_lab_toml_that_is_broken_is_not_replaced(adapt: Adapt, data: Path) -> None:
    adapt.settings.write_text("[data\n")
    found = adapt(table(data, HEADER, measures()))
    assert found.rc == 1 and "no valid TOML" in found.err and found.text == "[data\n"


def test_names_with_spaces_and_other_letters_are_taken_as_they_are(adapt: Adapt, tmp_path: Path) -> None:
    path = table(tmp_path / "Größe und Güte.csv", ["Länge [mm]", "Höhe über Grund", "Güte"], measures())
    found = adapt(path, "--target", "Güte")
    assert found.rc == 0 and found.data["target"] == "Güte" and found.data["path"] == str(path)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
def test_other_encodings_are_named_in_the_settings(adapt: Adapt, data: Path, encoding: str) -> None:
    rows = [[a, b, "größer" if c == "good" else c] for a, b, c in measures()]
    found = adapt(table(data, HEADER, rows, encoding=encoding), "--target", "label")
    assert found.rc == 0 and codecs.lookup(found.data.get("encoding", "utf-8")).name != "ascii"
    assert found.data.get("encoding") == (None if encoding == "utf-8-sig" else encoding)


def test_a_file_larger_than_the_sample_is_read_in_part_and_counted_whole(
    adapt: Adapt, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sample, "ROWS", 2_000)
    found = adapt(table(data, HEADER, measures(30_000)), "--target", "label")
    read = re.search(r"30,000 rows, of which ([\d,]+) were read", found.out)
    assert found.rc == 0 and read and 1_900 <= int(read[1].replace(",", "")) <= 2_000
