"""A deployment: refused before it begins, made, changed, broken off and taken up, on the embedded AWS."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lab import assembly, deploy, launch, stacks
from lab.assembly import Assembly
from lab.cloud import Cloud, CloudError
from lab.destroy import Destruction
from lab.engine import Engine

REPO = Path(__file__).parents[2]
BUCKET = "cdk-hnb659fds-assets-${AWS::AccountId}-us-east-1"
Write = Callable[[dict[str, Any]], Assembly]


@pytest.fixture
def cloud(engine: Engine) -> Cloud:
    return Cloud(engine.region, engine.account, "arn:aws:iam::123456789012:root", engine)


@pytest.fixture
def prefix() -> str:
    return f"t-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def write(tmp_path: Path, prefix: str, cloud: Cloud) -> Iterator[Write]:
    """Writes an assembly of one stack with these resources, as synthesis would; the stack goes in the end."""
    assert cloud.engine is not None
    lab = (
        (cloud.engine.root / "assembly" / "lab.json").read_text() if (cloud.engine.root / "assembly").exists() else None
    )

    def make(resources: dict[str, Any]) -> Assembly:
        folder = tmp_path / "cdk.out"
        folder.mkdir(exist_ok=True)
        body = json.dumps({"Resources": resources, "Outputs": {"Bucket": {"Value": {"Ref": "Data"}}}})
        name = f"{prefix}.template.json"
        (folder / name).write_text(body)
        key = f"{hashlib.sha256(body.encode()).hexdigest()}.json"
        place = {"here": {"bucketName": BUCKET, "objectKey": key}}
        files = {key: {"source": {"path": name, "packaging": "file"}, "destinations": place}}
        (folder / f"{prefix}.assets.json").write_text(json.dumps({"files": files}))
        artifact = {"properties": {"tags": {"lab": prefix}, "requiresBootstrapStackVersion": 6}}
        (folder / "manifest.json").write_text(json.dumps({"artifacts": {prefix: artifact}}))
        facts = {
            "schema": 1,
            "stack": prefix,
            "prefix": prefix,
            "template": name,
            "region": "us-east-1",
            "settings": {},
        }
        (folder / "lab.json").write_text(json.dumps(facts))
        return assembly.load(folder)

    yield make
    Destruction(cloud, prefix, prefix, {}, lambda text: None, data=True).run()
    deploy.forget(cloud)
    if lab is not None:
        (cloud.engine.root / "assembly").mkdir()
        (cloud.engine.root / "assembly" / "lab.json").write_text(lab)


def bucket(name: str, **properties: Any) -> dict[str, Any]:
    return {"Type": "AWS::S3::Bucket", "Properties": {"BucketName": name, **properties}}


def silent(text: str) -> None:
    pass


def test_a_stack_is_made_and_a_second_call_finds_nothing_to_do(cloud: Cloud, prefix: str, write: Write) -> None:
    made, said = write({"Data": bucket(f"{prefix}-data")}), list[str]()
    assert deploy.deploy(cloud, made, said.append) == {"Bucket": f"{prefix}-data"}
    assert "• assets: 1 sent, 0 were there" in said
    again = list[str]()
    assert deploy.deploy(cloud, made, again.append) == {"Bucket": f"{prefix}-data"}
    assert "• assets: 0 sent, 1 were there" in again and f"• the stack {prefix} is as it should be" in again


def test_a_changed_template_changes_the_stack(cloud: Cloud, prefix: str, write: Write) -> None:
    deploy.deploy(cloud, write({"Data": bucket(f"{prefix}-data")}), silent)
    on = {"VersioningConfiguration": {"Status": "Enabled"}}
    deploy.deploy(cloud, write({"Data": bucket(f"{prefix}-data", **on)}), silent)
    assert cloud.client("s3").get_bucket_versioning(Bucket=f"{prefix}-data")["Status"] == "Enabled"
    assert stacks.status(cloud, prefix) == "UPDATE_COMPLETE"


def test_a_stack_that_does_not_come_up_is_an_error_and_is_made_anew_once_it_is_mended(
    cloud: Cloud, prefix: str, write: Write
) -> None:
    cloud.client("s3").create_bucket(Bucket=f"{prefix}-taken")
    bad = write({"Data": bucket(f"{prefix}-data"), "Taken": bucket(f"{prefix}-taken")})
    with pytest.raises(CloudError, match="Taken") as refused:
        deploy.deploy(cloud, bad, silent)
    assert "lab deploy again" in str(refused.value.hint)
    assert f"{prefix}-data" not in {row["Name"] for row in cloud.client("s3").list_buckets()["Buckets"]}
    cloud.client("s3").delete_bucket(Bucket=f"{prefix}-taken")
    deploy.deploy(cloud, bad, silent)
    assert stacks.status(cloud, prefix) == "CREATE_COMPLETE"


def test_a_deployment_broken_off_before_its_change_set_was_executed_is_taken_up(
    cloud: Cloud, prefix: str, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = write({"Data": bucket(f"{prefix}-data")})

    def broken(cloud: Cloud, stack: str) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(deploy, "_execute", broken)
        deploy.deploy(cloud, made, silent)
    assert stacks.status(cloud, prefix) == "REVIEW_IN_PROGRESS"
    assert deploy.deploy(cloud, made, silent) == {"Bucket": f"{prefix}-data"}


def lab(home: Path, *words: str, **more: Any) -> subprocess.Popen[str]:
    """`lab`, with its state in `home`; its output can be read as it comes."""
    env = {**os.environ, "LAB_HOME": str(home), "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(REPO)}
    argv = [sys.executable, "-m", "lab", *words]
    return subprocess.Popen(argv, cwd=REPO, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def killed_at(child: subprocess.Popen[str], words: str) -> None:
    """Kills a child, without asking it, as soon as it says these words."""
    assert child.stdout is not None
    said = []
    for line in child.stdout:
        said.append(line)
        if words in line:
            child.kill()
            child.wait()
            child.stdout.close()
            return
    raise AssertionError(f"it never said {words!r}:\n{''.join(said)}")


def done(child: subprocess.Popen[str]) -> tuple[int, str]:
    said, _ = child.communicate(timeout=300)
    return child.returncode, said


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A state folder; an embedded AWS that is still up in it at the end is ended."""
    yield tmp_path / "home"
    server = launch.running(tmp_path / "home" / "up")
    if server is not None:
        launch.stop(server)


