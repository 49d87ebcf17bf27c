"""The folder that stands for a camera, and the answers on disk."""

import json
from pathlib import Path

from edge import source


def test_an_image_is_read_once_and_only_when_it_is_whole(tmp_path: Path) -> None:
    folder = source.Folder(tmp_path)
    (tmp_path / "a.png").write_bytes(b"half")
    assert list(folder.new()) == []
    (tmp_path / "a.png").write_bytes(b"half and half")
    assert list(folder.new()) == []
    assert list(folder.new()) == [("a.png", b"half and half")]
    assert list(folder.new()) == []
    (tmp_path / "a.png").write_bytes(b"another picture")
    list(folder.new())
    assert list(folder.new()) == [("a.png", b"another picture")]


def test_what_is_neither_picture_nor_table_and_a_folder_that_is_not_there_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "note.pdf").write_bytes(b"x")
    (tmp_path / ".hidden.png").write_bytes(b"x")
    folder = source.Folder(tmp_path)
    list(folder.new())
    assert list(folder.new()) == []
    assert list(source.Folder(tmp_path / "nowhere").new()) == []


def test_results_are_bounded(tmp_path: Path, monkeypatch: object) -> None:
    results = source.Results(tmp_path / "results.jsonl")
    for number in range(10_000):
        results.add({"source": "x" * 200, "number": number})
    sizes = [path.stat().st_size for path in tmp_path.iterdir()]
    assert len(sizes) == 2 and all(size <= source.LIMIT for size in sizes)
    assert json.loads((tmp_path / "results.jsonl").read_text().splitlines()[-1])["number"] == 9_999
