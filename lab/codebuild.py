"""CodeBuild: image builds, emulated, since a laptop has no Docker.

Covers: StartBuild and BatchGetBuilds of a project whose source is a ZIP in S3 and whose IMAGE variable names
    `<registry>/<repository>:<tag>`. The context is unpacked to images/<repository>/<tag>/, its Dockerfile must have an
    ENTRYPOINT or a FROM, every pin of its requirements.txt must be what is installed here, and the tag is put into ECR
    with a manifest that lists the context's files.
Does not cover: running a Dockerfile or a buildspec. No layer is made; what an image adds beyond its pins and its
    files (system packages, base image) is not here. Overrides of a build are refused.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
import json
import shutil
import threading
import time
import uuid
import zipfile
from pathlib import Path
from typing import Any

from moto.codebuild.models import CodeBuildBackend
from moto.core.exceptions import JsonRESTError

from lab import joblog
from lab.engine import Engine

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


class BuildError(Exception):
    """Why a build failed, in one line."""


def install(engine: Engine) -> None:
    """Replaces moto's builds, which succeed at once and make nothing."""
    builds: dict[str, dict[str, Any]] = {}

    def start_build(
        self: CodeBuildBackend,
        project_name: str,
        source_version: str | None = None,
        artifact_override: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        if source_version or artifact_override:
            raise JsonRESTError("InvalidInputException", "the desk builds a project as it is, without overrides")
        build = _described(engine, self.codebuild_projects[project_name].project_metadata)
        builds[build["id"]] = build
        threading.Thread(target=_run, args=(engine, build), name=build["id"], daemon=True).start()
        return build

    def batch_get_builds(self: CodeBuildBackend, ids: list[str]) -> list[dict[str, Any]]:
        return [builds[name] for name in ids if name in builds]

    CodeBuildBackend.start_build = start_build
    CodeBuildBackend.batch_get_builds = batch_get_builds


def _described(engine: Engine, project: dict[str, Any]) -> dict[str, Any]:
    name = f"{project['name']}:{uuid.uuid4()}"
    return {
        "id": name,
        "arn": f"arn:aws:codebuild:{engine.region}:{engine.account}:build/{name}",
        "projectName": project["name"],
        "buildStatus": "IN_PROGRESS",
        "buildComplete": False,
        "currentPhase": "BUILD",
        "startTime": time.time(),
        "source": project["source"],
        "environment": project["environment"],
        "serviceRole": project["serviceRole"],
        "logs": {"groupName": f"/aws/codebuild/{project['name']}", "streamName": name.partition(":")[2]},
    }


def _run(engine: Engine, build: dict[str, Any]) -> None:
    """Carries a build out and leaves its status; nothing half-unpacked ever bears the image's name."""
    lines: list[str] = []
    try:
        _build(engine, build, lines)
        status = "SUCCEEDED"
    except Exception as error:
        lines.append(f"FAILED: {error}")
        status = "FAILED"
    folder = engine.root / "jobs" / "codebuild" / build["id"].replace(":", "-")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "log.txt").write_text("\n".join(lines) + "\n", "utf-8")
    joblog.to_cloudwatch(engine, build["logs"]["groupName"], build["logs"]["streamName"], lines)
    build.update(buildComplete=True, currentPhase="COMPLETED", endTime=time.time(), buildStatus=status)


def _build(engine: Engine, build: dict[str, Any], lines: list[str]) -> None:
    variables = {row["name"]: row["value"] for row in build["environment"].get("environmentVariables", [])}
    repository, _, tag = variables.get("IMAGE", "").rpartition("/")[2].partition(":")
    if not tag:
        raise BuildError("the project has no IMAGE variable of the form <registry>/<repository>:<tag>")
    bucket, _, key = build["source"]["location"].partition("/")
    context = engine.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
    lines.append(f"context s3://{bucket}/{key}, {len(context)} bytes")
    place = engine.root / "images" / repository / tag
    _unpack(context, place)
    lines += _checked_pins(place / "requirements.txt")
    _push(engine, repository, tag, place)
    lines.append(f"no layer was built: the desk runs {repository}:{tag} from its context, with the packages above")


def _unpack(context: bytes, place: Path) -> None:
    """The files of the context below `place`, which appears whole or not at all."""
    if place.is_dir():
        return
    scratch = place.with_name(f".{place.name}-{uuid.uuid4().hex}")
    with zipfile.ZipFile(io.BytesIO(context)) as archive:
        for name in archive.namelist():
            if name.startswith("/") or ".." in Path(name).parts:
                raise BuildError(f"the context holds a file outside of itself: {name}")
        archive.extractall(scratch)
    for name in ("Dockerfile", "requirements.txt"):
        if not (scratch / name).is_file():
            shutil.rmtree(scratch)
            raise BuildError(f"the context has no {name}")
    scratch.replace(place)


def _checked_pins(requirements: Path) -> list[str]:
    """One line for each pin that is installed as pinned. Raises BuildError for one that is not."""
    lines = []
    for line in requirements.read_text("utf-8").splitlines():
        name, _, version = line.strip().partition("==")
        if not name or name.startswith("#"):
            continue
        try:
            installed = importlib.metadata.version(name.partition("[")[0])
        except importlib.metadata.PackageNotFoundError:
            if name == "sagemaker-training":  # built from source; without a compiler the engine has a fallback
                lines.append(f"{line}: not installed here, script mode runs without it")
                continue
            raise BuildError(f"{line} is pinned for the image but not installed here") from None
        if installed.partition("+")[0] != version:
            raise BuildError(f"{line} is pinned for the image, {installed} is installed here")
        lines.append(f"{line}: installed")
    return lines


def _push(engine: Engine, repository: str, tag: str, place: Path) -> None:
    files = sorted(path for path in place.rglob("*") if path.is_file())
    layers = [
        {"mediaType": "text/plain", "size": path.stat().st_size, "digest": f"sha256:{_sha256(path)}"} for path in files
    ]
    config = {"mediaType": "application/vnd.docker.container.image.v1+json", "size": 0, "digest": _sha256(files[0])}
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers}
    engine.client("ecr").put_image(repositoryName=repository, imageManifest=json.dumps(manifest), imageTag=tag)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
