"""A data set on its way to the raw prefix: the manifest last, the same data not twice, errors in one line."""

import json
from pathlib import Path
from typing import Any

import pytest

from lab import bulk, dataset
from lab.engine import Engine
from lab.errors import DataError, LabError
from lab.home import Home

WRITER = """
import json, pathlib, sys
source, out = sys.argv[1], pathlib.Path(sys.argv[3])
(out / "options").parent.mkdir(parents=True, exist_ok=True)
(out / "options").write_text(json.dumps(sys.argv[4:]))
if source.endswith("empty"):
    print(f"{source} has no subfolder with images", file=sys.stderr)
    sys.exit(1)
manifest = {"dataset": pathlib.Path(source).name, "modality": "image", "task": "classification", "digest": "d1",
            "classes": ["a"], "files": [{"path": "a/1.png", "label": "a"}, {"path": "a/2.png", "label": "a"}]}
(out / "a").mkdir()
for row in manifest["files"]:
    (out / row["path"]).write_bytes(row["path"].encode())
(out / "_manifest.json").write_text(json.dumps(manifest))
"""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    repo = tmp_path / "repo"
    (repo / "models").mkdir(parents=True)
    (repo / "models" / "__init__.py").touch()
    (repo / "models" / "datasets.py").write_text(WRITER)
    return Home(repo, tmp_path / ".lab", repo / "lab.toml")


@pytest.fixture
def bucket(desk: Engine) -> str:
    bulk.install(desk)
    desk.client("s3").create_bucket(Bucket="raw-data")
    return "raw-data"


def test_the_manifest_comes_last_and_carries_what_the_flow_needs(
    home: Home, desk: Engine, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    s3 = desk.client("s3")
    put = s3.put_object
    monkeypatch.setattr(s3, "put_object", lambda **given: (order.append(given["Key"]), put(**given))[1])
    taken = bulk.put
    monkeypatch.setattr(bulk, "put", lambda *given: (order.append("objects"), taken(*given))[1])
    with dataset.writing(home, "digits", {}, desk.root) as written:
        data = written.finish()
        key = dataset.upload(desk, bucket, data)
    assert key == "raw/digits/_manifest.json" and order == ["objects", key]
    there = [row["Key"] for row in s3.list_objects_v2(Bucket=bucket)["Contents"]]
    assert there == [key, "raw/digits/a/1.png", "raw/digits/a/2.png"]
    metadata = s3.head_object(Bucket=bucket, Key=key)["Metadata"]
    assert metadata == {"digest": "d1", "dataset": "digits", "modality": "image", "task": "classification"}
    order.clear()
    dataset.upload(desk, bucket, data)
    assert order == [key], "the objects are there; only the event is wanted again"
    assert list(bulk.incoming(desk.root).iterdir()) == []


def test_a_sample_can_be_fetched_from_the_bucket(home: Home, desk: Engine, bucket: str, tmp_path: Path) -> None:
    with dataset.writing(home, "digits", {}, desk.root) as written:
        key = dataset.upload(desk, bucket, written.finish())
    fetched = dataset.fetch_sample(desk, bucket, key, tmp_path / "back")
    assert fetched.sample() == ("a/1.png", b"a/1.png") and fetched.name == "digits"


@pytest.mark.parametrize(
    ("settings", "options"),
    [({}, []), ({"pixels": 16, "count": 20, "task": "x"}, ["--count", "20", "--pixels", "16"])],
)
def test_settings_that_shape_the_data_reach_the_writer(
    home: Home, tmp_path: Path, settings: dict[str, Any], options: list[str]
) -> None:
    with dataset.writing(home, "digits", settings, tmp_path) as written:
        folder = written.finish().folder
        assert json.loads((folder / "options").read_text()) == ["--settings", json.dumps(settings), *options]


def test_an_empty_folder_is_one_line(home: Home, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with (
        pytest.raises(DataError, match="has no subfolder with images") as caught,
        dataset.writing(home, str(tmp_path / "empty"), {}, tmp_path) as written,
    ):
        written.finish()
    assert "\n" not in caught.value.message and caught.value.hint


def test_a_folder_of_the_same_name_as_no_built_in_is_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bottles").mkdir()
    assert dataset.is_path("bottles") and dataset.is_path("./x") and not dataset.is_path("digits")


def test_the_door_for_data_opens_only_for_the_engines_own_folder(desk: Engine, bucket: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    for folder in (tmp_path, bulk.incoming(desk.root) / ".." / ".."):
        with pytest.raises(LabError, match="is not below"):
            bulk.put(desk, bucket, "raw/x/", folder, ["secret"])
    assert "Contents" not in desk.client("s3").list_objects_v2(Bucket=bucket)
