"""What endpoint and device receive: an artefact with the digest of every file in it.

Archives are byte-reproducible: sorted names, fixed times, no owner.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.contract import Contract
from models.export.formats import Format

GOLDEN = 8
EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a ZIP can hold


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write(
    folder: Path,
    *,
    version: str,
    run: str,
    form: Format,
    files: Sequence[str],
    contract: Contract,
    opset: int,
    p95_ms: float | None,
    tolerance: float,
    golden: tuple[npt.NDArray[Any], npt.NDArray[np.float32]],
) -> None:
    """Completes `folder`, which holds the artefact's `files`, the one that is loaded first, to a package.

    `golden` is 8 raw tensors and the artefact's own answers [8, K] where it was measured: whoever loads the package
    checks its arithmetic against what was released. `tolerance` is by how much they may differ on another CPU, `p95_ms`
    the time budget of one sample, None for none.
    """
    contract.save(folder / "contract.json")
    np.savez(folder / "golden.npz", inputs=golden[0], outputs=golden[1])
    names = ["contract.json", "golden.npz", *files]
    about: dict[str, Any] = {
        "schema": 1,
        "version": version,
        "run": run,
        "format": form.name,
        "runtime": form.runtime,
        "files": list(files),
        "task": contract.task,
        "sha256": {name: sha256(folder / name) for name in names},
        "input": {"name": "samples", "shape": list(contract.shape), "dtype": contract.dtype},
        "outputs": [{"name": "answers", "shape": [len(contract.classes) or 1]}],
        "opset": opset,
        "p95_ms": p95_ms,
        "tolerance": tolerance,
    }
    (folder / "model.json").write_text(json.dumps(about, indent=1, sort_keys=True) + "\n", "utf-8")


def zipped(folder: Path, to: Path) -> None:
    """The files of `folder` as a ZIP, for Greengrass."""
    to.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(to, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.iterdir()):
            entry = zipfile.ZipInfo(path.name, EPOCH)
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, path.read_bytes())


def tarred(folder: Path, to: Path) -> None:
    """The files of `folder` as a gzip tar, for SageMaker."""
    to.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for path in sorted(folder.iterdir()):
            entry = tarfile.TarInfo(path.name)
            entry.size = path.stat().st_size
            entry.mode = 0o644
            archive.addfile(entry, io.BytesIO(path.read_bytes()))
    with to.open("wb") as stream, gzip.GzipFile(fileobj=stream, mode="wb", mtime=0, filename="") as compressed:
        compressed.write(buffer.getvalue())
