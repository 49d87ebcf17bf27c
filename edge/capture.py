"""Samples kept for labelling: few a day, the uncertain and the unusual first, only where it was switched on.

<work>/capture/<id>.png|.csv and <id>.json     a sample and what was answered, until both are uploaded
<work>/capture/day.json                        how many were kept today
"""

from __future__ import annotations

import json
import logging
import random
import uuid
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from edge.files import read_json, write_json
from edge.frames import Frame
from edge.settings import Settings
from edge.switch import Serving

SCHEMA = 1
# Of the day's budget this share is for samples taken at random: what a model is sure of can be wrong too.
AT_RANDOM = 0.1
RATE = 0.01
WAITING = 64  # samples between the model and the disk
_log = logging.getLogger(__name__)

# Puts one object: its key and content. Raises OSError when it cannot be put now.
Put = Callable[[str, bytes], None]


class Capture:
    """Keeps samples within `capture_per_day` and `capture_mb`, and hands them to `put` one by one.

    `consider` is the worker's; `keep` and `upload` belong to a thread that may wait.
    """

    def __init__(self, work: Path, thing: str, settings: Settings, seed: int | None = None) -> None:
        self.folder = work / "capture"
        self.thing = thing
        self.settings = settings
        self._random = random.Random(seed)
        self._waiting: deque[tuple[Frame, Serving, dict[str, Any], str]] = deque(maxlen=WAITING)

    def consider(self, frame: Frame, serving: Serving, answer: dict[str, Any], drifted: bool) -> bool:
        """Whether the sample is worth a person's look; it then waits for `keep`. Waits for no disk itself."""
        why = self._why(answer.get("confidence"), drifted) if self.settings.capture_per_day else None
        if why is not None:
            self._waiting.append((frame, serving, answer, why))
        return why is not None

    def keep(self) -> int:
        """Writes down what waits, as far as the budgets allow; how many samples that were."""
        kept = 0
        for _ in range(len(self._waiting)):
            try:
                kept += self._keep(*self._waiting.popleft())
            except OSError as error:
                _log.warning("a sample could not be kept: %s", error)
        return kept

    def upload(self, put: Put) -> int:
        """Hands over what is kept, the oldest first; how many went. Stops at the first that `put` does not take."""
        done = 0
        for note in sorted(self.folder.glob("*.json"), key=lambda path: path.stat().st_mtime):
            about = read_json(note)
            if about is None or "key" not in about:
                continue
            try:
                for file in (note.with_name(about["file"]) if about["file"] else None, note):
                    if file is not None:
                        put(f"{about['key']}{file.suffix}", file.read_bytes())
            except OSError as error:
                _log.warning("samples wait for the bucket: %s", error)
                return done
            if about["file"]:
                note.with_name(about["file"]).unlink(missing_ok=True)
            note.unlink(missing_ok=True)
            done += 1
        return done

    def _why(self, confidence: float | None, drifted: bool) -> str | None:
        if confidence is not None and confidence < self.settings.capture_below:
            return "uncertain"
        if self._random.random() >= RATE and not drifted:
            return None
        return "drift" if drifted else "random"

    def _keep(self, frame: Frame, serving: Serving, answer: dict[str, Any], why: str) -> bool:
        today = f"{datetime.now(UTC):%Y-%m-%d}"
        day = read_json(self.folder / "day.json") or {}
        counts = day if day.get("day") == today else {"day": today}
        total = sum(int(count) for name, count in counts.items() if name != "day")
        budget = self.settings.capture_per_day
        if total >= budget or (why == "random" and int(counts.get(why, 0)) >= max(1, budget * AT_RANDOM)):
            return False
        data = frame.data if self.settings.capture_inputs else b""
        about = self._about(frame, serving, answer, why, today)
        if self._used() + len(data) + len(json.dumps(about)) > self.settings.capture_mb * 2**20:
            return False
        write_json(self.folder / "day.json", {**counts, why: int(counts.get(why, 0)) + 1})
        if data:
            (self.folder / about["file"]).write_bytes(data)
        write_json(self.folder / f"{about['id']}.json", about)
        return True

    def _about(self, frame: Frame, serving: Serving, answer: dict[str, Any], why: str, today: str) -> dict[str, Any]:
        name = uuid.uuid4().hex
        contract = serving.model.contract
        suffix = Path(frame.name).suffix.lower() or (".png" if contract.modality == "image" else ".csv")
        return {
            "schema": SCHEMA,
            "id": name,
            "thing": self.thing,
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "model_version": serving.version,
            "model_sha": serving.sha,
            "label": answer.get("label"),
            "confidence": answer.get("confidence"),
            "value": answer.get("value"),
            "why": why,
            "file": f"{name}{suffix}" if self.settings.capture_inputs else "",
            "key": f"raw/{contract.dataset}-device/{self.thing}/{today}/{name}",
        }

    def _used(self) -> int:
        return sum(path.stat().st_size for path in self.folder.iterdir()) if self.folder.is_dir() else 0
