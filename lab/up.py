"""The embedded AWS in the background: up, down, status, env."""

from __future__ import annotations

import shutil
from typing import Any

from lab import flow, launch, processes, registry, stack, synth
from lab.errors import EngineError
from lab.home import Home, merged_overrides, overrides, write_atomically
from lab.launch import Server
from lab.progress import Progress
from lab.run import refuse_full_disk
from lab.stack import Stack

PORT = 4599
# The SageMaker SDK reports its use to AWS unless its defaults file says no.
SDK_DEFAULTS = "SchemaVersion: '1.0'\nSageMaker:\n  PythonSDK:\n    Modules:\n      TelemetryOptOut: true\n"


def up(home: Home, progress: Progress, *, port: int, size: str | None = None, dataset: str | None = None) -> Server:
    """Starts the embedded AWS in the background and deploys the stack. Raises EngineError when one runs already."""
    refuse_full_disk(home)
    there = launch.running(home.up)
    if there is not None:
        raise EngineError(
            f"the embedded AWS runs already at {there.endpoint} (process {there.pid})", "end it: lab down"
        )
    progress.step("synth")
    assembly = synth.synth(home, merged_overrides(overrides(dataset, size)))
    shutil.rmtree(home.up, ignore_errors=True)
    progress.step("embedded AWS")
    server = launch.start(home, home.up, region=stack.region_of(assembly.path), port=port, with_us=False)
    try:
        progress.step("deploy")
        stack.deploy(server.engine(), assembly)
    except BaseException:
        launch.stop(server)
        raise
    write_atomically(home.up / "sagemaker.yaml", SDK_DEFAULTS)
    return server


def down(home: Home) -> Server | None:
    """Ends the embedded AWS that `up` started; None when none runs. What it held is gone, its logs stay."""
    server = launch.running(home.up)
    if server is not None:
        launch.stop(server)
        processes.wait_until(lambda: launch.running(home.up) is None, seconds=5.0)
    return server


def required(home: Home) -> Server:
    """The embedded AWS that `up` started. Raises EngineError when none runs."""
    server = launch.running(home.up)
    if server is None:
        raise EngineError("no embedded AWS is running", "start it: lab up")
    return server


def status(home: Home) -> dict[str, Any]:
    """What runs: engine, stack, executions (newest first), packages, endpoint, devices."""
    server = required(home)
    deployed = stack.deployed(server.engine())
    return {
        "engine": {"endpoint": server.endpoint, "pid": server.pid, "region": server.region, "root": str(server.root)},
        "stack": {"name": deployed.name, "outputs": dict(deployed.outputs)},
        "executions": [*_executions(deployed, "FlowArn"), *_executions(deployed, "ReleaseFlowArn")],
        "packages": [vars(row) for row in registry.packages(deployed)],
        "endpoint": registry.endpoint(deployed),
        "edge": registry.edge(deployed),
    }


def _executions(deployed: Stack, output: str) -> list[dict[str, str]]:
    client = deployed.client("stepfunctions")
    rows = [client.describe_execution(executionArn=arn) for arn in flow.known(deployed, deployed[output])]
    rows.sort(key=lambda row: row["startDate"], reverse=True)
    name = deployed[output].rpartition(":")[2]
    return [
        {
            "flow": name,
            "run": row["name"],
            "status": row["status"],
            "started": row["startDate"].astimezone().strftime("%Y-%m-%d %H:%M:%S"),
        }
        for row in rows
    ]


def env(home: Home) -> dict[str, str]:
    """Environment variables that point any AWS client on this machine at the embedded AWS."""
    server = required(home)
    return {
        "AWS_ENDPOINT_URL": server.endpoint,
        "AWS_DEFAULT_REGION": server.region,
        "AWS_REGION": server.region,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": "127.0.0.1,localhost",
        "SAGEMAKER_USER_CONFIG_OVERRIDE": str(home.up / "sagemaker.yaml"),
    }
