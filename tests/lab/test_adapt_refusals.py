"""`lab adapt` on bad data: one message that names file, row or column and the remedy, exit 1, lab.toml as it was."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from adapted import folders, measures, picture, table

from lab import cli

ROOT = Path(__file__).parents[2]
HEADER = ["width", "height", "label"]
BEFORE = b'# signed on Monday\r\n[data]\ndataset = "digits"\n'


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, whose settings must stay."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for name in ("LAB_CONFIG", "LAB_HOME", "LAB_OVERRIDES", "LAB_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    (folder / "lab.toml").write_bytes(BEFORE)
    return folder


def of_rows(change: Callable[[list[list[object]]], object], header: list[str] = HEADER) -> Callable[[Path], object]:
    """Writes a table whose rows `change` has changed."""

    def write(path: Path) -> None:
        rows = measures()
        change(rows)
        table(path, header, rows)

    return write


def of_dates(path: Path) -> None:
    rows = [[f"2024-01-01 {n // 60:02}:{n % 60:02}:00", a] for n, (a, _, _) in enumerate(measures(200))]
    rows[77][0] = "2024-13-01 01:17:00"
    table(path, ["timestamp", "value"], rows)


def of_parquet(path: Path) -> None:
    pq.write_table(pa.table({"a": list(range(1000)), "label": [0, 1] * 500}), path)
    path.write_bytes(path.read_bytes()[:-100])


def of_pictures(spoil: Callable[[Path], object], bad: int = 25) -> Callable[[Path], object]:
    """Writes two folders of pictures, and then `spoil`."""
    return lambda path: spoil(folders(path, good=25, bad=bad))


def nothing(path: Path) -> None:
    """Spoils nothing, and writes nothing."""


def cut(root: Path) -> None:
    path = picture(root / "bad" / "broken.png", 77)
    path.write_bytes(path.read_bytes()[:200])


def many(path: Path) -> None:
    table(path, HEADER, ((n % 7, n % 11, f"class {n // 2}") for n in range(200_000)))


def hundred_thousand(path: Path) -> None:
    for number in range(1_200):
        (path / f"c{number}").mkdir(parents=True)


CASES: dict[str, tuple[str, Callable[[Path], object], list[str], tuple[str, ...]]] = {
    "an empty file": ("a.csv", Path.touch, [], ("a.csv is empty", "leave it out")),
    "a header alone": ("a.csv", of_rows(list.clear), [], ("a.csv has a header and no row", "give a file with rows")),
    "a ragged row": ("a.csv", of_rows(lambda rows: rows[40].append("more")), [],
                     ("a.csv, line 42 has 4 cells, the table has 3 columns", "mend line 42")),
    "a truncated table": ("a.csv", of_rows(lambda rows: rows[59].pop()), [],
                          ("line 61 has 2 cells", "a file that was cut off")),
    "a truncated parquet": ("a.parquet", of_parquet, [], ("a.parquet is no whole Parquet file", "copy or write it")),
    "a zip by another name": ("a.csv", lambda path: path.write_bytes(b"PK\x03\x04rest"), [],
                              ("a.csv is a zip archive or spreadsheet", "as CSV")),
    "a compressed table": ("a.csv.gz", lambda path: path.write_bytes(b"\x1f\x8brest"), [],
                           ("a.csv.gz is compressed (gzip)", "gunzip")),
    "text among numbers": ("a.csv", of_rows(lambda rows: rows[10].__setitem__(1, "tall")), [],
                           ("a.csv, line 12, column 'height': 'tall' is no number", "--missing 'tall'")),
    "one class": ("a.csv", of_rows(lambda rows: [row.__setitem__(2, "good") for row in rows]), ["--target", "label"],
                  ("'label' of a.csv has one class: 'good' in all 60 rows", "another --target")),
    "all unique": ("a.csv", of_rows(lambda rows: [row.__setitem__(2, f"part {n}") for n, row in enumerate(rows)]),
                   ["--target", "label"], ("different in each of its 60 rows", "--task regression")),
    "a class of one row": ("a.csv", of_rows(lambda rows: rows[5].__setitem__(2, "odd")), [],
                           ("a.csv, line 7: class 'odd'", "has one sample", "leave its row out")),
    "no such target": ("a.csv", of_rows(list.copy), ["--target", "lable"],
                       ("a.csv has no column 'lable'", "--target 'label' is the nearest")),
    "no such file": ("b.csv", nothing, [], ("there is no file or folder b.csv", "give a folder or a file")) ,
    "a bad date": ("a.csv", of_dates, [],
                   ("line 79, column 'timestamp': the date '2024-13-01 01:17:00' does not parse", "2014-02-07")),
    "a stray PDF": ("parts", of_pictures(lambda root: (root / "good" / "scan.pdf").write_bytes(b"%PDF-1.7")), [],
                    ("scan.pdf is no picture", "move it out")),
    "a truncated picture": ("parts", of_pictures(cut), [], ("bad/broken.png cannot be read", "copy it again")),
    "a class of one picture": ("parts", of_pictures(nothing, 1), [],
                               ("bad-000.png is the only sample of class 'bad'", "bring more pictures")),
    "100,000 classes in a column": ("a.csv", many, ["--target", "label"],
                                    ("has 100,000 classes; at most 1,000 are learned", "merge classes")),
    "a folder for each of too many classes": ("parts", hundred_thousand, [],
                                              ("holds 1,200 folders", "as many classes", "merge classes")),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_bad_data_is_one_message_with_place_and_remedy(
    here: Path, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    name, write, options, expected = CASES[case]
    write(here / name)
    assert cli.main(["adapt", name, *options]) == 1
    said = capsys.readouterr()
    message, remedy = said.err.splitlines()
    assert said.out == "" and message.startswith("lab: ") and remedy.startswith("  try: ")
    for part in expected:
        assert part in said.err
    assert (here / "lab.toml").read_bytes() == BEFORE and not (here / ".lab" / "data-card.html").exists()


def test_a_path_without_permission_is_named(here: Path) -> None:
    path = table(here / "a.csv", HEADER, measures())
    path.chmod(0)
    argv = [sys.executable, "-m", "lab", "adapt", str(path)]
    if os.geteuid() == 0:  # who may read anything, unless the right to is taken away
        if not shutil.which("setpriv"):
            pytest.skip("runs as the superuser, and setpriv (util-linux) is missing: run it as another user")
        argv = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", *argv]
    env = {**os.environ, "LAB_CONFIG": str(here / "lab.toml"), "LAB_HOME": str(here / ".lab")}
    done = subprocess.run(argv, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (1, ""), done.stderr
    message, remedy = done.stderr.splitlines()
    assert message == f"lab: {path} cannot be read: no permission" and f"chmod u+r '{path}'" in remedy
    assert (here / "lab.toml").read_bytes() == BEFORE


@pytest.mark.slow
def test_a_file_four_times_as_large_as_the_memory_that_may_be_used_is_taken(here: Path) -> None:
    block = "".join(f"{a},{b},{c}\n" for a, b, c in measures(20_000)).encode()
    path, times = here / "large.csv", 2_000_000_000 // len(block)
    with path.open("wb") as stream:
        stream.write(b"width,height,label\n")
        for _ in range(times):
            stream.write(block)
    size = path.stat().st_size // 4
    program = f"import resource, runpy; resource.setrlimit(resource.RLIMIT_DATA, ({size}, {size})); " \
        "runpy.run_module('lab', run_name='__main__')"  # fmt: skip
    env = {**os.environ, "LAB_CONFIG": str(here / "lab.toml"), "LAB_HOME": str(here / ".lab")}
    argv = [sys.executable, "-c", program, "adapt", str(path)]
    done = subprocess.run(argv, cwd=ROOT, env=env, capture_output=True, text=True, timeout=200)
    path.unlink()
    assert done.returncode == 0, done.stderr
    assert f"{20_000 * times:,} rows, of which" in done.stdout
