"""`lab approve`, `lab reject` and what signs, against a cloud that plays its part from a script."""

import hashlib
import io
import json
import zipfile
from base64 import b64decode
from pathlib import Path

import pytest
from scripted import OUTPUTS, RELEASE, VERSION, Cloud, record

from lab import cli, signing, stack
from lab.stack import Stack


def test_an_approval_later_brings_the_record_up_to_date(cloud: Cloud, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run"]) == 0
    before = record(cloud)
    assert cli.main(["approve", VERSION]) == 0
    after = record(cloud)
    assert after["approval"] == "Approved" and after["endpoint"]["status"] == "InService"
    assert (after["seconds"], after["engine"]) == (before["seconds"], before["engine"])
    assert cli.main(["approve"]) == 1
    assert "no model package that is PendingManualApproval" in capsys.readouterr().err


def test_the_package_of_a_run_that_failed_later_is_approved_with_the_run_that_took_its_row(cloud: Cloud) -> None:
    assert cli.main(["run"]) == 0
    cloud.metadata["run"] = "event_run-0"
    assert cli.main(["approve", VERSION]) == 0
    assert record(cloud)["approval"] == "Approved"


def test_a_model_for_devices_that_ask_for_a_signature_is_not_approved_without_one(
    cloud: Cloud, capsys: pytest.CaptureFixture[str]
) -> None:
    about = cloud.root.parent / "lab.json"
    whole = json.loads(about.read_text())
    about.write_text(json.dumps({**whole, "settings": {**whole["settings"], "edge": {"public_key": "A" * 43 + "="}}}))
    assert cli.main(["run", "--approve"]) == 1
    assert "devices take signed models only" in capsys.readouterr().err
    assert not cloud.executions, "it is said before the flow runs, not after"


def test_a_model_that_was_approved_unsigned_is_approved_again_with_its_signature(
    cloud: Cloud, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli.main(["run", "--approve"]) == 0
    public = signing.make(tmp_path / "key.pem")
    settings = {"data": {"dataset": "digits"}, "edge": {"public_key": public}}
    monkeypatch.setattr(stack, "deployed", lambda engine: Stack(engine, "ml-lab-dev", OUTPUTS, settings))
    package = io.BytesIO()
    with zipfile.ZipFile(package, "w") as archive:
        archive.writestr("model.json", "{}")
    files = {signing.ARTIFACT: hashlib.sha256(package.getvalue()).hexdigest()}
    manifest = {"version": VERSION, "model_sha256": "0" * 64, "files": files}
    cloud.metadata["digest"] = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
    cloud.put(f"releases/{VERSION}/manifest.json", manifest)
    cloud.objects[f"releases/{VERSION}/{signing.ARTIFACT}"] = package.getvalue()
    assert cli.main(["approve", VERSION, "--sign", str(tmp_path / "key.pem")]) == 0
    assert len(b64decode(cloud.metadata["signature"])) == 64
    assert len([arn for arn, row in cloud.executions.items() if row[0] == RELEASE]) == 2
    assert cli.main(["approve", VERSION, "--sign", str(tmp_path / "key.pem")]) == 1, "once is enough"


def test_signing_is_the_approvers(cloud: Cloud, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "key.pem").touch()
    assert cli.main(["run", "--sign", str(tmp_path / "key.pem")]) == 2
    assert "--sign goes with --approve" in capsys.readouterr().err


def test_a_rejected_model_is_never_released(cloud: Cloud, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run"]) == 0
    assert cli.main(["reject"]) == 0
    assert f"version {VERSION} is Rejected" in capsys.readouterr().out
    assert cli.main(["approve"]) == 1
    assert not [arn for arn, row in cloud.executions.items() if row[0] == RELEASE]