@pytest.mark.slow
def test_killed_in_the_middle_deploy_and_destroy_are_called_again_and_nothing_is_left(
    home: Path, synthesized: Path
) -> None:
    where = ("--endpoint", "local", "--yes", "--app", str(synthesized))
    killed_at(lab(home, "deploy", *where), "• the stack ml-lab-dev")
    code, said = done(lab(home, "deploy", *where))
    assert code == 0 and "FlowArn" in said, said
    server = launch.running(home / "up")
    assert server is not None
    killed_at(lab(home, "destroy", *where), "• deleting the stack")
    code, said = done(lab(home, "destroy", *where))
    assert code == 0 and "the inventory is empty" in said, said
    assert launch.running(home / "up") is None, "what deploy started, destroy ends"


@pytest.mark.slow
def test_a_real_time_endpoint_on_a_gpu_is_refused_with_the_remedy_before_anything_starts(
    home: Path, synthesized: Path, tmp_path: Path
) -> None:
    dear = tmp_path / "dear"
    shutil.copytree(synthesized, dear)
    path = next(dear.glob("*.template.json"))
    instance = r"\"InstanceType\": \"ml.g5.xlarge\""
    text, count = re.subn(r'\\"ServerlessConfig\\": {[^}]*}', lambda found: instance, path.read_text())
    assert count == 1
    path.write_text(text)
    code, said = done(lab(home, "deploy", "--endpoint", "local", "--yes", "--app", str(dear)))
    assert code == 1
    assert "the cap is $100.00 ([budget] month_usd)" in said and "[serving] serverless = true" in said
    assert launch.running(home / "up") is None
