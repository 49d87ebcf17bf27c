"""The labelling queue: what devices sent, least sure first, each sample once."""

import csv
import io
from typing import Any

import pytest

from pipelines.functions import labelling

PREFIX = "raw/digits-device/"


@pytest.fixture(autouse=True)
def environment(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"BUCKET": "lake", "DATASET": "digits", "MOST": "3"}.items():
        monkeypatch.setenv(name, value)
    labelling.runtime.cache_clear()


@pytest.fixture
def sample(put: Any) -> Any:
    """Puts a sample and its note as a device does."""

    def sample(name: str, content: bytes, confidence: float | None, thing: str = "a", **more: Any) -> None:
        where = f"{PREFIX}{thing}/2026-03-01/{name}"
        note = {"schema": 1, "id": name, "thing": thing, "time": f"2026-03-01T00:00:0{len(name)}Z", "label": "7"}
        put(f"{where}.json", {**note, "confidence": confidence, "why": "uncertain", **more})
        put(f"{where}.png", content)

    return sample


def queued(s3: Any) -> list[dict[str, str]]:
    body = s3.get_object(Bucket="lake", Key=f"{PREFIX}labels.csv")["Body"].read().decode()
    return list(csv.DictReader(io.StringIO(body)))


def test_the_least_sure_come_first_each_once_and_no_more_than_asked_for(sample: Any, s3: Any, event: Any) -> None:
    for name, confidence in {"a": 0.9, "bb": 0.3, "ccc": 0.5, "dddd": 0.6}.items():
        sample(name, name.encode(), confidence)
    sample("eeeee", b"bb", 0.35, thing="b")  # the same picture as `bb`, of another device
    answer = labelling.handler(event("drift_alarm"), None)
    assert answer == {"key": f"{PREFIX}labels.csv", "rows": 3, "left": 2}
    assert [row["file"] for row in queued(s3)] == [f"a/2026-03-01/{name}.png" for name in ("bb", "ccc", "dddd")]
    first = queued(s3)[0]
    assert first == {
        "file": "a/2026-03-01/bb.png",
        "predicted": "7",
        "confidence": "0.3",
        "why": "uncertain",
        "thing": "a",
        "label": "",
    }


def test_what_was_labelled_before_is_not_asked_again(sample: Any, put: Any, s3: Any) -> None:
    sample("a", b"1", 0.5)
    sample("bb", b"2", 0.6)
    put(f"{PREFIX}labelled.csv", b"file,label\r\na/2026-03-01/a.png,3\r\n")
    assert labelling.gather(labelling.runtime())["rows"] == 1
    assert [row["file"] for row in queued(s3)] == ["a/2026-03-01/bb.png"]


def test_a_note_without_its_sample_and_one_that_is_no_json_make_no_row(sample: Any, put: Any, s3: Any) -> None:
    put(f"{PREFIX}a/2026-03-01/x.json", {"confidence": 0.1, "label": "1"})
    put(f"{PREFIX}a/2026-03-01/y.json", b"{")
    put(f"{PREFIX}a/2026-03-01/y.png", b"y")
    assert labelling.gather(labelling.runtime()) == {"key": f"{PREFIX}labels.csv", "rows": 0, "left": 0}
    assert queued(s3) == []


def test_a_number_is_shown_as_what_was_predicted(sample: Any, s3: Any) -> None:
    sample("a", b"1", None, label=None, value=0.0)
    labelling.gather(labelling.runtime())
    assert queued(s3)[0]["predicted"] == "0.0"


def test_the_thing_is_the_one_whose_place_the_sample_has(sample: Any, s3: Any) -> None:
    sample("a", b"1", 0.5, thing="b", **{"why": "drift"})
    labelling.gather(labelling.runtime())
    assert (queued(s3)[0]["thing"], queued(s3)[0]["why"]) == ("b", "drift")
