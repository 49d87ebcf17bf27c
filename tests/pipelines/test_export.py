"""The export job: one folder per version for the lake's releases, and the run's own record of it."""

import csv
import io
import json
import tarfile
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import pytest

from models.export import picture
from models.train import Config
from pipelines.jobs import export, tracking

pytestmark = pytest.mark.slow


def test_a_release_holds_a_package_per_target_and_the_run_its_record(released: Path) -> None:
    manifest = json.loads((released / "export/export.json").read_text("utf-8"))
    folder = released / "release" / manifest["version"]
    assert json.loads((folder / "manifest.json").read_text("utf-8")) == manifest
    assert manifest["run"] == "run-1"
    assert {row["target"] for row in manifest["artifacts"] if row["chosen"]} == {"cloud-cpu", "edge-x86"}
    wanted = {"model.onnx", "model.json", "contract.json", "golden.npz"}
    with zipfile.ZipFile(folder / "edge-x86/model.zip") as packed:
        assert set(packed.namelist()) == wanted
    with tarfile.open(fileobj=io.BytesIO((folder / "endpoint/model.tar.gz").read_bytes())) as tar:
        assert set(tar.getnames()) == wanted


def test_the_run_keeps_a_picture_of_each_target_s_candidates(released: Path) -> None:
    for target in ("cloud-cpu", "edge-x86"):
        drawn = ElementTree.fromstring((released / "export" / f"{target}.svg").read_text("utf-8"))
        assert "onnx-fp32" in {text.text for text in drawn.iter("{http://www.w3.org/2000/svg}text")}


@pytest.mark.filterwarnings("ignore::Warning:mlflow", "ignore::DeprecationWarning")
def test_candidates_and_pictures_go_to_the_run_that_the_training_began(
    released: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "ml-lab-dev")
    manifest = json.loads((released / "export/export.json").read_text("utf-8"))
    with tracking.tracked("run-1", Config()) as note:
        note({"epoch": 1, "val_loss": 0.5})
    tracking.release("run-1", manifest, picture.pictures(manifest))
    import mlflow

    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("ml-lab-dev")
    assert experiment is not None
    (found,) = client.search_runs([experiment.experiment_id])
    assert found.data.tags["version"] == manifest["version"]
    assert found.data.metrics["val_loss"] == 0.5
    chosen = next(row for row in manifest["artifacts"] if row["chosen"] and row["target"] == "cloud-cpu")
    assert found.data.metrics["cloud-cpu.p50_ms"] == pytest.approx(chosen["p50_ms"])
    assert experiment.artifact_location.startswith(str(tmp_path)), "beside the database, wherever the job ran"
    folder = Path(client.download_artifacts(found.info.run_id, "release", str(tmp_path)))
    assert {path.name for path in folder.iterdir()} == {"candidates.csv", "cloud-cpu.svg", "edge-x86.svg"}
    with (folder / "candidates.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["target"], row["format"]) for row in rows] == [
        (row["target"], row["format"]) for row in manifest["artifacts"]
    ]


def test_targets_come_in_pieces_that_sagemaker_takes() -> None:
    pieces = ['{"cloud-cpu":{"formats":["onnx-fp32",', '"onnx-int8"]}}']
    found = export._arguments(["--run", "r", "--targets", *pieces, "--limits", '{"min_agreement":', "0.99}"])
    assert found.targets == {"cloud-cpu": {"formats": ["onnx-fp32", "onnx-int8"]}}
    assert found.limits == {"min_agreement": 0.99}


@pytest.mark.parametrize(("targets", "says"), [("{", "not JSON"), ("{}", "expected an object"), ("[1]", "expected an")])
def test_targets_that_are_none_are_refused(targets: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        export.main(["--run", "run-1", "--targets", targets])
    assert says in capsys.readouterr().err
