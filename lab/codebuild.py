"""CodeBuild: an image is built without Docker, which says so and checks what it can.

Covers: projects with an S3 source (a zip with Dockerfile, buildspec.yml and requirements.txt) that push the image named
    by the variable IMAGE: the role, the source, every file that the Dockerfile copies and every pin in requirements.txt
    are checked, the files are unpacked to `<root>/images/<repository>/<tag>`, and the tag is registered in ECR. Where a
    variable WHEELS names an object, it gets a zip of wheels for Glue that lists its pins, checked too, and no wheel.
Does not cover: commands of a buildspec, other sources, artifacts, overrides; no layer is built, nothing is installed.
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

from botocore.exceptions import ClientError
from moto.codebuild.exceptions import InvalidInputException, ResourceNotFoundException
from moto.codebuild.models import CodeBuildBackend
from moto.codebuild.responses import CodeBuildResponse
from moto.core.responses import ActionResult
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from lab import access, child, identity, joblog, needs, onbehalf
from lab.engine import Engine
from lab.errors import LabError
from lab.jobfiles import Files, Place
from lab.runtimes import OPTIONAL

SERVICE = "codebuild"
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
CONTEXT = ("Dockerfile", "buildspec.yml", "requirements.txt")
WHEELS = "glue-requirements.txt"
OVERRIDES = "the desk builds a project as it is, without overrides"

Build = dict[str, Any]


class BuildError(LabError):
    """Why a build failed, in one line."""


def install(engine: Engine) -> None:
    """Replaces moto's builds, which succeed at once and make nothing."""
    builds: dict[str, Build] = {}

    def start_build(self: CodeBuildResponse) -> ActionResult:
        request = json.loads(self.body)
        name = request["projectName"]
        if set(request) - {"projectName", "idempotencyToken"}:
            raise InvalidInputException(OVERRIDES)
        if name not in self.codebuild_backend.codebuild_projects:
            arn = f"arn:aws:codebuild:{engine.region}:{engine.account}:project/{name}"
            raise ResourceNotFoundException(f"Project cannot be found: {arn}")
        build = _described(engine, self.codebuild_backend.codebuild_projects[name].project_metadata)
        builds[build["id"]] = build
        self.codebuild_backend.build_history[name].append(build["id"])
        threading.Thread(target=_run, args=(engine, build), name=build["id"], daemon=True).start()
        return ActionResult({"build": build})

    def batch_get_builds(self: CodeBuildBackend, ids: list[str]) -> list[Build]:
        return [builds[name] for name in ids if name in builds]

    def stop_build(self: CodeBuildResponse) -> ActionResult:
        raise InvalidInputException("a build on the desk takes less than a second and cannot be stopped")

    CodeBuildResponse.start_build = start_build
    CodeBuildResponse.stop_build = stop_build
    CodeBuildBackend.batch_get_builds = batch_get_builds
    _keep_the_key()


def _keep_the_key() -> None:
    """moto drops a project's encryptionKey."""
    stock = CodeBuildResponse.create_project

    def create_project(self: CodeBuildResponse) -> ActionResult:
        said = stock(self)
        key = json.loads(self.body).get("encryptionKey")
        if key:
            said.result["project"]["encryptionKey"] = key
        return said

    CodeBuildResponse.create_project = create_project


def _described(engine: Engine, project: dict[str, Any]) -> Build:
    name = f"{project['name']}:{uuid.uuid4()}"
    group = project.get("logsConfig", {}).get("cloudWatchLogs", {}).get("groupName")
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
        "phases": [],
        "logs": {
            "groupName": group or f"/aws/codebuild/{project['name']}",
            "streamName": name.partition(":")[2],
        },
    }


def _run(engine: Engine, build: Build) -> None:
    """Carries a build out and leaves its status, its log and its line in the ledger."""
    lines: list[str] = []
    try:
        _build(engine, build, lines)
        status, contexts = "SUCCEEDED", []
    except Exception as error:
        lines.append(f"FAILED: {error}")
        status, contexts = "FAILED", [{"statusCode": "COMMAND_EXECUTION_ERROR", "message": str(error)}]
    ended = time.time()
    log = _keep(engine, build, lines)
    ran = _as_child(engine, build)
    child.note(engine, ran, build["startTime"], ended, 0 if status == "SUCCEEDED" else 1, log)
    times = {"startTime": build["startTime"], "endTime": ended, "durationInSeconds": int(ended - build["startTime"])}
    phase = {"phaseType": "BUILD", "phaseStatus": status, "contexts": contexts, **times}
    build.update(endTime=ended, currentPhase="COMPLETED", phases=[phase], buildComplete=True, buildStatus=status)


def _as_child(engine: Engine, build: Build) -> child.Child:
    """The build as the ledger names what ran."""
    folder = child.job_folder(engine, SERVICE, build["id"].replace(":", "-"))
    return child.Child("build", SERVICE, build["projectName"], [], folder, {}, "", [])


def _keep(engine: Engine, build: Build, lines: list[str]) -> Path:
    folder = child.job_folder(engine, SERVICE, build["id"].replace(":", "-"))
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "log.txt"
    log.write_text("\n".join(lines) + "\n", "utf-8")
    logs = build["logs"]
    joblog.to_cloudwatch(engine, build["serviceRole"], logs["groupName"], logs["streamName"], lines)
    return log


