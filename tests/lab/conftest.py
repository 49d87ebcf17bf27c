"""Fixtures of the engine's tests: an engine over an in-process moto, with the pins of this repository."""

import json
import os
import subprocess
import sys
import threading
import time
import tomllib
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from moto.core.base_backend import BackendDict
from moto.core.model_instances import reset_model_data
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from moto.sagemaker.responses import SageMakerResponse
from moto.sagemakerruntime.responses import SageMakerRuntimeResponse
from scripted import DATASETS, OUTPUTS, Cloud, Server
from werkzeug.serving import make_server
from wire import Core

from lab import child, launch, sagemaker, stack, synth
from lab.engine import Engine
from lab.home import Home
from lab.stack import Stack

REPO = Path(__file__).parents[2]
ACCOUNT = "123456789012"
TRUST = {"Effect": "Allow", "Action": "sts:AssumeRole"}
# For tests of what is done and not of who may do it.
EVERYTHING = {"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}


def pins() -> dict[str, list[str]]:
    """The runtimes table of lab.json as synthesis would write it."""
    lock: dict[str, str] = {}
    for line in (REPO / "requirements.lock").read_text().splitlines():
        name, _, version = line.partition("==")
        lock[name.lower().replace("_", "-")] = version
    extras = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    return {name: [f"{item}=={lock[item]}" for item in extras[name]] for name in ("lambda", "glue", "job", "serve")}


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Engine]:
    """An engine whose endpoint is moto in this process; no extension is installed, no stack deployed."""
    BackendDict.reset()
    reset_model_data()
    server = make_server("127.0.0.1", 0, DomainDispatcherApplication(create_backend_app), threaded=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    root = tmp_path / "engine"
    (root / "assembly").mkdir(parents=True)
    images = {
        name: {"repository": f"lab-{name}", "tag": "t1", "project": f"lab-{name}-image"} for name in ("job", "serve")
    }
    (root / "assembly" / "lab.json").write_text(json.dumps({"schema": 1, "runtimes": pins(), "images": images}))
    try:
        yield Engine(root, f"http://127.0.0.1:{server.port}", "us-east-1", ACCOUNT, root / "assembly")
    finally:
        child.stop_all()
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def role(desk: Engine) -> Callable[..., str]:
    """Makes a role that the named services may assume; gives its ARN. It may do what `may` says, or else everything."""

    def make(name: str, *services: str, may: dict[str, Any] | None = None) -> str:
        who = {"Service": [f"{service}.amazonaws.com" for service in services]}
        policy: dict[str, Any] = {"Version": "2012-10-17", "Statement": [{**TRUST, "Principal": who}]}
        client = desk.client("iam")
        made = client.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(policy))
        client.put_role_policy(RoleName=name, PolicyName="work", PolicyDocument=json.dumps(may or EVERYTHING))
        arn: str = made["Role"]["Arn"]
        return arn

    return make


@pytest.fixture
def itself() -> Iterator[Callable[..., None]]:
    """Remembers classes of moto before a stand-in is installed, and makes them themselves again."""
    kept: dict[type, dict[str, Any]] = {}

    def remember(*classes: type) -> None:
        kept.update({cls: dict(vars(cls)) for cls in classes})

    yield remember
    for cls, old in kept.items():
        for name in set(vars(cls)) - set(old):
            delattr(cls, name)
        for name, value in old.items():
            if vars(cls)[name] is not value:
                setattr(cls, name, value)


def _until_ready(child_process: subprocess.Popen[bytes], root: Path) -> launch.Server:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        server = launch.running(root)
        if server is not None:
            return server
        assert child_process.poll() is None, (root / "server.log").read_text()
        time.sleep(0.05)
    raise AssertionError("the server did not answer: " + (root / "server.log").read_text())


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """The embedded AWS as the lab starts it, with every stand-in and no stack; one for the whole session."""
    root = tmp_path_factory.mktemp("embedded")
    argv = [sys.executable, "-m", "lab.server", "--root", str(root), "--watch-parent"]
    with (root / "server.log").open("wb") as log:
        server = subprocess.Popen(argv, cwd=REPO, stdout=log, stderr=log)
    try:
        yield _until_ready(server, root).engine()
    finally:
        server.terminate()
        server.wait(timeout=20)


