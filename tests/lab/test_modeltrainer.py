"""The SageMaker SDK's own ModelTrainer runs a training job on the desk, unchanged."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from moto.iam.responses import IamResponse
from moto.sagemaker.responses import SageMakerResponse
from moto.sagemakerruntime.responses import SageMakerRuntimeResponse

from lab import sagemaker
from lab.engine import Engine

SCRIPT = """
import argparse, os, pathlib
parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int)
epochs = parser.parse_args().epochs
text = pathlib.Path(os.environ["SM_CHANNEL_CURATED"], "part-0.txt").read_text()
pathlib.Path(os.environ["SM_MODEL_DIR"], "model.txt").write_text(f"{text} {epochs}")
"""
# A role that the SDK accepts: it asks the simulator for all that it may need, network interfaces of a VPC included.
CLIENT = """
import sys
import boto3
from sagemaker.core.helper import IamRoleResolver
from sagemaker.core.helper.session_helper import Session
from sagemaker.core.training.configs import Compute, InputData, OutputDataConfig, SourceCode
from sagemaker.train import ModelTrainer

s3 = boto3.client("s3")
s3.create_bucket(Bucket="data")
s3.put_object(Bucket="data", Key="curated/part-0.txt", Body=b"seven")
trainer = ModelTrainer(
    training_image="123456789012.dkr.ecr.us-east-1.amazonaws.com/lab-job:t1",
    role=IamRoleResolver().create_execution_role(role_type="training"),
    sagemaker_session=Session(default_bucket="data"),
    source_code=SourceCode(source_dir=sys.argv[1], entry_script="run.py"),
    compute=Compute(instance_type="ml.m5.large", instance_count=1, volume_size_in_gb=5),
    hyperparameters={"epochs": 3},
    base_job_name="adhoc",
    output_data_config=OutputDataConfig(s3_output_path="s3://data/out"),
)
trainer.train(input_data_config=[InputData(channel_name="curated", data_source="s3://data/curated/")])
print("RESULT", trainer._latest_training_job.training_job_status)
"""


@pytest.mark.slow
def test_model_trainer_trains_on_the_desk(desk: Engine, itself: Callable[..., None], tmp_path: Path) -> None:
    itself(SageMakerResponse, SageMakerRuntimeResponse, IamResponse)
    sagemaker.install(desk)
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "run.py").write_text(SCRIPT)
    config = tmp_path / "config.yaml"
    config.write_text("SchemaVersion: '1.0'\nSageMaker: {PythonSDK: {Modules: {TelemetryOptOut: true}}}\n")
    env = {
        **os.environ,
        "AWS_ENDPOINT_URL": desk.endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": desk.region,
        "SAGEMAKER_USER_CONFIG_OVERRIDE": str(config),
    }
    command = [sys.executable, "-c", CLIENT, str(tmp_path / "source")]
    done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=200)
    log = next((desk.root / "jobs/sagemaker").glob("adhoc-*/log.txt"), None)
    assert "RESULT Completed" in done.stdout, done.stderr[-2000:] + (log.read_text() if log else "")
    assert log is not None and "Training Container Execution Completed" in log.read_text()
