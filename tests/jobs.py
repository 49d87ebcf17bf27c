"""SageMaker jobs in tests: their image, and how one is awaited."""

import time
from typing import Any

IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/lab-job:t1"


def finish(client: Any, name: str, kind: str = "training") -> dict[str, Any]:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if kind == "training":
            job, status = client.describe_training_job(TrainingJobName=name), "TrainingJobStatus"
        else:
            job, status = client.describe_processing_job(ProcessingJobName=name), "ProcessingJobStatus"
        if job[status] not in ("InProgress", "Stopping"):
            return dict(job)
        time.sleep(0.05)
    raise AssertionError(f"{name} did not end")
