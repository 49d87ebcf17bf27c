"""Where the lab keeps its state on disk: one folder, `.lab` (or LAB_HOME).

.lab/synth/<hash>/     synthesized assemblies, by content
.lab/up/               the embedded AWS that `lab up` started
.lab/engines/<stamp>/  the embedded AWS of one `lab run`; goes when the run ends
.lab/runs/<run>/       what a run leaves: record, report, logs, artefacts
"""

from __future__ import annotations

import json
import os
import tempfile
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.errors import LabError


@dataclass(frozen=True)
class Home:
    """The folders of one lab: `repo` holds the sources, `root` the state, `config` is its lab.toml.

    `environment` is the one of lab.toml's that was asked for, None for the one that the file itself names.
    """

    repo: Path
    root: Path
    config: Path
    environment: str | None = None

    @property
    def up(self) -> Path:
        return self.root / "up"

    @property
    def engines(self) -> Path:
        return self.root / "engines"

    @property
    def runs(self) -> Path:
        return self.root / "runs"

    @property
    def synth(self) -> Path:
        return self.root / "synth"

    def region(self, over: Mapping[str, Mapping[str, Any]] | None = None) -> str:
        """The region of lab.toml; `over` goes first."""
        return str(self._lab(over)["region"])

    def account(self) -> str | None:
        """The account that lab.toml names for the environment, if any."""
        return self._lab(None).get("account")

    def prefix(self) -> str:
        """What the stack and every resource in it are named after, such as `ml-lab-dev`."""
        lab = self._lab(None)
        return f"{lab['name']}-{lab['environment']}"

    def _lab(self, over: Mapping[str, Mapping[str, Any]] | None) -> dict[str, Any]:
        """`[lab]` before synthesis, which owns the schema and says what is wrong with the file."""
        chosen = dict((over or {}).get("lab", {}))
        try:
            tables = tomllib.loads(self.config.read_text(encoding="utf-8"))
            table = dict(tables.get("lab", {}))
            name = chosen.get("environment") or self.environment or table.get("environment", "dev")
            chosen = {**table, **tables.get("environments", {}).get(name, {}), "environment": name, **chosen}
        except (OSError, ValueError, TypeError, AttributeError):
            pass
        return {"name": "ml-lab", "environment": "dev", "region": "us-east-1", **chosen}

    def runs_newest_first(self) -> list[Path]:
        """Run folders that hold a whole record, newest first."""
        records = list(self.runs.glob("*/record.json"))
        return [path.parent for path in sorted(records, key=lambda path: path.stat().st_mtime, reverse=True)]

    def run(self, name: str | None) -> Path:
        """The folder of run `name` (or an unambiguous start of it); the newest when None."""
        runs = self.runs_newest_first()
        if not runs:
            raise LabError(f"there is no run in {self.runs}", "start one: lab run")
        if name is None:
            return runs[0]
        found = [path for path in runs if path.name == name] or [path for path in runs if path.name.startswith(name)]
        if len(found) == 1:
            return found[0]
        what = "no run is called" if not found else f"{len(found)} runs start with"
        raise LabError(f"{what} {name!r}", "the runs are: " + ", ".join(path.name for path in runs[:8]))


def find(config: str | None = None) -> Home:
    """The lab that this process works on.

    The sources are those this package lies beside, so that what runs is what is synthesized. `config` comes
    before LAB_CONFIG, before ./lab.toml, before the repository's.
    """
    asked = os.environ.get("LAB_ENVIRONMENT") or None
    repo = Path(__file__).resolve().parent.parent
    root = Path(os.environ.get("LAB_HOME") or ".lab").resolve()
    named = config or os.environ.get("LAB_CONFIG")
    if named:
        path = Path(named).resolve()
        if not path.is_file():
            raise LabError(f"there is no settings file {named}", "name an existing lab.toml with --config")
        return Home(repo, root, path, asked)
    here = Path("lab.toml").resolve()
    return Home(repo, root, here if here.is_file() else repo / "lab.toml", asked)


def write_atomically(path: Path, text: str) -> None:
    """Writes `text` so that a reader sees the old file or the new one, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read_json(path: Path) -> Any:
    """The JSON document in `path`; LabError when it is missing or broken."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise LabError(f"{path} is missing") from None
    except ValueError as error:
        raise LabError(f"{path} is not a JSON document: {error}", "delete it and run again") from None


def overrides(dataset: str | None, size: str | None) -> dict[str, dict[str, str]]:
    """What the options --dataset (a built-in's name) and --size put over lab.toml."""
    over: dict[str, dict[str, str]] = {}
    if dataset:
        over["data"] = {"dataset": dataset}
    if size:
        over["train"] = {"size": size}
    return over


def merged_overrides(own: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """`own` over the LAB_OVERRIDES that this process was started with."""
    given = os.environ.get("LAB_OVERRIDES") or "{}"
    try:
        base = json.loads(given)
        whole = {str(table): dict(values) for table, values in base.items()}
    except (ValueError, AttributeError, TypeError):
        raise LabError(f"LAB_OVERRIDES is not a JSON object of tables: {given!r}", "unset LAB_OVERRIDES") from None
    for table, values in own.items():
        whole[table] = {**whole.get(table, {}), **values}
    return whole
