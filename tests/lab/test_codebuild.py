"""Image builds without Docker: what is checked, what is left, and how a failure is told."""

import io
import json
import uuid
import zipfile
from collections.abc import Callable
from typing import Any

import numpy
import pytest
from botocore.exceptions import ClientError

from lab.codebuild import BuildError, checked_pins
from lab.engine import Engine

CONTEXT = {"Dockerfile": "FROM x\nCOPY models /opt/models\n", "buildspec.yml": "{}", "models/a.py": ""}
PIN = f"numpy=={numpy.__version__}"


@pytest.fixture
def project(engine: Engine, trusting: Callable[[str], str]) -> Callable[..., str]:
    """Makes repository, source and project; gives their common name."""

    def make(files: dict[str, str]) -> str:
        name = f"t-{uuid.uuid4().hex[:8]}"
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            for path, text in files.items():
                archive.writestr(path, text)
        engine.client("s3").create_bucket(Bucket=name)
        engine.client("s3").put_object(Bucket=name, Key="context.zip", Body=packed.getvalue())
        engine.client("ecr").create_repository(repositoryName=name, imageTagMutability="IMMUTABLE")
        image = {"name": "IMAGE", "value": f"{engine.account}.dkr.ecr.us-east-1.amazonaws.com/{name}:t1"}
        engine.client("codebuild").create_project(
            name=name,
            source={"type": "S3", "location": f"{name}/context.zip"},
            artifacts={"type": "NO_ARTIFACTS"},
            environment={
                "type": "LINUX_CONTAINER",
                "image": "aws/codebuild/standard:7.0",
                "computeType": "BUILD_GENERAL1_SMALL",
                "environmentVariables": [image],
            },
            serviceRole=trusting("codebuild"),
            encryptionKey="arn:aws:kms:us-east-1:123456789012:key/k",
        )
        return name

    return make


@pytest.fixture
def build(engine: Engine, until: Callable[..., Any]) -> Callable[[str], dict[str, Any]]:
    """Builds a project to its end."""
    client = engine.client("codebuild")

    def run(name: str) -> dict[str, Any]:
        started = client.start_build(projectName=name)["build"]
        assert started["buildStatus"] == "IN_PROGRESS"

        def ended() -> Any:
            [found] = client.batch_get_builds(ids=[started["id"]])["builds"]
            return found if found["buildComplete"] else None

        found: dict[str, Any] = until(ended)
        return found

    return run


def test_a_build_leaves_the_files_the_tag_and_a_log(
    engine: Engine, project: Callable[..., str], build: Callable[[str], dict[str, Any]]
) -> None:
    name = project({**CONTEXT, "requirements.txt": f"{PIN}\n"})
    found = build(name)
    assert found["buildStatus"] == "SUCCEEDED"
    place = engine.root / "images" / name / "t1"
    assert (place / "models" / "a.py").is_file()
    images = engine.client("ecr").describe_images(repositoryName=name, imageIds=[{"imageTag": "t1"}])["imageDetails"]
    assert images[0]["imageTags"] == ["t1"]
    logged = engine.client("logs").get_log_events(
        logGroupName=f"/aws/codebuild/{name}", logStreamName=found["logs"]["streamName"]
    )["events"]
    assert any(row["message"] == f"{PIN}: installed" for row in logged)
    ledger = [json.loads(line) for line in (engine.root / "ledger.jsonl").read_text().splitlines()]
    [row] = [row for row in ledger if row["name"] == name]
    assert row["kind"] == "build" and row["rc"] == 0 and (engine.root / row["log"]).is_file()


def test_a_second_build_of_the_same_tag_is_as_good(
    project: Callable[..., str], build: Callable[[str], dict[str, Any]]
) -> None:
    name = project({**CONTEXT, "requirements.txt": ""})
    assert [build(name)["buildStatus"] for _ in range(2)] == ["SUCCEEDED", "SUCCEEDED"]


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({**CONTEXT, "requirements.txt": "numpy==0.0.1\n"}, "numpy==0.0.1 is pinned for the image"),
        ({**CONTEXT, "requirements.txt": "no-such-package==1.0\n"}, "not installed here"),
        ({**CONTEXT, "Dockerfile": "COPY src /opt", "requirements.txt": ""}, "copies src, which the context"),
        (CONTEXT, "the context has no requirements.txt"),
        ({**CONTEXT, "requirements.txt": "", "../out": ""}, "a file outside of itself: ../out"),
    ],
)
def test_a_build_that_could_not_work_fails_and_registers_nothing(
    engine: Engine,
    project: Callable[..., str],
    build: Callable[[str], dict[str, Any]],
    files: dict[str, str],
    words: str,
) -> None:
    name = project(files)
    found = build(name)
    assert found["buildStatus"] == "FAILED" and words in found["phases"][0]["contexts"][0]["message"]
    assert not (engine.root / "images" / name / "t1").exists()
    with pytest.raises(ClientError, match="ImageNotFound"):
        engine.client("ecr").describe_images(repositoryName=name, imageIds=[{"imageTag": "t1"}])


def test_overrides_are_refused(engine: Engine, project: Callable[..., str]) -> None:
    name = project({**CONTEXT, "requirements.txt": ""})
    with pytest.raises(ClientError, match="without overrides"):
        engine.client("codebuild").start_build(projectName=name, timeoutInMinutesOverride=5)


def test_comments_blank_lines_and_local_versions_are_read_as_pip_reads_them() -> None:
    assert checked_pins(f"# ours\n\n{PIN}  # pinned\n") == [f"{PIN}: installed"]
    with pytest.raises(BuildError, match="is pinned for the image"):
        checked_pins("numpy<1.0\n")
