"""The queue between source and model: short, newest first to stay, nothing older than its deadline."""

import time

from edge.frames import Frame, Frames


def test_what_cannot_wait_pushes_the_oldest_out() -> None:
    frames = Frames(room=3)
    for number in range(10):
        frames.push(Frame(str(number), b""))
    assert [frame.name for frame in (frames.take(0), frames.take(0), frames.take(0)) if frame] == ["7", "8", "9"]
    assert frames.take(0.01) is None and frames.dropped == {"queue": 7}


def test_what_can_wait_is_told_that_there_is_no_room_and_nothing_is_lost() -> None:
    frames = Frames(room=1)
    assert frames.offer(Frame("a", b"")) and not frames.offer(Frame("b", b""), patience=0.01)
    first = frames.take(0)
    assert first is not None and first.name == "a" and frames.offer(Frame("b", b""))
    assert frames.dropped == {}


def test_a_sample_that_waited_beyond_its_deadline_is_dropped_unanswered() -> None:
    frames = Frames()
    frames.push(Frame("old", b"", arrived=time.monotonic() - 1))
    frames.push(Frame("new", b""))
    taken = frames.take(0, deadline_ms=500)
    assert taken is not None and taken.name == "new" and frames.dropped == {"late": 1}
    frames.push(Frame("old", b"", arrived=time.monotonic() - 1))
    assert frames.take(0, deadline_ms=500) is None
    frames.push(Frame("old", b"", arrived=time.monotonic() - 1))
    assert frames.take(0) is not None, "without a deadline nothing is too old"
