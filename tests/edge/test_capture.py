"""Samples for labelling: opt-in, within a day's budget and a disk's, handed over whole."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge.capture import Capture
from edge.frames import Frame
from edge.settings import Settings
from edge.switch import Serving
from models.runtime import Model

SURE, UNSURE = {"label": "dark", "confidence": 0.99}, {"label": "dark", "confidence": 0.4}


@pytest.fixture
def serving(package: Callable[..., Path]) -> Serving:
    model = Model.load(package(), threads=1)
    return Serving(model, "1.0.1", model.sha256)


def capture(folder: Path, **settings: Any) -> Capture:
    return Capture(folder, "desk-1", Settings(**{"capture_per_day": 20, **settings}), seed=1)


def kept_by(one: Capture, frame: Frame, serving: Serving, answer: dict[str, Any], drifted: bool = False) -> bool:
    """Whether a sample was written down."""
    one.consider(frame, serving, answer, drifted)
    return one.keep() == 1


def kept(folder: Path) -> list[Path]:
    return sorted(path for path in (folder / "capture").glob("*") if path.name != "day.json")


def test_nothing_is_kept_unless_it_was_switched_on(tmp_path: Path, serving: Serving) -> None:
    off = capture(tmp_path, capture_per_day=0)
    assert not kept_by(off, Frame("a.png", b"x"), serving, UNSURE, drifted=True) and kept(tmp_path) == []


def test_the_uncertain_is_kept_with_what_was_answered(tmp_path: Path, serving: Serving) -> None:
    assert kept_by(capture(tmp_path), Frame("a.png", b"pixels"), serving, UNSURE, drifted=False)
    note, picture = kept(tmp_path)
    about = json.loads(note.read_text())
    assert picture.read_bytes() == b"pixels" and picture.suffix == ".png"
    assert (about["why"], about["label"], about["confidence"]) == ("uncertain", "dark", 0.4)
    assert (about["model_version"], about["thing"]) == ("1.0.1", "desk-1")
    assert about["key"].startswith("raw/digits-device/desk-1/20")


def test_the_days_budget_is_never_exceeded_and_survives_a_restart(tmp_path: Path, serving: Serving) -> None:
    for _ in range(3):
        one = capture(tmp_path, capture_per_day=5)
        for _ in range(20):
            kept_by(one, Frame("a.png", b"x"), serving, UNSURE, drifted=False)
    assert len([path for path in kept(tmp_path) if path.suffix == ".png"]) == 5


def test_the_disks_budget_is_never_exceeded(tmp_path: Path, serving: Serving) -> None:
    one = capture(tmp_path, capture_per_day=1_000, capture_mb=0.1)
    for _ in range(50):
        kept_by(one, Frame("a.png", b"x" * 10_000), serving, UNSURE, drifted=False)
    assert 0 < sum(path.stat().st_size for path in kept(tmp_path)) <= 0.1 * 2**20


def test_where_people_may_be_seen_only_the_answer_is_kept(tmp_path: Path, serving: Serving) -> None:
    kept_by(capture(tmp_path, capture_inputs=False), Frame("a.png", b"face"), serving, UNSURE, drifted=False)
    (note,) = kept(tmp_path)
    assert json.loads(note.read_text())["file"] == "" and b"face" not in note.read_bytes()


def test_drift_brings_the_sure_ones_too_and_a_few_come_at_random(tmp_path: Path, serving: Serving) -> None:
    one = capture(tmp_path, capture_per_day=1_000)
    assert kept_by(one, Frame("a.png", b"x"), serving, SURE, drifted=True)
    count = sum(kept_by(one, Frame("a.png", b"x"), serving, SURE, drifted=False) for _ in range(2_000))
    assert 2 < count < 60
    whys = {json.loads(path.read_text())["why"] for path in kept(tmp_path) if path.suffix == ".json"}
    assert whys == {"drift", "random"}


def test_what_is_uploaded_leaves_the_disk_and_what_is_not_stays(tmp_path: Path, serving: Serving) -> None:
    one = capture(tmp_path)
    for _ in range(3):
        kept_by(one, Frame("a.png", b"x"), serving, UNSURE, drifted=False)
    bucket: dict[str, bytes] = {}

    def put(key: str, content: bytes) -> None:
        if len(bucket) >= 3:
            raise OSError("the bucket is away")
        bucket[key] = content

    assert one.upload(put) == 1 and len(kept(tmp_path)) == 4
    bucket.clear()
    assert one.upload(put) == 1
    assert one.upload(lambda key, content: bucket.update({key: content})) == 1 and kept(tmp_path) == []
    assert all(key.endswith((".png", ".json")) for key in bucket)


def test_a_full_disk_costs_samples_and_nothing_else(tmp_path: Path, serving: Serving) -> None:
    (tmp_path / "capture").write_text("a file where a folder should be")
    assert not kept_by(capture(tmp_path), Frame("a.png", b"x"), serving, UNSURE, drifted=False)
