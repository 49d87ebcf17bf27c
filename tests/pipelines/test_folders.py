"""Model archives are unpacked only where they belong."""

import io
import tarfile
from pathlib import Path

import pytest

from pipelines.jobs import folders


def archive(path: Path, members: dict[str, bytes], link: str = "") -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        if link:
            member = tarfile.TarInfo("link")
            member.type, member.linkname = tarfile.SYMTYPE, link
            tar.addfile(member)
    return path


def test_an_archive_becomes_a_folder(tmp_path: Path) -> None:
    packed = archive(tmp_path / "model.tar.gz", {"model.json": b"{}", "model.safetensors": b"weights"})
    assert (folders.unpack(packed, tmp_path / "model") / "model.safetensors").read_bytes() == b"weights"


@pytest.mark.parametrize(("members", "link"), [({"../out.txt": b"x"}, ""), ({}, "/etc/passwd"), ({}, "../../out")])
def test_an_archive_that_leads_out_of_its_folder_is_refused(
    tmp_path: Path, members: dict[str, bytes], link: str
) -> None:
    packed = archive(tmp_path / "model.tar.gz", members, link)
    with pytest.raises(folders.ArchiveError, match=r"model\.tar\.gz cannot be unpacked"):
        folders.unpack(packed, tmp_path / "deep" / "model")
    assert not (tmp_path / "deep" / "out.txt").exists()


def test_a_missing_and_a_broken_archive_are_named(tmp_path: Path) -> None:
    with pytest.raises(folders.ArchiveError, match="does not exist"):
        folders.unpack(tmp_path / "model.tar.gz", tmp_path / "model")
    (tmp_path / "model.tar.gz").write_bytes(b"no archive")
    with pytest.raises(folders.ArchiveError, match="cannot be unpacked"):
        folders.unpack(tmp_path / "model.tar.gz", tmp_path / "model")


def test_outside_a_container_the_folders_are_where_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SAGEMAKER_BASE_DIR", raising=False)
    assert folders.ml() == Path("/opt/ml")
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", "/somewhere/ml")
    assert folders.ml() == Path("/somewhere/ml")
