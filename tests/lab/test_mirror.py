"""A prefix is laid out as files in one request, only where it may be, and only what changed."""

from pathlib import Path

import pytest

from lab import mirror
from lab.engine import Engine


@pytest.fixture
def folder(desk: Engine) -> Path:
    """A Glue job's folder, and bucket `data` with two objects below `raw/a` and one beside it."""
    s3 = desk.client("s3")
    s3.create_bucket(Bucket="data")
    for key in ("raw/a/one.txt", "raw/a/two.txt", "raw/ab.txt"):
        s3.put_object(Bucket="data", Key=key, Body=key.encode())
    return desk.root / "jobs" / "glue" / "etl-1" / "s3"


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_key_names_itself_or_what_lies_below_it(desk: Engine, folder: Path) -> None:
    found = mirror.lay_out(desk, "data", "raw/a", folder, {})
    assert files(folder) == ["data/raw/a/one.txt", "data/raw/a/two.txt"] == sorted(f"data/{key}" for key in found)
    mirror.lay_out(desk, "data", "raw/ab.txt", folder, {})
    assert (folder / "data/raw/ab.txt").read_text() == "raw/ab.txt"


def test_what_is_there_and_unchanged_is_not_written_again(desk: Engine, folder: Path) -> None:
    found = mirror.lay_out(desk, "data", "raw/a/", folder, {})
    (folder / "data/raw/a/one.txt").unlink()
    (folder / "data/raw/a/two.txt").unlink()
    desk.client("s3").put_object(Bucket="data", Key="raw/a/two.txt", Body=b"new")
    mirror.lay_out(desk, "data", "raw/a/", folder, found)
    assert files(folder) == ["data/raw/a/two.txt"]


def test_a_deleted_object_is_not_there(desk: Engine, folder: Path) -> None:
    s3 = desk.client("s3")
    s3.put_bucket_versioning(Bucket="data", VersioningConfiguration={"Status": "Enabled"})
    s3.delete_object(Bucket="data", Key="raw/a/one.txt")
    assert list(mirror.lay_out(desk, "data", "raw/a", folder, {})) == ["raw/a/two.txt"]


def test_the_door_opens_only_for_folders_of_glue_jobs(desk: Engine, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is not below"):
        mirror.lay_out(desk, "data", "raw", tmp_path / "elsewhere", {})
    desk.client("s3").put_object(Bucket="data", Key="bad/../../../../out.txt", Body=b"x")
    with pytest.raises(ValueError, match="outside the job's folder"):
        mirror.lay_out(desk, "data", "bad", folder, {})
