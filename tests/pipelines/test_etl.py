"""The ETL on a real local Spark: what it writes, what it refuses, and that its tensors are the device's."""

import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import local_spark
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from models import curated, drift, features
from models.contract import Contract
from pipelines.jobs import etl, split
from pipelines.jobs.manifest import Head, ManifestError

pytestmark = [pytest.mark.slow, local_spark.QUIET]
CLASSES = ["dent", "good", "scratch"]
PIXELS = 12


@pytest.fixture(scope="module", autouse=True)
def spark() -> Iterator[Any]:
    with local_spark.session() as session:
        yield session


def png(seed: int, mode: str = "L", size: int = 16) -> bytes:
    channels = 1 if mode == "L" else 3
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, channels), np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels.squeeze(), mode).save(out, "PNG")
    return out.getvalue()


class Raw:
    """A raw data set in a folder; its manifest says what `files` says, whatever lies on disk."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files: dict[str, tuple[str, str]] = {}
        for number, name in enumerate(CLASSES):
            for at in range(50):
                self.add(f"{name}/{at:03}.png", png(1000 * number + at), name)

    def add(self, path: str, content: bytes, label: str) -> None:
        self.put(path, content)
        self.files[path] = (hashlib.sha256(content).hexdigest(), label)

    def put(self, path: str, content: bytes) -> None:
        target = self.root / "raw" / "parts" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)

    def manifest(self, **changes: Any) -> None:
        lines = "".join(sorted(f"{path} {sha} {label}\n" for path, (sha, label) in self.files.items()))
        document = {
            "schema": 1,
            "dataset": "parts",
            "modality": "image",
            "task": "classification",
            "source": "test",
            "classes": CLASSES,
            "files": [
                {"path": path, "bytes": 1, "sha256": sha, "label": label} for path, (sha, label) in self.files.items()
            ],
            "digest": hashlib.sha256(lines.encode()).hexdigest(),
        }
        self.put("_manifest.json", json.dumps({**document, **changes}).encode())

    def curate(self, *argv: str, run: str = "r") -> None:
        key = "raw/parts/_manifest.json"
        arguments = ["--root", str(self.root), "--key", key, "--run", run, "--seed", "17", "--pixels", str(PIXELS)]
        assert etl.main([*arguments, *argv]) == 0

    def curated(self, run: str = "r") -> Path:
        return self.root / "curated" / run

    def report(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.curated() / "data_report.json").read_text("utf-8"))
        return found


@pytest.fixture
def raw(tmp_path: Path) -> Raw:
    return Raw(tmp_path / "lake with space")


@pytest.fixture(scope="module")
def messy(tmp_path_factory: pytest.TempPathFactory) -> Raw:
    """What customers bring: mostly good files, and one of each thing that goes wrong; curated as run `r`."""
    raw = Raw(tmp_path_factory.mktemp("messy lake"))
    raw.add("good/a colour 1.png", png(7, "RGB"), "good")
    raw.add("good/copy.png", (raw.root / "raw/parts/good/001.png").read_bytes(), "good")
    raw.add("dent/lie.png", (raw.root / "raw/parts/good/002.png").read_bytes(), "dent")
    raw.add("good/cut short.png", png(1)[:60], "good")
    raw.add("good/empty.png", b"", "good")
    raw.add("good/gone.png", png(2), "good")
    (raw.root / "raw/parts/good/gone.png").unlink()
    raw.add("good/replaced.png", png(3), "good")
    raw.put("good/replaced.png", png(4))
    raw.add("bent/strange.png", png(5), "bent")
    raw.put("good/late.png", png(9))
    raw.manifest()
    raw.curate("--corrupt-share", "0.1", "--JOB_NAME", "ml-lab-dev-etl", "--JOB_RUN_ID", "jr_1", "--TempDir", "s3://x")
    return raw


def rows(folder: Path, split: str) -> list[dict[str, Any]]:
    parts = sorted((folder / split).glob("part-*.parquet"))
    found: list[dict[str, Any]] = pa.concat_tables([pq.read_table(part) for part in parts]).to_pylist()
    return found


def every(folder: Path) -> dict[str, dict[str, Any]]:
    """All curated rows by source."""
    return {row["source"]: row for side in ("train", "validation", "test") for row in rows(folder, side)}


def test_curated_data_are_what_the_contract_says(messy: Raw) -> None:
    folder = messy.curated()
    contract = Contract.load(folder / "contract.json")
    assert (contract.shape, contract.classes) == ((3, PIXELS, PIXELS), tuple(CLASSES))
    for side in ("train", "validation", "test"):
        found = rows(folder, side)
        assert set(found[0]) == {"id", "source", "label", "label_name", "tensor", "group"}
        assert len(found) == sum(contract.counts[side].values())
        assert all(CLASSES[row["label"]] == row["label_name"] for row in found)


def test_each_class_is_cut_at_the_shares_exactly(messy: Raw) -> None:
    contract = Contract.load(messy.curated() / "contract.json")
    assert (contract.counts["train"]["scratch"], contract.counts["test"]["scratch"]) == (36, 7)
    for name in CLASSES:
        found = tuple(contract.counts[side][name] for side in ("train", "validation", "test"))
        assert found == split.allot(sum(found), split.SHARES)


def test_of_anomalies_training_sees_none_and_a_folder_called_good_is_what_is_normal(raw: Raw) -> None:
    raw.manifest(task="anomaly")
    raw.curate()
    contract = Contract.load(raw.curated() / "contract.json")
    assert (contract.task, contract.classes) == ("anomaly", ("normal", "anomaly"))
    assert contract.counts == {
        "train": {"normal": 36, "anomaly": 0},
        "validation": {"normal": 7, "anomaly": 50},
        "test": {"normal": 7, "anomaly": 50},
    }
    assert {row["label_name"] for source, row in every(raw.curated()).items() if source[:5] != "good/"} == {"anomaly"}


def test_anomalies_among_pictures_of_which_none_is_called_normal_are_refused(raw: Raw) -> None:
    raw.manifest(task="anomaly", classes=["dent", "scratch"])
    with pytest.raises(ManifestError, match=r"no folder is called good, normal, ok, pass.*dent, scratch"):
        raw.curate()


def test_patches_of_one_picture_are_on_one_side(raw: Raw) -> None:
    raw.files.clear()
    for picture in range(60):
        for at in range(3):
            name = ("dent", "good", "scratch")[at if picture % 2 else 1]
            raw.add(f"{name}/photo {picture}__{at}-0.png", png(10 * picture + at), name)
    raw.manifest(grouped=True)
    raw.curate()
    sides: dict[str, set[str]] = {}
    for side in ("train", "validation", "test"):
        for row in rows(raw.curated(), side):
            assert row["group"] == row["source"].split("/")[1].split("__")[0]
            sides.setdefault(row["group"], set()).add(side)
    assert len(sides) == 60
    assert all(len(found) == 1 for found in sides.values())


def test_a_curated_tensor_is_bit_for_bit_what_endpoint_and_device_decode(messy: Raw) -> None:
    contract = Contract.load(messy.curated() / "contract.json")
    for source, row in every(messy.curated()).items():
        tensor = features.decode((messy.root / "raw" / "parts" / source).read_bytes(), contract.shape)
        assert tensor.tobytes() == row["tensor"], source
        assert features.sample_id(tensor) == row["id"]


def test_statistics_come_from_the_training_split_alone(messy: Raw) -> None:
    contract = Contract.load(messy.curated() / "contract.json")
    pixels, _, _ = curated.read(messy.curated(), "train")
    np.testing.assert_allclose(contract.mean, pixels.mean((0, 2, 3), np.float64), rtol=1e-12)
    np.testing.assert_allclose(contract.std, pixels.std((0, 2, 3), np.float64), rtol=1e-9)
    watch = drift.Watch(contract.profile)
    watch.add(pixels)
    assert watch.worst() < 0.01
    assert all(sum(part["shares"]) == pytest.approx(1) for part in contract.profile.values())


def test_equal_content_is_kept_once_and_contradicting_content_not_at_all(messy: Raw) -> None:
    kept = every(messy.curated())
    assert "good/001.png" in kept
    assert not {"good/copy.png", "good/002.png", "dent/lie.png"} & set(kept)
    report = messy.report()
    assert report["duplicates"] == [{"source": "good/001.png", "same_as": "good/copy.png"}]
    assert report["conflicts"] == [{"sources": ["dent/lie.png", "good/002.png"], "labels": ["dent", "good"]}]


def test_files_that_the_manifest_does_not_list_are_left_alone(messy: Raw) -> None:
    assert "good/late.png" not in every(messy.curated())


def test_a_few_unusable_files_are_reported_by_name_and_left_out(messy: Raw) -> None:
    report = messy.report()
    found = {item["source"]: item["why"] for item in report["corrupt"]}
    assert report["corrupt_total"] == 5
    assert found["good/cut short.png"].startswith("corrupt: ")
    assert found["good/empty.png"] == found["good/gone.png"]
    assert found["good/gone.png"].startswith("missing or empty")
    assert found["good/replaced.png"].startswith("changed: ")
    assert found["bent/strange.png"] == "its label is none of the classes: bent"
    assert not set(found) & set(every(messy.curated()))


def test_the_same_raw_data_give_the_same_curated_data(messy: Raw) -> None:
    messy.curate("--corrupt-share", "0.1", run="again")
    assert every(messy.curated("again")) == every(messy.curated())
    first, second = (messy.curated(run) / "contract.json" for run in ("r", "again"))
    assert first.read_bytes() == second.read_bytes()


def test_too_many_unusable_files_fail_the_job_and_leave_the_report_only(raw: Raw) -> None:
    for at in range(3):
        raw.add(f"good/broken{at}.png", b"no picture", "good")
    raw.manifest()
    with pytest.raises(etl.DataRefused, match=r"corrupt: 3 of 153 files .*broken0\.png .*whole report: .*data_report"):
        raw.curate()
    assert not raw.report()["passed"]
    assert [path.name for path in raw.curated().iterdir()] == ["data_report.json"]


def test_a_data_set_of_which_nothing_can_be_read_is_refused_not_crashed_on(raw: Raw) -> None:
    raw.files.clear()
    raw.add("good/a.png", b"no picture", "good")
    raw.manifest()
    with pytest.raises(etl.DataRefused, match="1 of 1 files cannot be used"):
        raw.curate()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"digest": "0" * 64}, "does not have the digest"),
        ({"schema": 2}, "schema 2, this job reads 1"),
        ({"files": None}, "is no raw manifest"),
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused_by_name(raw: Raw, changes: dict[str, Any], says: str) -> None:
    raw.manifest(**changes)
    with pytest.raises(ManifestError, match=rf"raw/parts/_manifest\.json.*{says}"):
        raw.curate()


def test_a_manifest_that_is_not_there_is_named(raw: Raw) -> None:
    with pytest.raises(ManifestError, match=r"raw/parts/_manifest\.json does not exist"):
        raw.curate()


def test_a_root_or_a_bucket_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        etl.main(["--key", "raw/parts/_manifest.json", "--run", "r"])
    assert "one of --bucket and --root" in capsys.readouterr().err


@pytest.mark.parametrize(("files", "parts"), [(10, 4), (2_000_000, 824)])
def test_what_spark_sorts_is_cut_into_more_parts_where_the_data_are_large(files: int, parts: int) -> None:
    head = Head(
        dataset="parts", modality="image", task="classification", classes=("a", "b"), digest="", pixels=PIXELS,
        files=files, labels={},
    )  # fmt: skip
    assert etl.partitions(head, 48, least=4) == parts
