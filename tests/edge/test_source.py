"""What feeds the queue: a folder, a recording, a camera, a topic."""

import io
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from edge import source
from edge.frames import Frames
from edge.settings import Settings


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


def fed(chosen: source.Source, count: int, room: int = 64) -> list[tuple[str, bytes]]:
    """The first samples that a source gives."""
    frames, stop, found = Frames(room), threading.Event(), []
    feeding = threading.Thread(target=chosen.feed, args=(frames, stop), daemon=True)
    feeding.start()
    deadline = time.monotonic() + 20
    while len(found) < count and time.monotonic() < deadline:
        frame = frames.take(0.5)
        if frame is not None:
            found.append((frame.name, frame.data))
    stop.set()
    feeding.join(10)
    assert not feeding.is_alive(), "a source ends soon after it is told to"
    return found


def test_a_folder_waits_for_room_and_loses_nothing(tmp_path: Path) -> None:
    for number in range(30):
        (tmp_path / f"{number:02}.png").write_bytes(b"%d" % number)
    found = fed(source.Folder(tmp_path, poll_s=0.01), 30, room=2)
    assert sorted(int(data) for _, data in found) == list(range(30))


def test_a_recording_of_pictures_is_replayed_over_and_over(tmp_path: Path) -> None:
    for name in ("b.png", "a.png"):
        (tmp_path / name).write_bytes(name.encode())
    found = fed(source.Replay(tmp_path, rate_hz=500), 5)
    assert [name for name, _ in found] == ["a.png", "b.png", "a.png", "b.png", "a.png"]


def test_a_recorded_table_is_replayed_row_by_row_or_some_at_a_time(tmp_path: Path) -> None:
    (tmp_path / "shift.csv").write_text("a,b\n1,2\n3,4\n5,6\n")
    one = fed(source.Replay(tmp_path / "shift.csv", rate_hz=500), 2)
    assert [data for _, data in one] == [b"a,b\n1,2\n", b"a,b\n3,4\n"]
    two = fed(source.Replay(tmp_path / "shift.csv#2", rate_hz=500), 2)
    assert [data for _, data in two] == [b"a,b\n1,2\n3,4\n"] * 2


def test_a_camera_is_any_command_that_writes_mjpeg(tmp_path: Path) -> None:
    pictures = [jpeg(value) for value in (10, 200)]
    (tmp_path / "stream").write_bytes(b"noise" + pictures[0] + b"\r\n--frame\r\n" + pictures[1])
    found = fed(source.Camera(f"cat {tmp_path / 'stream'}"), 2)
    assert [data for _, data in found] == pictures and found[0][0] == "camera-1.jpg"


def test_a_camera_that_does_not_run_is_tried_again_and_ends_when_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "PAUSES_S", (0.01, 0.02))
    assert fed(source.Camera(str(tmp_path / "no such command")), 0) == []


def test_a_topic_gives_a_sample_for_each_message() -> None:
    topics: dict[str, Callable[[str, bytes], None]] = {}

    def subscribe(topic: str, on_message: Callable[[str, bytes], None]) -> bool:
        topics[topic] = on_message
        for number in range(3):
            on_message(topic, b"%d" % number)
        return True

    found = fed(source.Topic("lab/desk-1/sense", subscribe), 3)
    assert found == [("sense-1", b"0"), ("sense-2", b"1"), ("sense-3", b"2")]


@pytest.mark.parametrize(
    ("configured", "kind"),
    [
        ("inbox", source.Folder),
        ("folder:inbox", source.Folder),
        ("replay:x.csv", source.Replay),
        ("topic:sense", source.Topic),
        ("camera:rpicam-vid -t 0 -o -", source.Camera),
    ],
)
def test_the_configuration_names_the_source(tmp_path: Path, configured: str, kind: type) -> None:
    assert isinstance(source.of(Settings(source=configured), tmp_path, "lab/desk-1", None), kind)


def jpeg(value: int) -> bytes:
    data = io.BytesIO()
    Image.new("L", (8, 8), value).save(data, "JPEG")
    return data.getvalue()
