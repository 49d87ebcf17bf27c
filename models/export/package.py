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
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.contract import Contract

GOLDEN = 8
# fp32 on another CPU differs in the last bits; a wrong preprocessing or a wrong file differs far more.
TOLERANCE = 1e-3
EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a ZIP can hold


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write(
    folder: Path,
    *,
    version: str,
    run: str,
    form: str,
    contract: Contract,
    opset: int,
    p95_ms: float | None,
    golden: tuple[npt.NDArray[Any], npt.NDArray[np.float32]],
) -> None:
    """Completes `folder`, which holds `model.onnx`, to a package.

    `golden` is 8 raw tensors and their answers [8, K]. `p95_ms` is the time budget of one sample, None for none.
    """
    contract.save(folder / "contract.json")
    np.savez(folder / "golden.npz", inputs=golden[0], outputs=golden[1])
    names = ["contract.json", "golden.npz", "model.onnx"]
    about: dict[str, Any] = {
        "schema": 1,
        "version": version,
        "run": run,
        "format": form,
        "task": contract.task,
        "sha256": {name: sha256(folder / name) for name in names},
        "input": {"name": "samples", "shape": list(contract.shape), "dtype": contract.dtype},
        "outputs": [{"name": "answers", "shape": [len(contract.classes) or 1]}],
        "opset": opset,
        "p95_ms": p95_ms,
        "tolerance": TOLERANCE,
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
