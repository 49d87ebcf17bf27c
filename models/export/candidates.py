"""Makes a trained net's candidates, each format once, and measures them under a target's conditions, each once."""

from __future__ import annotations

import importlib
import logging
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np

from models.export import footprint, formats, onnx, package, trials
from models.export.exporter import PLAIN, Export, Exported, Quantise, Recipe, Source, Unavailable, quiet
from models.export.fidelity import Samples
from models.export.formats import Format
from models.export.trials import Conditions, Measured

log = logging.getLogger(__name__)

# A package under measurement must load whatever it answers: what it lost is measured, not refused.
ANY = 1e9
WHOLE_SET = ("openvino", "executorch")
T = TypeVar("T")


@dataclass(frozen=True)
class Made:
    """One artefact: its format, what its exporter wrote, and the folder that holds it as a package to measure.

    `recipe` is how it was quantised, `tuned` whether from a net that was fine-tuned for it.
    """

    form: Format
    exported: Exported
    package: Path
    recipe: Recipe = PLAIN
    tuned: bool = False

    @property
    def files(self) -> tuple[str, ...]:
        return self.exported.files

    @property
    def bytes(self) -> int:
        """Of the artefact's files."""
        return sum((self.package / name).stat().st_size for name in self.files)


@dataclass(eq=False)
class Candidates:
    """All that a release tried, kept so that two targets with equal conditions measure once."""

    source: Source
    samples: Samples
    version: str
    run: str
    scratch: Path
    _made: dict[str, Made | Unavailable] = field(default_factory=dict)
    _measured: dict[tuple[Path, Conditions], Measured | Unavailable] = field(default_factory=dict)
    _contests: dict[tuple[frozenset[str], int], dict[str, float]] = field(default_factory=dict)

    def made(self, name: str, allowed: Iterable[str]) -> Made:
        """The artefact of a format. Raises Unavailable with the reason why there is none."""
        if name not in self._made:
            _ask(name, allowed)  # not remembered: another target may allow it
            self._made[name] = self._make(formats.BY_NAME[name])
        return _given(self._made[name])

    def remade(self, name: str, recipe: Recipe, source: Source | None = None) -> Made:
        """A format by another recipe, of the net or of `source`, tuned for it. Raises Unavailable."""
        return _given(self._make(formats.BY_NAME[name], recipe, source))

    def adopt(self, made: Made) -> None:
        """From now on this is the artefact of its format, for every target."""
        self._made[made.form.name] = made
        self._contests.clear()

    def measured(self, made: Made, conditions: Conditions) -> Measured:
        """The figures of an artefact under the conditions. Raises Unavailable."""
        key = (made.package, conditions)
        if key not in self._measured:
            self._measured[key] = self._known(made, conditions) or self._measure(made, conditions)
        return _given(self._measured[key])

    def contest(self, names: Iterable[str], conditions: Conditions) -> dict[str, float]:
        """Median milliseconds of measured formats, asked in turn."""
        packages = {name: _given(self._made[name]).package for name in names}
        key = (frozenset(packages), conditions.threads)
        if key not in self._contests:
            self._contests[key] = trials.contest(packages, self._tensors(), conditions)
        return self._contests[key]

    def _make(self, form: Format, recipe: Recipe = PLAIN, source: Source | None = None) -> Made | Unavailable:
        folder = Path(tempfile.mkdtemp(prefix=f"{form.name}-", dir=self.scratch))
        start = time.perf_counter()
        try:
            module = importlib.import_module(f"models.export.{form.exporter}")
            with quiet():
                given = source or self.source
                if recipe == PLAIN:
                    exported = cast("Export", module.export)(given, form.name, folder)
                else:
                    exported = cast("Quantise", module.export)(given, form.name, folder, recipe)
        except Unavailable as error:
            return error
        except Exception as error:
            # Each exporter has nets that it cannot take, and its own way to say so; the others go on.
            log.info("%s: %s", form.name, error, exc_info=log.isEnabledFor(logging.DEBUG))
            return Unavailable(f"its exporter failed: {type(error).__name__}: {_first_line(error)}")
        log.info("%s made in %.1f s", form.name, time.perf_counter() - start)
        golden = (self.samples.tensors[: package.GOLDEN], self.samples.expected[: package.GOLDEN])
        package.write(
            folder, version=self.version, run=self.run, form=form, files=exported.files, contract=self.source.contract,
            opset=onnx.OPSET, p95_ms=None, tolerance=ANY, golden=golden,
        )  # fmt: skip
        return Made(form, exported, folder, recipe, source is not None)

    def _measure(self, made: Made, conditions: Conditions) -> Measured | Unavailable:
        out = self.scratch / "measured" / f"{made.package.name}-{conditions.threads}-{conditions.batch}"
        try:
            found = trials.run(made.package, self._tensors(), conditions, out)
        except Unavailable as error:
            return error
        log.info("%s measured: p50 %.3f ms", made.form.name, found.figures["p50_ms"])
        return found

    def _known(self, made: Made, conditions: Conditions) -> Measured | Unavailable | None:
        """What was measured on as many threads at a larger batch, for a target whose batch is 1: p50 is its throughput.

        Its peak of memory is that of the larger batch, which is no less.
        """
        if conditions.batch != 1 or made.form.by_batch:
            return None
        for (path, other), found in self._measured.items():
            if (path, other.threads) == (made.package, conditions.threads):
                if isinstance(found, Unavailable):
                    return found
                return replace(found, figures={**found.figures, "throughput_per_s": 1000.0 / found.figures["p50_ms"]})
        return None

    def _tensors(self) -> Path:
        """The samples where a child reads them."""
        path = self.scratch / "samples.npy"
        if not path.is_file():
            np.save(path, self.samples.tensors)
        return path


def describe(made: Made, measured: Measured, samples: Samples) -> dict[str, Any]:
    """The figures of one row of the manifest."""
    figures = {key: float(value) for key, value in measured.figures.items()}
    return {
        "sha256": package.sha256(made.package / made.files[0]),
        "bytes": made.bytes,
        **figures,
        "install_mb": footprint.install_mb((*made.form.runs, "numpy")),
        **samples.figures_of(measured.answers),
        "notes": made.exported.notes,
    }


def _ask(name: str, allowed: Iterable[str]) -> None:
    """Raises Unavailable for a format that cannot, or need not, be made here."""
    if name not in formats.BY_NAME:
        raise Unavailable(f"no exporter makes {name}; there are {', '.join(formats.BY_NAME)}")
    form = formats.BY_NAME[name]
    missing = formats.absent(tuple(dict.fromkeys((*form.makes, *form.runs))))
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        raise Unavailable(f"{' and '.join(missing)} {verb} not installed here; {_remedy(form)}")
    if form.slow and name not in allowed and formats.absent(WHOLE_SET):
        raise Unavailable("compiling it takes a minute: it is tried where [targets.X] formats allows it, or "
                          "where make install-bench has installed the whole set")  # fmt: skip


def _remedy(form: Format) -> str:
    return (
        "TensorRT comes with NVIDIA's images and JetPack"
        if form.runtime == "tensorrt"
        else "make install-bench brings it"
    )


def _given(found: T | Unavailable) -> T:
    if isinstance(found, Unavailable):
        raise found
    return found


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [""])[0][:200]
