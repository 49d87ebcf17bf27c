"""A raw table or series in a folder with its manifest, and what the ETL made of it."""

import csv
import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from models import curated
from models.contract import Contract
from pipelines.jobs import etl

SPLITS = ("train", "validation", "test")
ROWS = 200


def rows(count: int = ROWS) -> list[list[str]]:
    """x, colour, y with gaps, label."""
    rng = np.random.default_rng(3)
    found = []
    for at in range(count):
        x, y = rng.normal(0, 1), rng.normal(1e6, 3)
        colour = ("red", "blue", "green")[int(rng.integers(3))]
        found.append([f"{x:.6f}", colour, "" if at % 9 == 0 else f"{y:.3f}", "yes" if x > 0 else "no"])
    return found


HEADER = ["x", "colour", "y", "label"]


class Raw:
    """Raw files of a table in a folder, and their manifest."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = root / "raw" / "rows"
        self.folder.mkdir(parents=True)

    def put(self, name: str, content: bytes) -> None:
        (self.folder / name).write_bytes(content)

    def text(self, name: str, lines: list[list[str]], header: list[str] | None = None, delimiter: str = ",") -> None:
        out = io.StringIO()
        csv.writer(out, delimiter=delimiter).writerows(([header] if header else []) + lines)
        self.put(name, out.getvalue().encode())

    def manifest(self, modality: str = "tabular", task: str = "classification", **table: Any) -> None:
        files = [
            {
                "path": path.name,
                "bytes": path.stat().st_size,
                "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
                "label": "",
            }
            for path in sorted(self.folder.iterdir())
            if not path.name.startswith("_")
        ]
        lines = "".join(sorted(f"{file['path']} {file['sha256']} \n" for file in files))
        default = {
            "format": "csv", "delimiter": ",", "header": True, "encoding": "utf-8", "names": HEADER,
            "features": ["x", "colour", "y"], "categories": ["colour"], "target": "label", "group": "", "time": "",
            "missing": ["?"], "window": 8, "stride": 1, "rul_cap": 125, "intervals": [], "parts": {},
        }  # fmt: skip
        document = {
            "schema": 1, "dataset": "rows", "modality": modality, "task": task, "source": "test", "classes": [],
            "pixels": 0, "files": files, "digest": hashlib.sha256(lines.encode()).hexdigest(),
            "table": default | table,
        }  # fmt: skip
        self.put("_manifest.json", json.dumps(document).encode())

    def curate(self, run: str = "r", *more: str) -> Contract:
        key = "raw/rows/_manifest.json"
        assert etl.main(["--root", str(self.root), "--key", key, "--run", run, "--seed", "17", *more]) == 0
        return Contract.load(self.out(run) / "contract.json")

    def out(self, run: str = "r") -> Path:
        return self.root / "curated" / run

    def report(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.out() / "data_report.json").read_text("utf-8"))
        return found

    def table(self, split: str) -> dict[str, list[Any]]:
        parts = sorted((self.out() / split).glob("part-*.parquet"))
        found: dict[str, list[Any]] = pa.concat_tables([pq.read_table(part) for part in parts]).to_pydict()
        return found

    def every(self) -> dict[str, np.ndarray]:
        """Tensors by source, of all splits."""
        found = {}
        for split in SPLITS:
            tensors, _, sources = curated.read(self.out(), split)
            found.update(zip(sources, tensors, strict=True))
        return found