def synthesis(out: Path, overrides: dict[str, Any]) -> Path:
    """The lab's own cdk.out under settings laid over lab.toml, synthesized in a child process."""
    env = {
        **os.environ,
        "CDK_OUTDIR": str(out),
        "LAB_CONFIG": str(REPO / "tests" / "lab.toml"),
        "PYTHONPATH": str(REPO),
    }
    env["LAB_OVERRIDES"] = json.dumps(overrides)
    done = subprocess.run([sys.executable, "-m", "infra.app"], cwd=REPO, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="session")
def synthesized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The lab's own cdk.out."""
    return synthesis(tmp_path_factory.mktemp("cdk.out"), {})


@pytest.fixture(scope="session")
def synthesized_private(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same in private subnets."""
    private = {"security": {"network": "vpc"}, "serving": {"serverless": False}}
    return synthesis(tmp_path_factory.mktemp("private"), private)


@pytest.fixture
def until() -> Callable[[Callable[[], Any]], Any]:
    """Waits until a question is answered with something true, and gives that."""

    def wait(ask: Callable[[], Any], seconds: float = 60.0) -> Any:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            answer = ask()
            if answer:
                return answer
            time.sleep(0.05)
        raise AssertionError(f"not true within {seconds} s")

    return wait


@pytest.fixture
def trusting(engine: Engine) -> Callable[[str], str]:
    """Makes a role on the session's engine that a service may assume and that may do everything; gives its ARN."""

    def make(service: str) -> str:
        policy = {
            "Version": "2012-10-17",
            "Statement": [{**TRUST, "Principal": {"Service": f"{service}.amazonaws.com"}}],
        }
        name = f"{service}-{uuid.uuid4().hex[:8]}"
        client = engine.client("iam")
        made = client.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(policy))
        client.put_role_policy(RoleName=name, PolicyName="everything", PolicyDocument=json.dumps(EVERYTHING))
        return str(made["Role"]["Arn"])

    return make


@pytest.fixture
def cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cloud:
    """The cloud, as the engine that `lab up` started; the command line works in `tmp_path`."""
    repo = tmp_path / "repo"
    (repo / "models").mkdir(parents=True)
    (repo / "models" / "__init__.py").touch()
    (repo / "models" / "datasets.py").write_text(DATASETS)
    (tmp_path / "engine" / "jobs" / "sagemaker" / "run-1-train").mkdir(parents=True)
    log = (
        "\n".join(f"epoch={n} train_loss=0.{9 - n} val_accuracy=0.9;" for n in (1, 2))
        + "\nValueError: the oven is off\n"
    )
    (tmp_path / "engine" / "jobs" / "sagemaker" / "run-1-train" / "log.txt").write_text(log)
    made = Cloud(tmp_path / "engine")
    home = Home(repo, tmp_path / ".lab", repo / "lab.toml")
    monkeypatch.setattr("lab.home.find", lambda config=None: home)
    monkeypatch.setattr(launch, "running", lambda root: Server(made))
    settings = {"data": {"dataset": "digits"}}
    (tmp_path / "lab.json").write_text(json.dumps({"settings": settings, "template": "template.json"}))
    (tmp_path / "template.json").write_text(json.dumps({"Resources": {}}))
    monkeypatch.setattr(synth, "synth", lambda *_: synth.Assembly(tmp_path, "x", True, 0.0))
    monkeypatch.setattr(stack, "deploy", lambda *_: False)
    monkeypatch.setattr("lab.grants.taken", lambda engine: {"roles": {}, "resources": {}, "calls": []})
    monkeypatch.setattr("lab.bulk.put", lambda engine, bucket, prefix, folder, paths: None)
    monkeypatch.setattr(stack, "deployed", lambda engine: Stack(engine, "ml-lab-dev", OUTPUTS, settings))
    return made


@pytest.fixture
def core(tmp_path: Path) -> Iterator[Core]:
    made = Core(tmp_path)
    yield made
    for wire in made.wires:
        wire.socket.close()
    made.server.stop()


@pytest.fixture
def aws(desk: Engine, itself: Callable[..., None]) -> Engine:
    """The desk with SageMaker's jobs; files about another service have one of their own."""
    itself(SageMakerResponse, SageMakerRuntimeResponse)
    sagemaker.install(desk)
    return desk


@pytest.fixture
def data(aws: Engine) -> Any:
    """A bucket with one curated file."""
    s3 = aws.client("s3")
    s3.create_bucket(Bucket="data")
    s3.put_object(Bucket="data", Key="curated/r1/train/part-0.txt", Body=b"seven")
    return s3
