"""In which encoding a text file is written: UTF-8, UTF-16, Windows-1252, or several at once, which is refused."""

from __future__ import annotations

import codecs
from pathlib import Path

from models.adapt.problem import AdaptError

CHUNK = 1 << 22
# So much of a file is decoded; the rest of a larger one is taken to be like it.
LIMIT = 1 << 28
FOREIGN = {
    b"PK\x03\x04": "a zip archive or spreadsheet",
    b"\x1f\x8b": "compressed (gzip)",
    b"%PDF": "a PDF",
    b"\xd0\xcf\x11\xe0": "an old Office file",
    b"\x89PNG": "a picture",
    b"\xff\xd8\xff": "a picture",
    b"SQLite": "a database",
}


def of(path: Path) -> str:
    """`utf-8`, `utf-8-sig`, `utf-16` or `cp1252`; plain ASCII is utf-8. Raises AdaptError."""
    with path.open("rb") as stream:
        head = stream.read(1 << 16)
    if not head.strip():
        raise AdaptError(f"{path} is empty", "give a file with rows, or leave it out")
    for mark, what in FOREIGN.items():
        if head.startswith(mark):
            unpack = f"unpack it first: gunzip '{path}'; or " if head.startswith(b"\x1f\x8b") else ""
            raise AdaptError(
                f"{path} is {what}, not a text with rows", f"{unpack}save the table as CSV in UTF-8, or as Parquet"
            )
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return _checked(path, "utf-16")
    if b"\0" in head:
        pairs = head[: len(head) // 2 * 2]
        if pairs[1::2].count(0) > 0.3 * len(pairs) / 2:
            return _checked(path, "utf-16-le")
        at = head.index(b"\0")
        raise AdaptError(f"{path} is not text: byte {at} is zero", "save the table as CSV in UTF-8, or as Parquet")
    if _decodes(path, "utf-8"):
        return "utf-8-sig" if head.startswith(codecs.BOM_UTF8) else "utf-8"
    _refuse_mixed(path)
    return _checked(path, "cp1252")


def is_plain(path: Path) -> bool:
    """Whether a file holds ASCII alone (in what is looked at), and so fits any encoding but UTF-16."""
    return _decodes(path, "ascii")


def _decodes(path: Path, encoding: str) -> bool:
    decoder = codecs.getincrementaldecoder(encoding)()
    read = 0
    try:
        with path.open("rb") as stream:
            while chunk := stream.read(CHUNK):
                decoder.decode(chunk)
                read += len(chunk)
                if read >= LIMIT:
                    return True
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _checked(path: Path, encoding: str) -> str:
    if not _decodes(path, encoding):
        raise AdaptError(f"{path} is neither UTF-8 nor {encoding}", "save the whole file as UTF-8")
    return encoding


def _refuse_mixed(path: Path) -> None:
    """Some lines valid UTF-8 beyond ASCII, others not: two encodings in one file."""
    first: dict[bool, int] = {}
    read = 0
    with path.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            read += len(line)
            if not line.isascii():
                try:
                    line.decode("utf-8")
                    first.setdefault(True, number)
                except UnicodeDecodeError:
                    first.setdefault(False, number)
            if len(first) == 2:
                raise AdaptError(
                    f"{path} mixes encodings: line {first[True]} is UTF-8, line {first[False]} is not",
                    f"save the whole file as UTF-8, line {first[False]} first",
                )
            if read >= LIMIT:
                return
