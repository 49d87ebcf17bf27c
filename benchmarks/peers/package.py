"""Makes the package that `lab bench serve` serves: a 64 px colour net, exported and packed by the flow's own release.

    python benchmarks/peers/package.py FOLDER   from the repository's root

The net's weights are drawn, not trained: what a layer costs does not depend on them. FOLDER is the package afterwards,
as the endpoint unpacks it: model.onnx, model.json, contract.json, golden.npz.
"""

from __future__ import annotations

import sys
import tarfile
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from models import net
from models.contract import SCHEMA, Contract
from models.export import release

SHAPE = (3, 64, 64)
CLASSES = ("bad", "good", "scratched", "unknown")
SAMPLES = 64
TARGET = {"cloud-cpu": {"formats": ["onnx-fp32"], "threads": 1, "batch": 1, "measure": "allowed"}}


def contract() -> Contract:
    """Colour pictures of 64 px, four classes."""
    return Contract(
        schema=SCHEMA, dataset="bench", modality="image", task="classification", shape=SHAPE, classes=CLASSES,
        mean=(127.0,) * 3, std=(73.0,) * 3, counts={}, profile={},
    )  # fmt: skip


def curate(folder: Path, about: Contract) -> None:
    """Random pictures as the ETL leaves them."""
    rng = np.random.default_rng(7)
    for split in ("train", "validation", "test"):
        (folder / split).mkdir(parents=True)
        rows = [
            {
                "id": f"{split}-{place}",
                "source": f"{split}/{place}.png",
                "label": place % len(CLASSES),
                "label_name": CLASSES[place % len(CLASSES)],
                "tensor": rng.integers(0, 256, SHAPE, np.uint8).tobytes(),
            }
            for place in range(SAMPLES)
        ]
        table = pa.Table.from_pylist(rows)
        pq.write_table(table.set_column(2, "label", table["label"].cast(pa.int32())), folder / split / "part-0.parquet")
    about.save(folder / "contract.json")


def main(out: Path) -> None:
    """Writes the package to `out`."""
    torch.manual_seed(7)
    about = contract()
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        curate(root / "curated", about)
        net.save(net.build(about, "tiny").eval(), about, "tiny", root / "model")
        manifest = release.release(root / "model", root / "curated", root / "releases", TARGET, "bench")
        out.mkdir(parents=True, exist_ok=True)
        with tarfile.open(root / "releases" / manifest["version"] / "endpoint" / "model.tar.gz") as archive:
            archive.extractall(out, filter="data")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
