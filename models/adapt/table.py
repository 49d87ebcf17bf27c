"""A table or series from its files to a report: roles of columns, task, what is excluded and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from models import datafiles
from models.adapt import columns as measure
from models.adapt import guess as guesses
from models.adapt import leaks, rows, sample, series, target, threshold
from models.adapt.columns import CATEGORY, DATE, EMPTY, NUMBER, TEXT, Column
from models.adapt.finding import EXCLUDED, NOTE, Finding
from models.adapt.guess import Guess
from models.adapt.problem import AdaptError, some
from models.adapt.report import Options, Report
from models.adapt.sample import Sample
from models.adapt.source import Found
from models.tablefiles import PARTS

Floats = npt.NDArray[np.float64]
CHANCE = 0.15


def adapt(found: Found, options: Options) -> Report:
    """The report of the tables in `found`. Raises AdaptError."""
    taken = sample.read(found.tables)
    if not len(taken):
        raise AdaptError(f"{found.tables[0]} has no row", "give a file with rows")
    if len(taken.cells) < 2:
        raise AdaptError(f"{found.tables[0]} has one column, '{next(iter(taken.cells))}'",
                         "a target and one input at least are needed, or a time and a reading")  # fmt: skip
    table = Table(found, options, taken, measure.measure(taken, options.missing))
    return table.report()


class Table:
    """One table while it is being understood; `report` goes through the steps in order."""

    def __init__(self, found: Found, options: Options, taken: Sample, columns: dict[str, Column]) -> None:
        self.found, self.options, self.sample, self.columns = found, options, taken, columns
        self.guesses: list[Guess] = []
        self.findings: list[Finding] = []
        self.excluded: dict[str, str] = {}
        for option in ("target", "group", "time"):
            if name := getattr(options, option):
                measure.refuse_unknown(columns, name, option, found.tables[0])
        if options.time:
            measure.refuse_bad_dates(columns[options.time], taken)
        self.group, self.time = guesses.unit_and_time(columns, options.group, options.time, options.target)
        self.spans, self.spans_file = series.spans(found.documents, options)
        self.modality = self._modality()
        self.target = self._target()
        if self._roles_leak():
            self.group, self.time = guesses.none("group"), guesses.none("time")
            self.modality = self._modality()
        self.task = self._task()

    def report(self) -> Report:
        """Finds, excludes and concludes."""
        self._check_roles()
        truth, kinds = self._truth()
        self._exclude(truth, bool(kinds))
        inputs = [name for name in self.columns if name not in self.excluded and name not in self._roles()]
        if not inputs:
            raise AdaptError(
                f"{self.found.tables[0]}: no column is left as input; excluded: {some(self.excluded)}",
                "bring the columns that the target depends on, or name another --target",
            )
        counts = self._counts(truth, kinds)
        self._look(inputs, truth, kinds, counts)
        lengths = series.lengths(self.columns, self.group.value, self.sample)
        data = self._settings(inputs, lengths)
        for column in self.columns.values():
            if column.note and column.name not in self.excluded:
                self.guesses.append(Guess("missing", column.name, 0.7, column.note, "[data] missing in lab.toml"))
        if not self.sample.sure:
            what = "thousands" if self.sample.decimal == "." else "decimals"
            why = f"a comma in numbers such as 1,234 stands before {what}"
            self.guesses.append(Guess("decimal", self.sample.decimal, 0.7, why, "[data] decimal in lab.toml"))
        gate = threshold.gate(self.task.value, truth, counts, data)
        roles = dict.fromkeys(self.excluded, "excluded") | self._roles()
        told = [] if not self.target.value else [self.target]
        told += [self.task, self.group, self.time, *self.guesses]
        report = Report(data, gate, self._what(), self.sample.rows, told, self.findings, classes=counts)
        report.columns = list(measure.summary(self.columns, roles))
        report.drawings = series.drawing(self.columns, inputs, self.time.value, self.spans, self.modality)
        return report

    def _modality(self) -> str:
        time = self.columns[self.time.value] if self.time.value else None
        if self.options.task in ("rul", "anomaly") or self.spans:
            return "timeseries"
        if time is None:
            return "tabular"
        if self.group.value and self.time.value and self.group.sure >= 0.8:
            return "timeseries"
        return "timeseries" if guesses.ordered(time) and guesses.regular(time) else "tabular"

    def _target(self) -> Guess:
        if self.options.target:
            return Guess("target", self.options.target, 1.0, "as asked for", "--target COLUMN")
        if self.spans or self.options.task == "rul":
            return Guess("target", "", 1.0, "the task needs none", "--target COLUMN")
        taken = [self.group.value, self.time.value]
        found = guesses.target(self.columns, taken, self.modality == "timeseries")
        if not found.value and self.modality == "tabular":
            name = max(self.columns, key=lambda name: self.columns[name].distinct)
            raise AdaptError(
                f"{self.found.tables[0]}: no column suggests itself as target; each is constant, text or unique",
                f"name it: --target COLUMN; the columns are {some(self.columns, 20)}" if name else "",
            )
        return found

    def _roles_leak(self) -> bool:
        """Whether a guessed unit or time is the target in disguise, which is then no unit and no time."""
        if not self.target.value or self.options.group or self.options.time:
            return False
        truth = self.columns[self.target.value].values
        roles = [self.columns[name] for name in (self.group.value, self.time.value) if name]
        doubtful = [role.values for role in roles if role.kind != DATE]
        return any(leaks.one_to_one(values, truth) or leaks.follows(values, truth, False) for values in doubtful)

    def _task(self) -> Guess:
        column = self.columns[self.target.value] if self.target.value else None
        failing = series.run_to_failure(self.columns, self.group.value, self.time.value, self.sample)
        found = guesses.task(column, self.modality, self.options.task, failing=failing, spans=bool(self.spans))
        if found.value not in ("rul", "anomaly") and column is None:
            raise AdaptError(f"{found.value} needs a target", f"--target COLUMN, of {some(self.columns, 20)}")
        return found

    def _roles(self) -> dict[str, str]:
        every = {self.target.value: "target", self.group.value: "group", self.time.value: "time"}
        return {name: role for name, role in every.items() if name}

    def _check_roles(self) -> None:
        given = [name for name in (self.target.value, self.group.value, self.time.value) if name]
        if len(set(given)) < len(given):
            raise AdaptError(f"'{Counter(given).most_common(1)[0][0]}' cannot have two roles",
                             "give --target, --group and --time different columns")  # fmt: skip
        missing = [role for role, found in (("group", self.group), ("time", self.time)) if not found.value]
        if self.task.value == "rul" and missing:
            raise AdaptError(
                f"remaining useful life needs units and their time; no column suggests itself as {missing[0]}",
                f"name it: --{missing[0]} COLUMN; the columns are {some(self.columns, 20)}",
            )
        if self.modality == "timeseries" and not self.time.value:
            self._refuse_dates()
            raise AdaptError("a series needs a column that orders its rows; none does", "name it: --time COLUMN")

    def _refuse_dates(self) -> None:
        for name, column in self.columns.items():
            if set(measure.tokens(name)) & measure.TIME_WORDS or column.note.startswith("looks like dates"):
                measure.refuse_bad_dates(column, self.sample)

    def _truth(self) -> tuple[Floats, tuple[str, ...]]:
        """The target per row and the names of its classes, none when it is a quantity. Raises AdaptError."""
        if self.task.value == "rul":
            return series.remaining(self.columns, self.group.value, self.time.value, self.sample), ()
        if self.task.value == "anomaly":
            return series.labels(self.columns, self.target.value, self.time.value, self.spans), ("normal", "anomaly")
        column = self.columns[self.target.value]
        try:
            target.check(column, self.task.value, self.sample)
        except AdaptError as error:
            if self.options.target:
                raise
            guessed = f"'{column.name}' as target: it is a guess ({self.target.why}): --target COLUMN names another"
            raise AdaptError(error.message, f"{error.remedy}; {guessed}") from None
        if self.task.value == "regression":
            return column.values, ()
        places = np.unique(column.values, return_inverse=True)[1]
        words = column.words()
        names = {int(place): words[row] for row, place in enumerate(places) if words[row]}
        return np.where(column.present, places, np.nan), tuple(names[place] for place in sorted(names))

    def _exclude(self, truth: Floats, classes: bool) -> None:
        roles = self._roles()
        free = [name for name in self.columns if name not in roles]
        usable = [name for name in free if self.columns[name].distinct > 1]
        shuffled = not self.time.value
        for finding in leaks.find(self.columns, usable, truth, classes=classes, shuffled=shuffled):
            self._out(finding)
        for name in free:
            column = self.columns[name]
            if name in self.excluded:
                continue
            if column.distinct <= 1:
                said = "has no value" if column.kind == EMPTY else f"holds one value in all {len(self.sample)} rows"
                self._out(Finding("constant", name, said, EXCLUDED))
            elif column.kind == DATE or column.note.startswith("looks like dates"):
                self._out(Finding("date", name, column.note or "a date that orders no rows here", EXCLUDED))
            elif column.note.startswith(measure.SIGNED):
                self._out(Finding("text", name, column.note, EXCLUDED))
            elif guesses.looks_like_id(column) or self._names_rows(column, truth, classes):
                said = f"different in each of the {column.distinct} rows that have it, so it names them"
                self._out(Finding("identifier", name, said, EXCLUDED))
            elif column.kind == TEXT:
                said = f"free text, {column.distinct} different values in {len(self.sample)} rows"
                self._out(Finding("text", name, said, EXCLUDED))

    def _names_rows(self, column: Column, truth: Floats, classes: bool) -> bool:
        """Whether whole numbers, different in each row, go with the target by chance only."""
        there = int(column.present.sum())
        unique = column.distinct == there == len(column.values)
        if not (column.integer and unique) or there < 50 or self.modality == "timeseries":
            return False
        return bool(leaks.strength(column.values, truth, classes=classes) < max(CHANCE, 2 / there**0.5))

    def _out(self, finding: Finding) -> None:
        self.excluded[finding.subject] = finding.kind
        self.findings.append(finding)

    def _counts(self, truth: Floats, kinds: Sequence[str]) -> dict[str, int]:
        if not kinds:
            return {}
        counted = np.bincount(truth[~np.isnan(truth)].astype(int), minlength=len(kinds))
        return {name: int(count) for name, count in zip(kinds, counted, strict=True)}

    def _look(self, inputs: list[str], truth: Floats, kinds: Sequence[str], counts: Mapping[str, int]) -> None:
        lost = int(np.isnan(truth).sum())
        if lost and self.target.value:
            share = f"{lost} of {len(truth)} rows have none"
            self.findings.append(Finding("missing target", self.target.value, f"{share}; they cannot teach"))
        tabular = self.modality == "tabular"
        if tabular:
            self.findings += rows.duplicates(self.columns, inputs, truth, self.sample)
        if kinds and self.task.value == "classification":
            self.findings += rows.balance(counts)
            if tabular:
                values = rows.matrix(self.columns, [name for name in inputs if self.columns[name].kind == NUMBER])
                self.findings += rows.doubtful(values, truth, kinds, self.sample)
        elif self.task.value == "anomaly":
            self.findings += series.balance(counts, self.spans)
        if self.modality == "timeseries":
            self.findings += series.repeated(self.columns, self.group.value, self.time.value)
        self.findings += rows.size(self.sample.rows)
        if parts := self._parts():
            train = np.isin(self.sample.file, [place for place, part in parts.items() if part == "train"])
            self.findings += rows.moved(self.columns, inputs, train)
        for name in inputs:
            absent = 1 - float(self.columns[name].present.mean())
            if absent > 0.5:
                self.findings.append(Finding("missing values", name, f"{absent:.0%} of the rows have none", NOTE))

    def _parts(self) -> dict[int, str]:
        """The part that each file is of, when there are both."""
        parts = {place: match[1].lower() for place, path in enumerate(self.sample.files)
                 if (match := PARTS.match(path.stem))}  # fmt: skip
        return parts if len(set(parts.values())) == 2 else {}

    def _settings(self, inputs: Sequence[str], lengths: Sequence[int]) -> dict[str, Any]:
        form = self.sample.form
        root = self.found.tables[0] if len(self.found.tables) == 1 else self.found.root
        name = self.found.root.resolve()
        data: dict[str, Any] = {
            "dataset": datafiles.slug(name.stem if name.is_file() else name.name), "path": str(root),
            "modality": self.modality, "task": self.task.value, "target": self.target.value,
            "group": self.group.value, "time": self.time.value, "exclude": list(self.excluded),
            "categories": [column for column in inputs if self.columns[column].kind == CATEGORY],
            "missing": measure.missing_marks(self.columns),
            "format": form.format, "header": form.header, "delimiter": form.delimiter, "encoding": form.encoding,
            "decimal": self.sample.decimal,
        }  # fmt: skip
        if self.time.value:
            data["dates"] = self.columns[self.time.value].pattern
        if self.modality == "timeseries":
            time = self.columns[self.time.value]
            data |= series.windows(self.task.value, self.sample.rows, lengths, self.spans, time)
            data["intervals"] = self.spans_file
        usual = {"format": "csv", "header": True, "delimiter": ",", "encoding": "utf-8", "decimal": "."}
        return {key: value for key, value in data.items() if value not in ("", []) and usual.get(key) != value}

    def _what(self) -> str:
        form, files = self.sample.form, len(self.sample.files)
        about = "" if self.sample.whole else f", of which {len(self.sample):,} were read"
        kind = {"csv": "CSV", "whitespace": "text with spaces between cells", "parquet": "Parquet"}[form.format]
        how = "" if form.format == "parquet" else f" in {form.encoding}{'' if form.header else ', without header'}"
        count = f"{files} files, " if files > 1 else ""
        return f"{count}{self.sample.rows:,} rows{about}, {len(self.columns)} columns, {kind}{how}"
