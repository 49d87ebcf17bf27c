"""Trials: a candidate is measured in a process of its own, and whatever becomes of it, the others go on."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from models import curated as reader
from models.export import measure, trials
from models.export.exporter import Unavailable
from models.export.trials import Conditions
from models.runtime import Model

pytestmark = pytest.mark.slow
ONE = Conditions(threads=1, batch=4)


@pytest.fixture(scope="module")
def samples(curated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("samples") / "samples.npy"
    np.save(path, reader.read(curated, "test")[0])
    return path


def test_figures_and_answers_are_those_of_the_package(served: Path, samples: Path, tmp_path: Path) -> None:
    found = trials.run(served, samples, ONE, tmp_path)
    names = {"p50_ms", "p95_ms", "p99_ms", "throughput_per_s", "cold_start_s", "cpu_per_wall", "peak_mb"}
    assert set(found.figures) == names
    assert all(value > 0 for value in found.figures.values())
    model, tensors = Model.load(served, threads=1), np.load(samples)
    np.testing.assert_array_equal(found.answers, model.predict(tensors).answers)
    np.testing.assert_array_equal(found.golden, model.predict(tensors[: measure.GOLDEN]).answers)


def test_a_device_measures_a_package_by_the_samples_that_travel_with_it(served: Path, tmp_path: Path) -> None:
    assert measure.main(["--package", str(served), "--threads", "1", "--out", str(tmp_path)]) == 0
    figures = json.loads((tmp_path / "figures.json").read_text("utf-8"))
    assert figures["p50_ms"] > 0 and figures["cold_start_s"] > 0
    with np.load(served / "golden.npz") as golden:
        np.testing.assert_array_equal(np.load(tmp_path / "answers.npy"), golden["outputs"])


def test_a_package_that_does_not_load_gives_its_reason(package: Path, samples: Path, tmp_path: Path) -> None:
    (package / "model.onnx").write_bytes(b"changed")
    with pytest.raises(Unavailable, match=r"ended with exit code 1: PackageError: digest: model\.onnx has sha256"):
        trials.run(package, samples, ONE, tmp_path)


def stub(folder: Path, code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another program in the place of the measurement."""
    (folder / "stubbed.py").write_text(code)
    monkeypatch.setattr(trials, "_command", lambda *given: [sys.executable, str(folder / "stubbed.py")])


def test_a_crash_is_a_reason(samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stub(tmp_path, "import os, sys\nprint('kernel not found', file=sys.stderr, flush=True)\nos.abort()", monkeypatch)
    with pytest.raises(Unavailable, match="ended with signal 6: kernel not found"):
        trials.run(tmp_path, samples, ONE, tmp_path / "out")


def test_a_hang_is_a_reason(samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stub(tmp_path, "import time\ntime.sleep(600)", monkeypatch)
    monkeypatch.setattr(trials, "SECONDS", 0.5)
    with pytest.raises(Unavailable, match="its measurement took more than"):
        trials.run(tmp_path, samples, ONE, tmp_path / "out")


def test_close_candidates_are_asked_in_turn_and_a_failing_one_is_left_out(
    served: Path, package: Path, samples: Path
) -> None:
    about = json.loads((package / "model.json").read_text("utf-8"))
    (package / "model.json").write_text(json.dumps(about | {"runtime": "none"}))
    found = trials.contest({"one": served, "two": served, "broken": package}, samples, ONE)
    assert set(found) == {"one", "two"}
    assert all(0 < value < 1000 for value in found.values())
