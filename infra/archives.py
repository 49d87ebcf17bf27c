"""Archives that come out byte for byte the same from the same files, on any machine.

Members are sorted, carry one fixed time and one mode, and are stored uncompressed, because two builds of zlib need not
compress alike. So an archive's hash is its content's hash, and a second synthesis replaces nothing.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
import zipfile
from collections.abc import Mapping

EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip can hold
MODE = 0o644


def zipped(files: Mapping[str, bytes]) -> bytes:
    """A zip of `files` (path inside the archive -> content)."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            member = zipfile.ZipInfo(name, EPOCH)
            member.create_system = 3  # Unix, so that the mode below is read wherever it was written
            member.external_attr = (0o100000 | MODE) << 16
            archive.writestr(member, files[name])
    return out.getvalue()


def tarred(files: Mapping[str, bytes]) -> bytes:
    """A gzip-compressed tar of `files` (path inside the archive -> content)."""
    out = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=out, mode="wb", compresslevel=0, mtime=0) as stream,
        tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as archive,
    ):
        for name in sorted(files):
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(files[name]), MODE
            archive.addfile(member, io.BytesIO(files[name]))
    return out.getvalue()


def digest(files: Mapping[str, bytes]) -> str:
    """Hex sha256 over names and contents, whatever archive they travel in."""
    whole = hashlib.sha256()
    for name in sorted(files):
        whole.update(f"{name}\0{hashlib.sha256(files[name]).hexdigest()}\n".encode())
    return whole.hexdigest()
