"""Archives: the same bytes from the same files, readable by what unpacks them."""

import io
import tarfile
import zipfile

from infra import archives

FILES = {"b/two.py": b"two = 2\n", "a.py": b"one = 1\n"}


def test_the_order_and_the_moment_of_writing_leave_no_trace() -> None:
    backwards = dict(reversed(FILES.items()))
    assert archives.zipped(FILES) == archives.zipped(backwards)
    assert archives.tarred(FILES) == archives.tarred(backwards)
    assert archives.digest(FILES) == archives.digest(backwards)


def test_every_member_bears_the_same_moment() -> None:
    with zipfile.ZipFile(io.BytesIO(archives.zipped(FILES))) as archive:
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    with tarfile.open(fileobj=io.BytesIO(archives.tarred(FILES)), mode="r:gz") as archive:
        assert {member.mtime for member in archive.getmembers()} == {0}


def test_a_zip_holds_what_was_put_in_with_readable_modes() -> None:
    with zipfile.ZipFile(io.BytesIO(archives.zipped(FILES))) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == FILES
        assert all(info.external_attr >> 16 & 0o777 == 0o644 for info in archive.infolist())


def test_a_tar_is_gzip_and_holds_what_was_put_in() -> None:
    with tarfile.open(fileobj=io.BytesIO(archives.tarred(FILES)), mode="r:gz") as archive:
        found = {member.name: archive.extractfile(member) for member in archive.getmembers()}
        assert {name: stream.read() for name, stream in found.items() if stream} == FILES


def test_a_changed_byte_or_name_changes_the_digest() -> None:
    assert archives.digest(FILES) != archives.digest({**FILES, "a.py": b"one = 2\n"})
    assert archives.digest({"ab": b""}) != archives.digest({"a": b"", "b": b""})
