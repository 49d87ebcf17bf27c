"""The export job: one folder per version for the lake's releases, and the run's own record of it."""

import io
import json
import tarfile
import zipfile
from pathlib import Path

import pytest

from pipelines.jobs import export

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
