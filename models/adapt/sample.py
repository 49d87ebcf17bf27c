"""Rows of a table within bounded memory: all of a small one; head and places spread over a larger one."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from models import tables
from models.adapt import encoding, form
from models.adapt.form import Form
from models.adapt.problem import AdaptError, some

ROWS = 200_000
CELLS = 3_000_000
PLACES = 16
# So many different cells of a column say how its numbers are written.
LOOKED_AT = 1000
MOSTLY = 0.8
CHUNK = 1 << 23


@dataclass
class Sample:
    """Cells as text by column, "" for none; of each row the file it stands in and its line (a Parquet's row).

    rows    in all files, counted or, where quotes may hold line ends, nearly so
    whole   whether every row is here
    head    how many rows of the first file follow each other from its start
    decimal what stands before the decimals of its numbers, a point or a comma; `sure` when a cell proves it
    """

    form: Form
    files: list[Path]
    cells: dict[str, list[str]]
    file: list[int] = field(default_factory=list)
    line: list[int] = field(default_factory=list)
    rows: int = 0
    whole: bool = True
    head: int = 0
    decimal: str = "."
    sure: bool = True

    def __len__(self) -> int:
        return len(self.line)

    def where(self, row: int) -> str:
        """File and line of a row, for people."""
        name = self.files[self.file[row]].name
        at = "row" if self.form.format == "parquet" else "line"
        return f"{name}, {at} {self.line[row]}" if self.line[row] else f"{name}, near row {row + 1} of the sample"


def read(files: Sequence[Path]) -> Sample:
    """A sample of the rows of `files`, which have the same columns. Raises AdaptError."""
    first = form.detect(files[0])
    known = _agreed(files, first)
    found = Sample(known, list(files), {name: [] for name in known.names})
    budget = max(200, min(ROWS, CELLS // max(1, len(known.names))) // len(files))
    columns = list(found.cells.values())
    for place, path in enumerate(files):
        rows = _rows(path, known, budget)
        before = len(found)
        for line, row in rows:
            if line < 0:  # the last item: how many rows there are
                found.rows += -line - 1
                found.whole &= len(found) - before == -line - 1
                break
            for cells, cell in zip(columns, row, strict=True):
                cells.append(cell.strip())
            found.file.append(place)
            found.line.append(line)
        if place == 0:
            found.head = next((at for at, line in enumerate(found.line) if not line), len(found))
    found.decimal, found.sure = _decimal(found)
    return found


def _decimal(found: Sample) -> tuple[str, bool]:
    """What stands before decimals, by the columns of numbers, and whether a cell proves it; `1,234` proves nothing."""
    proofs = {".": 0, ",": 0}
    open_ = 0
    for cells in found.cells.values():
        texts = [text for text in itertools.islice(dict.fromkeys(cells), LOOKED_AT) if text not in form.NO_VALUE]
        both = [{mark for mark in proofs if tables.is_number(tables.plain(text, mark))} for text in texts]
        if not texts or sum(map(bool, both)) < MOSTLY * len(texts):
            continue
        for text, marks in zip(texts, both, strict=True):
            if "," not in text and "." not in text:
                continue
            if len(marks) == 1:
                proofs[marks.pop()] += 1
            elif "," in text:
                open_ += 1
            elif marks and not tables.THOUSANDS[","].fullmatch(text):
                proofs["."] += 1
    if proofs["."] or proofs[","]:
        return max(proofs, key=lambda mark: proofs[mark]), True
    return ("," if open_ and found.form.delimiter == ";" else "."), not open_


def _rows(path: Path, known: Form, budget: int) -> Iterator[tuple[int, list[str]]]:
    return _parquet(path, budget) if known.format == "parquet" else _text(path, known, budget)


def _agreed(files: Sequence[Path], first: Form) -> Form:
    """The form of all files. Raises AdaptError when one differs from the first."""
    written = {first.encoding: files[0]}
    for path in files[1:]:
        other = form.detect(path)
        if (other.format, other.delimiter, other.header) != (first.format, first.delimiter, first.header):
            raise AdaptError(f"{path} is written otherwise than {files[0].name}", f"{_alone(path)}")
        if other.names != first.names:
            lacks = [name for name in first.names if name not in other.names]
            adds = [name for name in other.names if name not in first.names]
            what = f"lacks {some(lacks)}" if lacks else f"adds {some(adds)}" if adds else "orders them otherwise"
            raise AdaptError(
                f"{path} has other columns than {files[0].name}: it {what}",
                f"files of one table have the same columns; {_alone(files[0])}",
            )
        if not (other.encoding == "utf-8" and encoding_free(path)):
            written.setdefault(other.encoding, path)
    if len(written) > 1 and "utf-8" in written and encoding_free(written["utf-8"]):
        del written["utf-8"]
    if len(written) > 1:
        (one, here), (two, there) = list(written.items())[:2]
        raise AdaptError(f"{here} is written in {one} and {there.name} in {two}", "save all files as UTF-8")
    return Form(**{**vars(first), "encoding": next(iter(written))})


def encoding_free(path: Path) -> bool:
    """Whether a file reads alike in UTF-8 and Windows-1252."""
    return path.suffix.lower() == ".parquet" or encoding.is_plain(path)


def _alone(path: Path) -> str:
    return f"move one out of the folder, or take one alone: lab adapt {path}"


def _text(path: Path, known: Form, budget: int) -> Iterator[tuple[int, list[str]]]:
    """(line, cells) of each row, line 0 after a seek; at last (-1 - rows, [])."""
    seen = 0
    with path.open(encoding=known.encoding, newline="") as stream:
        rows = _lines(stream, path, known)
        if known.header:
            next(rows, None)
        head = list(itertools.islice(rows, budget + 1))
    if len(head) <= budget:
        yield from head
        seen = len(head)
    else:
        yield from head[: budget // 2]
        yield from _spread(path, known, budget // 2)
        seen = _count(path, known) - known.header
    yield -1 - seen, []


def _lines(stream: Iterator[str], path: Path, known: Form) -> Iterator[tuple[int, list[str]]]:
    """(line, cells) of every row. Raises AdaptError for one of another width."""
    for number, row in _numbered(stream, path, known):
        if len(row) != len(known.names):
            raise AdaptError(
                f"{path}, line {number} has {len(row)} cells, the table has {len(known.names)} columns",
                f"mend line {number}: a cell too many or too few, a separator in a text without quotes, or a file "
                "that was cut off",
            )
        yield number, row


def _numbered(stream: Iterator[str], path: Path, known: Form) -> Iterator[tuple[int, list[str]]]:
    return _spaced(stream) if known.format == "whitespace" else _quoted(stream, path, known.delimiter)


def _spaced(stream: Iterator[str]) -> Iterator[tuple[int, list[str]]]:
    return ((number, line.split()) for number, line in enumerate(stream, 1) if line.strip())


def _quoted(stream: Iterator[str], path: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(stream, delimiter=delimiter)
    start = 1
    try:
        for row in reader:
            if row:
                yield start, row
            start = reader.line_num + 1
    except csv.Error as error:
        raise AdaptError(
            f"{path}, line {start} cannot be read: {error}", f"mend line {start}; is a quote opened and never closed?"
        ) from None
    except UnicodeDecodeError as error:
        raise AdaptError(f"{path}, after line {start}: {error.reason}", "save the whole file as UTF-8") from None


def _spread(path: Path, known: Form, budget: int) -> Iterator[tuple[int, list[str]]]:
    """Rows from places spread over a file; what a seek cut apart is left out."""
    size, each = path.stat().st_size, max(1, budget // PLACES)
    with path.open("rb") as stream:
        for place in range(PLACES):
            stream.seek(int(size * (0.5 + 0.5 * place) / (0.5 * PLACES + 0.5)) // 4 * 4)
            chunk = stream.read(each * 4096 if known.format == "csv" else CHUNK)[:CHUNK]
            text = chunk.decode("utf-16-le" if known.encoding == "utf-16" else known.encoding, "replace")
            lines = text.splitlines()[1:-1][:each]
            try:
                yield from ((0, row) for row in form.split(lines, known.format, known.delimiter)
                            if len(row) == len(known.names))  # fmt: skip
            except csv.Error:
                continue


def _count(path: Path, known: Form) -> int:
    """Lines of a file, read as a stream."""
    end = b"\n\0" if known.encoding.startswith("utf-16") else b"\n"
    count, last = 0, b""
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            count += chunk.count(end)
            last = chunk[-len(end) :]
    return count + (last != end)


def _parquet(path: Path, budget: int) -> Iterator[tuple[int, list[str]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
        total, groups = file.metadata.num_rows, file.num_row_groups
        if not total:
            raise AdaptError(f"{path} has columns and no row", "give a file with rows, or leave it out")
        kept = list(range(groups)) if total <= budget else sorted({*range(0, groups, max(1, groups // PLACES))})
        each = budget if len(kept) == 1 or total <= budget else max(1, budget // len(kept))
        starts = [0, *itertools.accumulate(file.metadata.row_group(group).num_rows for group in range(groups))]
        for group in kept:
            taken = 0
            for batch in file.iter_batches(min(8192, each), row_groups=[group]):
                for row in batch.slice(0, each - taken).to_pylist():
                    taken += 1
                    yield starts[group] + taken, ["" if value is None else str(value) for value in row.values()]
                if taken >= each:
                    break
    except (OSError, pa.ArrowException) as error:
        raise AdaptError(f"{path} cannot be read: {str(error).splitlines()[0]}", "copy or write it again") from None
    yield -1 - total, []
