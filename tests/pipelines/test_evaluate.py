"""The evaluation job writes one report, with the champion in it when there is one."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from models import net
from pipelines.jobs import evaluate, export
from pipelines.jobs.folders import ArchiveError, unpack


@pytest.fixture
def processing(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The job's own folder, as the platform lays it out."""
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(tmp_path))
    for name in ("model", "curated"):
        shutil.copytree(trained / name, tmp_path / "processing" / name)
    return tmp_path / "processing"


def report(processing: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((processing / "report" / "report.json").read_text("utf-8"))
    return found


def test_the_report_has_the_run_the_figures_and_no_champion_yet(processing: Path, package: Any) -> None:
    package("PendingManualApproval")
    assert evaluate.main(["--run", "run-1", "--package-group", "ml-lab-dev-models"]) == 0
    found = report(processing)
    assert (found["run"], found["dataset"], found["task"]) == ("run-1", "lamps", "classification")
    assert found["metrics"]["test"]["accuracy"] >= 0.9
    assert set(found["metrics"]["baseline"]) >= {"majority", "logistic_regression"}
    assert found["metrics"]["champion"] is None
    assert found["history"]


def test_the_approved_model_is_measured_on_the_same_samples(processing: Path, package: Any, put: Any) -> None:
    put("champion.tar.gz", (processing / "model/model.tar.gz").read_bytes())
    package(checkpoint="s3://lake/champion.tar.gz")
    assert evaluate.main(["--run", "run-2", "--package-group", "ml-lab-dev-models"]) == 0
    found = report(processing)["metrics"]
    assert found["champion"]["accuracy"] == found["test"]["accuracy"]


def test_a_job_without_its_model_says_so(processing: Path) -> None:
    (processing / "model/model.tar.gz").unlink()
    with pytest.raises(ArchiveError, match=r"model\.tar\.gz does not exist"):
        evaluate.main(["--run", "run-1"])


def test_the_best_baseline_is_left_as_a_training_job_leaves_its_model(processing: Path, tmp_path: Path) -> None:
    assert evaluate.main(["--run", "run-1"]) == 0
    left = processing / "report" / "baseline"
    assert [path.name for path in left.iterdir()] == ["model.tar.gz"]
    loaded, contract = net.load(unpack(left / "model.tar.gz", tmp_path / "unpacked"))
    assert type(loaded).__name__ == "Baseline"
    assert contract.dataset == report(processing)["dataset"]


@pytest.mark.slow
def test_the_export_takes_the_baseline_for_the_model(processing: Path) -> None:
    assert evaluate.main(["--run", "run-1"]) == 0
    shutil.move(processing / "report" / "baseline" / "model.tar.gz", processing / "model" / "model.tar.gz")
    target = {"formats": ["onnx-fp32"], "threads": 1, "p95_ms": 500.0, "measure": "allowed"}
    assert export.main(["--run", "run-1", "--targets", json.dumps({"cloud-cpu": target})]) == 0
    (row,) = json.loads((processing / "export" / "export.json").read_text("utf-8"))["artifacts"]
    assert row["chosen"]
    assert row["agreement"] == 1.0


def test_a_job_logs_the_verdict(processing: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert evaluate.main(["--run", "run-1"]) == 0
    assert f"run=run-1: {report(processing)['verdict']}" in caplog.messages
