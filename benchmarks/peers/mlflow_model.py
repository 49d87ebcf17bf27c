"""The model as MLflow loads it from code: a column of bytes in, probabilities out. `mlflow_server.py` serves it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow
import numpy as np
from session import Net, pixels


class Model(mlflow.pyfunc.PythonModel):  # type: ignore[misc,name-defined]  # mlflow has no types
    """A row is a picture."""

    def load_context(self, context: Any) -> None:
        self.net = Net(Path(context.artifacts["package"]))

    def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
        return self.net(np.concatenate([pixels(data) for data in model_input["pixels"]]))


mlflow.models.set_model(Model())