def _build(engine: Engine, build: Build, lines: list[str]) -> None:
    identity.require(engine, build["serviceRole"], SERVICE)
    if build["source"]["type"] != "S3":
        raise BuildError(f"the desk builds from S3, not from {build['source']['type']}")
    repository, tag = _image(build)
    context = _fetched(engine, build)
    lines.append(f"context s3://{build['source']['location']}, {len(context)} bytes")
    place = engine.root / "images" / repository / tag
    scratch = _unpacked(context, place)
    try:
        _check_copies(scratch)
        _check_registry(engine, build, repository, scratch)
        lines += checked_pins((scratch / "requirements.txt").read_text("utf-8"))
        lines += _wheels(engine, build, scratch)
        if not place.is_dir():
            scratch.replace(place)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    # The tag comes last: who finds it finds the files.
    _push(engine, repository, tag, place)
    lines.append(f"no layer was built: the desk runs {repository}:{tag} from its context, with the packages above")


def _variable(build: Build, name: str) -> str:
    """A variable of the project; empty where it has none of that name."""
    variables = {row["name"]: row["value"] for row in build["environment"].get("environmentVariables", [])}
    return str(variables.get(name, ""))


def _wheels(engine: Engine, build: Build, context: Path) -> list[str]:
    """Puts the zip of wheels where WHEELS says; what the log says of it."""
    uri = _variable(build, "WHEELS")
    if not uri:
        return []
    pins = (context / WHEELS).read_text("utf-8")
    checked = checked_pins(pins)
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        archive.writestr("wheels/requirements.txt", pins)
    place = Place.parse(uri)
    session = identity.assume(engine, build["serviceRole"], build["projectName"])
    try:
        Files(engine, session).s3.put_object(Bucket=place.bucket, Key=place.key, Body=held.getvalue())
    except ClientError as error:
        raise BuildError(f"{uri} cannot be written: {error}") from None
    return [*checked, f"{uri} lists these; no wheel was fetched"]


def _image(build: Build) -> tuple[str, str]:
    """Repository and tag of the variable IMAGE."""
    repository, _, tag = _variable(build, "IMAGE").partition("/")[2].rpartition(":")
    if not repository or not tag:
        raise BuildError("the project has no variable IMAGE of the form <registry>/<repository>:<tag>")
    return repository, tag


def _fetched(engine: Engine, build: Build) -> bytes:
    bucket, _, key = build["source"]["location"].removeprefix("arn:aws:s3:::").partition("/")
    files = Files(engine, identity.assume(engine, build["serviceRole"], build["projectName"]))
    try:
        content: bytes = files.s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    except ClientError as error:
        raise BuildError(
            f"the source s3://{bucket}/{key} cannot be read: {error.response['Error']['Message']}"
        ) from None
    return content


def _unpacked(context: bytes, place: Path) -> Path:
    """The files of the context in a folder beside `place`; nothing half-unpacked ever bears the image's name."""
    scratch = place.with_name(f".{place.name}-{uuid.uuid4().hex}")
    with zipfile.ZipFile(io.BytesIO(context)) as archive:
        for name in archive.namelist():
            if name.startswith("/") or ".." in Path(name).parts:
                raise BuildError(f"the context holds a file outside of itself: {name}")
        scratch.mkdir(parents=True)
        archive.extractall(scratch)
    for name in CONTEXT:
        if not (scratch / name).is_file():
            shutil.rmtree(scratch)
            raise BuildError(f"the context has no {name}")
    return scratch


def _check_registry(engine: Engine, build: Build, repository: str, context: Path) -> None:
    """The role may pull what the Dockerfile starts from, where that lies in ECR, and push what is built."""
    wanted = onbehalf.pushes(engine, repository)
    for line in (context / "Dockerfile").read_text("utf-8").splitlines():
        words = [word for word in line.split() if not word.startswith("--")]
        if words and words[0].upper() == "FROM" and ".dkr.ecr." in words[1]:
            wanted += needs.pulls(engine, words[1])
    access.require(engine, build["serviceRole"], wanted, session=build["projectName"])


def _check_copies(context: Path) -> None:
    """Every COPY of the Dockerfile finds its sources."""
    for line in (context / "Dockerfile").read_text("utf-8").splitlines():
        words = line.split()
        if not words or words[0].upper() != "COPY":
            continue
        for source in [word for word in words[1:-1] if not word.startswith("--")]:
            if not list(context.glob(source.rstrip("/"))):
                raise BuildError(f"the Dockerfile copies {source}, which the context does not hold")


def checked_pins(requirements: str) -> list[str]:
    """One line for each pin that is installed as pinned. Raises BuildError for one that is not."""
    lines = []
    for line in requirements.splitlines():
        text = line.partition("#")[0].strip()
        if not text:
            continue
        wanted = Requirement(text)
        try:
            installed = importlib.metadata.version(wanted.name)
        except importlib.metadata.PackageNotFoundError:
            if canonicalize_name(wanted.name) not in OPTIONAL:
                raise BuildError(f"{text} is pinned for the image but not installed here") from None
            lines.append(f"{text}: not installed here; what needs it falls back and says so")
            continue
        if not wanted.specifier.contains(Version(installed).public, prereleases=True):
            raise BuildError(f"{text} is pinned for the image, {installed} is installed here")
        lines.append(f"{text}: installed")
    return lines


def _push(engine: Engine, repository: str, tag: str, context: Path) -> None:
    """Registers the tag; another build of this moment may have been first, which is as good."""
    files = sorted(path for path in context.rglob("*") if path.is_file())
    digests = {path: f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}" for path in files}
    layers = [{"mediaType": "text/plain", "size": path.stat().st_size, "digest": digests[path]} for path in files]
    config = {"mediaType": "application/vnd.docker.container.image.v1+json", "size": 0, "digest": digests[files[0]]}
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers}
    given = {"repositoryName": repository, "imageManifest": json.dumps(manifest), "imageTag": tag}
    try:
        engine.client("ecr").put_image(**given)
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if code not in ("ImageTagAlreadyExistsException", "ImageAlreadyExistsException"):
            raise BuildError(f"{repository}:{tag} cannot be registered: {error.response['Error']['Message']}") from None
