"""One preprocessing: ETL, training, endpoint and device make the same tensor of a raw sample, bit for bit."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import local_spark
import pytest

from models import curated, datasets, features, payload
from models.contract import Contract
from pipelines.jobs import etl

pytestmark = [pytest.mark.slow, local_spark.QUIET]
SPLITS = ("train", "validation", "test")


@pytest.fixture(scope="module", autouse=True)
def spark() -> Iterator[Any]:
    with local_spark.session() as session:
        yield session


class Lake:
    """A built-in data set, raw and curated."""

    def __init__(self, root: Path, name: str, count: int) -> None:
        self.raw = root / "raw" / name
        self.manifest = datasets.write(name, self.raw, count=count)
        etl.main(["--root", str(root), "--key", f"raw/{name}/_manifest.json", "--run", "r"])
        self.folder = root / "curated" / "r"
        self.contract = Contract.load(self.folder / "contract.json")

    def trained_on(self) -> dict[str, bytes]:
        """The tensor of each sample by its source, as training reads it."""
        found = {}
        for split in SPLITS:
            tensors, _, sources = curated.read(self.folder, split)
            found |= {source: tensor.tobytes() for source, tensor in zip(sources, tensors, strict=True)}
        return found

    def asked(self, kind: str, body: bytes) -> list[bytes]:
        """What the endpoint makes of a request, which is what the device makes of a file."""
        endpoint = payload.read(kind, body, self.contract)
        device = features.read(body, self.contract)
        assert endpoint.tobytes() == device.tobytes()
        return [tensor.tobytes() for tensor in endpoint]


def test_a_picture(tmp_path: Path) -> None:
    lake = Lake(tmp_path, "digits", 200)
    trained = lake.trained_on()
    assert len(trained) > 150
    for source, tensor in trained.items():
        assert lake.asked("image/png", (lake.raw / source).read_bytes()) == [tensor]


def test_a_row_of_a_table(tmp_path: Path) -> None:
    lake = Lake(tmp_path, "breast-cancer", 300)
    trained = lake.trained_on()
    rows = lake.asked("text/csv", (lake.raw / "breast-cancer.csv").read_bytes())
    assert len(trained) == len(rows) == 300
    for number, row in enumerate(rows, 1):
        assert trained[f"breast-cancer.csv:{number}"] == row


def test_a_window_of_a_series(tmp_path: Path) -> None:
    lake = Lake(tmp_path, "turbofan-like", 9)
    trained = set(lake.trained_on().values())
    header, *lines = (lake.raw / "turbofan-like.csv").read_text("utf-8").splitlines()
    windows: set[bytes] = set()
    for unit in range(1, 10):
        rows = [line for line in lines if line.startswith(f"{unit},")]
        windows |= set(lake.asked("text/csv", "\n".join([header, *rows]).encode()))
    assert trained == windows
    (first,) = lake.asked("text/csv", (lake.raw / lake.manifest["sample"]).read_bytes())
    assert first in trained
