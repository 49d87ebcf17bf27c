"""Pictures as JSON, read in one pass: what the JSON parser reads, or nothing at all."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import pixels

SHAPE = (2, 3, 4)
HABITS = ((", ", ": "), (",", ":"))


@given(st.data())
def test_it_reads_what_the_parser_reads(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 3))
    values = data.draw(st.lists(st.integers(0, 255), min_size=24 * count, max_size=24 * count))
    body = json.dumps(
        {"instances": np.reshape(values, (count, *SHAPE)).tolist()}, separators=data.draw(st.sampled_from(HABITS))
    )
    found = pixels.read(body.encode(), SHAPE)
    assert found is not None
    np.testing.assert_array_equal(found, json.loads(body)["instances"])


@given(st.data())
def test_of_a_damaged_body_it_reads_what_the_parser_reads_or_nothing(data: st.DataObject) -> None:
    body = bytearray(json.dumps({"instances": np.full((1, *SHAPE), 12).tolist()}).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(body) - 1))
        body[place : place + 1] = data.draw(
            st.sampled_from([b"0", b"9", b"-", b".", b" ", b",", b"[", b"e", b"", b"12", b"\xb2"])
        )
    found = pixels.read(body, SHAPE)
    if found is not None:
        np.testing.assert_array_equal(found, json.loads(body)["instances"])


@pytest.mark.parametrize("number", ["256", "300", "999", "1000", "012", "00", "-1", "1.5", "1e2", "null"])
def test_a_number_that_is_no_pixel_is_left_to_the_parser(number: str) -> None:
    body = json.dumps({"instances": np.full((1, *SHAPE), 77).tolist()}).replace("77", number)
    assert pixels.read(body.encode(), SHAPE) is None


@pytest.mark.parametrize("body", [b"", b"1", b"{}", b'{"instances": []}', b"[[1]]"])
def test_another_document_is_left_to_the_parser(body: bytes) -> None:
    assert pixels.read(body, SHAPE) is None
