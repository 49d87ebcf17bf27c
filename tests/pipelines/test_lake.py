"""One lake, two kinds of root: a bucket and a folder behave alike."""

from pathlib import Path
from typing import Any

import pytest

from pipelines.jobs.lake import Lake, LakeError


@pytest.fixture(params=["bucket", "folder"])
def lake(request: pytest.FixtureRequest, s3: Any, tmp_path: Path) -> Lake:
    return Lake("s3://lake" if request.param == "bucket" else str(tmp_path))


def test_what_is_written_is_read_and_listed(lake: Lake) -> None:
    lake.write("telemetry/b/1.json", b"one")
    lake.write("telemetry/a/2.json", b"two")
    lake.write("raw/x.png", b"not asked for")
    assert lake.read("telemetry/b/1.json") == b"one"
    assert list(lake.keys("telemetry/")) == ["telemetry/a/2.json", "telemetry/b/1.json"]


def test_a_second_write_replaces_the_first(lake: Lake) -> None:
    lake.write("curated/r/contract.json", b"{}")
    lake.write("curated/r/contract.json", b"[]")
    assert lake.read("curated/r/contract.json") == b"[]"
    assert list(lake.keys("curated/")) == ["curated/r/contract.json"]


def test_an_object_that_is_not_there_is_named(lake: Lake) -> None:
    with pytest.raises(LakeError, match=r"raw/digits/_manifest\.json"):
        lake.read("raw/digits/_manifest.json")


def test_a_key_s_uri_is_what_spark_and_people_call_it() -> None:
    assert Lake("s3://lake").uri("curated/r/train") == "s3://lake/curated/r/train"
