"""The model and the decoding of a body without any server: what an endpoint's figures are compared with.

    python benchmarks/peers/bare.py PACKAGE   prints one JSON document

`p50_ms` a prediction of one sample; `load_s` the package's load, its checks included and the runtime's import not;
`model_mb` what the process grew by it; `json_*` and `naive_*` milliseconds from a JSON body to a batch, by us and by
the standard library with numpy, the body with spaces and without.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import numpy as np
import onnxruntime  # noqa: F401 - what the runtime itself costs is not the model's

from models import payload
from models.runtime import Model, timed

ROUNDS = 2000
PAGE = os.sysconf("SC_PAGE_SIZE")


def resident() -> float:
    """Megabytes of this process in memory (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE / (1 << 20)


def median(do: Callable[[], Any], rounds: int) -> float:
    """Milliseconds."""
    taken = []
    for _ in range(rounds):
        start = time.perf_counter()
        do()
        taken.append((time.perf_counter() - start) * 1000.0)
    return statistics.median(taken)


def main(package: Path) -> None:
    """Measures and prints."""
    before, start = resident(), time.perf_counter()
    model = Model.load(package, threads=1)
    loaded, grown = time.perf_counter() - start, resident() - before
    sample = np.random.default_rng(7).integers(0, 256, (1, *model.contract.shape), np.uint8)
    found: dict[str, Any] = {"p50_ms": statistics.median(timed(model, sample, ROUNDS))}
    found |= {"load_s": loaded, "model_mb": grown}
    for name, separators in (("spaced", (", ", ": ")), ("dense", (",", ":"))):
        body = json.dumps({"instances": sample.tolist()}, separators=separators).encode()
        found[f"json_{name}_ms"] = median(lambda body=body: payload.read("application/json", body, model.contract), 300)  # type: ignore[misc]  # a default binds the loop's value
        found[f"naive_{name}_ms"] = median(lambda body=body: np.asarray(json.loads(body)["instances"], np.uint8), 50)  # type: ignore[misc]  # as above
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
