"""The model behind LitServe, batches of up to 32: pixels as base64 in JSON, the least it takes.

    python benchmarks/peers/litserve_server.py PACKAGE PORT [--fast-queue]

Shipped as it is, it reads JSON and forms; a form's file is slower than base64. Its queue between server and worker is a
process's own unless `--fast-queue` asks for ZeroMQ, which took half the time and is off by default.
"""

from __future__ import annotations

import base64
import sys
from pathlib import Path
from typing import Any

import litserve
import numpy as np
from session import Net, pixels

PACKAGE = Path(sys.argv[1])


class Api(litserve.LitAPI):  # type: ignore[misc]  # LitServe has no types
    """Decodes, stacks, asks the net, and gives probabilities as a list."""

    def setup(self, device: str) -> None:
        self.net = Net(PACKAGE)

    def decode_request(self, request):  # type: ignore[no-untyped-def]  # LitServe takes its schema from a type here
        return pixels(base64.b64decode(request["pixels"]))

    def batch(self, inputs: Any) -> Any:
        return np.concatenate(inputs)

    def predict(self, batch: Any) -> Any:
        return self.net(batch)

    def unbatch(self, output: Any) -> Any:
        return list(output)

    def encode_response(self, output):  # type: ignore[no-untyped-def]  # as decode_request
        return {"probabilities": output.tolist()}


if __name__ == "__main__":
    api = Api(max_batch_size=32, batch_timeout=0.0, api_path="/invocations")
    server = litserve.LitServer(
        api,
        accelerator="cpu",
        workers_per_device=1,
        fast_queue="--fast-queue" in sys.argv[3:],
        healthcheck_path="/ping",
        timeout=120,
    )
    server.run(host="127.0.0.1", port=int(sys.argv[2]), log_level="error", generate_client_file=False, access_log=False)
