"""A customer's copy of the lab to break on purpose, and the command line as a person would call it."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[1]
PARTS = ("models", "pipelines", "edge", "infra", "lab", "cdk.json", "pyproject.toml", "requirements.lock")


@dataclass(frozen=True)
class Project:
    """A copy of the repository in a folder of its own; `lab` runs there as `python -m lab`."""

    root: Path

    def lab(self, *args: str, timeout: float = 280, **env: str) -> subprocess.CompletedProcess[str]:
        """Run one command to its end; nothing of the caller's AWS settings reaches it."""
        return subprocess.run(
            [sys.executable, "-m", "lab", *args],
            cwd=self.root,
            env={**self.environment(), **env},
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    def start(self, *args: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "lab", *args],
            cwd=self.root,
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    @staticmethod
    def environment() -> dict[str, str]:
        return {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "LAB_", "MLFLOW_"))}

    def edit(self, relative: str, change: Callable[[str], str]) -> None:
        """Rewrite one file; a change that changes nothing is a test that tests nothing."""
        path = self.root / relative
        before = path.read_text("utf-8")
        after = change(before)
        assert after != before, f"{relative} was not changed"
        path.write_text(after, "utf-8")

    def record(self) -> dict[str, Any]:
        """The newest run's record.json."""
        newest = max((self.root / ".lab" / "runs").glob("*/record.json"), key=lambda path: path.stat().st_mtime)
        found: dict[str, Any] = json.loads(newest.read_text("utf-8"))
        return found

    def processes(self) -> list[str]:
        """Every live process that works in this copy, by command line."""
        found = []
        for process in psutil.process_iter():
            try:
                words = [process.cwd(), *process.cmdline()]
                if process.status() != psutil.STATUS_ZOMBIE and any(str(self.root) in word for word in words):
                    found.append(" ".join(words))
            except psutil.Error:
                continue
        return found


def copy_project(to: Path) -> Project:
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, to / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            to.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, to / part)
    shutil.copy2(ROOT / "tests" / "lab.toml", to / "lab.toml")
    return Project(to)


def end(project: Project) -> list[str]:
    """Ends whatever still runs in a copy; returns what that was."""
    left = project.processes()
    for process in psutil.process_iter():
        try:
            if any(str(project.root) in word for word in [process.cwd(), *process.cmdline()]):
                process.kill()
        except psutil.Error:
            continue
    return left


def small(text: str) -> str:
    """lab.toml for a run whose model need not be good: few epochs, a low bar."""
    settings = {"epochs": "epochs = 3", "accuracy": "accuracy = 0.3", "beat_baseline": "beat_baseline = false"}
    return "".join(settings.get(line.split("=")[0].strip(), line) + "\n" for line in text.splitlines())
