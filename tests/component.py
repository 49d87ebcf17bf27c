"""The component's service in this process, and the pictures that it is asked about."""

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from edge import stager
from edge.inference import Service
from edge.settings import Settings


def eventually(condition: Callable[[], Any], seconds: float = 30.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return bool(condition())


class Desk:
    """The service in this process, with what it says to the cloud."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.work = folder / "work" / "lab.Inference"
        self.store = folder / "work" / "lab.Model" / "store"
        self.work.mkdir(parents=True, exist_ok=True)
        self.service = Service(self.work, "desk-1", None)
        self.service.settings = Settings(
            model_component="lab.Model", poll_s=0.02, **{"probation_n": 40, "source": "folder:inbox", **settings}
        )
        self.service.prepare()
        self.alerts: list[dict[str, Any]] = []
        self.service.forwarder.alert = self._alert  # type: ignore[method-assign]
        self.ended: list[int] = []

    def _alert(self, kind: str, **about: Any) -> None:
        self.alerts.append({"kind": kind, **about})

    def start(self) -> None:
        self.thread = threading.Thread(target=lambda: self.ended.append(self.service.serve()), daemon=True)
        self.thread.start()

    def stop(self) -> None:
        self.service.stopping.set()
        if hasattr(self, "thread"):
            self.thread.join(20)

    def stage(self, package: Path, version: str) -> None:
        stager.stage(package, version, self.store)

    def serves(self, version: str) -> bool:
        current = self.service.switch.current
        return current is not None and current.version == version

    def results(self) -> list[dict[str, Any]]:
        self.service.results.flush()
        found = []
        for name in ("results.jsonl.1", "results.jsonl"):
            path = self.work / name
            found += [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        return found

    def kinds(self) -> list[str]:
        return [str(alert["kind"]) for alert in self.alerts]


def png(value: int) -> bytes:
    import io

    data = io.BytesIO()
    Image.fromarray(np.full((8, 8), value, np.uint8)).save(data, "PNG")
    return data.getvalue()


def answered(seed: int, value: int) -> float:
    """Confidence of the package of a seed on a grey picture, by numpy."""
    weights = np.random.default_rng(seed).normal(0, 0.01, (64, 3)).astype(np.float32)
    scores = np.full(64, value, np.float32) @ weights
    powers = np.exp(scores - scores.max())
    return float((powers / powers.sum()).max())
