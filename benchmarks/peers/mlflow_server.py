"""The model behind `mlflow models serve`, in this environment and without network.

python benchmarks/peers/mlflow_server.py PACKAGE PORT
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import mlflow
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, Schema

HERE = Path(__file__).parent


def main(package: Path, port: int) -> None:
    """Writes the model and becomes MLflow's server."""
    folder = Path(tempfile.mkdtemp(prefix="lab-mlflow-")) / "model"
    columns = Schema([ColSpec(DataType.binary, "pixels")])
    mlflow.pyfunc.save_model(
        str(folder),
        python_model=str(HERE / "mlflow_model.py"),
        code_paths=[str(HERE / "session.py")],
        artifacts={"package": str(package)},
        signature=ModelSignature(inputs=columns),
        pip_requirements=[],
    )
    argv = ["models", "serve", "-m", str(folder), "--port", str(port), "--host", "127.0.0.1"]
    argv += ["--env-manager", "local", "--workers", "1"]
    # It starts the `uvicorn` that is first on the path.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    os.execve(sys.executable, [sys.executable, "-m", "mlflow", *argv], {**os.environ, "PATH": path})


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute(), int(sys.argv[2]))
