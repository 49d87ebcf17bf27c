"""Starts the endpoint's server under SageMaker's contract of port, model folder and `serve`."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.runtime import PackageError
from models.serve import serve
from pipelines.jobs import folders, metrics


@dataclass(frozen=True, kw_only=True)
class Environment:
    """What SageMaker says about this container. It serves on all interfaces, for that is where the platform asks.

    `namespace` is where CloudWatch keeps the figures, `endpoint` their dimension.
    """

    model: Path
    host: str
    port: int
    namespace: str
    endpoint: str

    @classmethod
    def read(cls) -> Environment:
        """From the process's environment."""
        return cls(
            model=Path(os.environ.get("SM_MODEL_DIR") or folders.ml() / "model"),
            host=os.environ.get("BIND_HOST") or "0.0.0.0",
            port=int(os.environ.get("SAGEMAKER_BIND_TO_PORT") or 8080),
            namespace=os.environ.get("METRICS_NAMESPACE") or "Endpoint",
            endpoint=os.environ.get("ENDPOINT_NAME") or "local",
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Serves until SIGTERM. Exit 1 when the model package must not serve."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.jobs.serve")
    parser.add_argument(
        "command", nargs="?", choices=["serve"], default="serve", help="what SageMaker adds to the entry"
    )
    parser.parse_args(argv)
    metrics.start(sys.stdout)
    here = Environment.read()

    def report(figures: dict[str, Any]) -> None:
        line = metrics.embedded(figures, here.namespace, {"EndpointName": here.endpoint}, time.time())
        sys.stdout.write(line + "\n")
        sys.stdout.flush()

    try:
        serve(here.model, here.host, here.port, report=report)
    except PackageError as error:
        logging.getLogger(__name__).error("the package in %s must not serve: %s", here.model, error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
