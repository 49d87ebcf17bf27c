"""Bodies of requests: what each content type may hold, and that any bytes are a batch or a clear refusal."""

import io
import json
import pickle
import struct
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from models import payload
from models.contract import Contract

NPY, JSON, PNG = "application/x-npy", "application/json", "image/png"
SHAPE = (1, 8, 8)
Make = Callable[..., Contract]


def npy(array: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def header(shape: str, kind: str = "|u1", version: bytes = b"\x01\x00") -> bytes:
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY" + version + struct.pack("<H", len(text)) + text


def instances(value: Any) -> bytes:
    return json.dumps({"instances": value}).encode()


def plane(value: Any) -> Any:
    return [[[value] * 8] * 8]


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (4, *SHAPE), np.uint8)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("kind", [np.uint8, np.int64, np.float32, ">i4"])
def test_an_array_of_any_number_kind_and_order_is_the_same_batch(
    pixels: np.ndarray, contract: Make, order: Any, kind: Any
) -> None:
    body = npy(np.asarray(pixels, kind, order=order))
    batch = payload.read(NPY, body, contract())
    assert batch.dtype == np.uint8
    np.testing.assert_array_equal(batch, pixels)


def test_one_sample_is_a_batch_of_one(pixels: np.ndarray, contract: Make) -> None:
    np.testing.assert_array_equal(payload.read(NPY, npy(pixels[0]), contract()), pixels[:1])


def test_nested_lists_are_the_same_batch(pixels: np.ndarray, contract: Make) -> None:
    np.testing.assert_array_equal(payload.read(JSON, instances(pixels.tolist()), contract()), pixels)


def test_a_picture_is_a_batch_of_one(pixels: np.ndarray, contract: Make) -> None:
    stream = io.BytesIO()
    Image.fromarray(pixels[0, 0]).save(stream, "PNG")
    np.testing.assert_array_equal(payload.read("image/png; charset=x", stream.getvalue(), contract()), pixels[:1])


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "corrupt"),
        (b"PK\x03\x04 an archive", "corrupt"),
        (pickle.dumps([1]), "corrupt"),
        (header("(1, 8, 8)", version=b"\x07\x00"), "corrupt"),
        (header("(1, 8, 8)", kind="|O") + bytes(64), "corrupt"),
        (header("(1, 8, 8)", kind="<M8[s]") + bytes(512), "corrupt"),
        (header("(1, 8, 8)") + bytes(63), "corrupt"),
        (header("(1, 8, 8)") + bytes(65), "corrupt"),
        (header("(1, 8, (8)"), "corrupt"),
        (header("(8, 8)") + bytes(64), "shape"),
        (header("(0, 1, 8, 8)"), "shape"),
        (header("(-1, 1, 8, 8)"), "shape"),
        (header("(1, 1, 1, 8, 8)") + bytes(64), "shape"),
        (npy(np.full(SHAPE, 256)), "values"),
        (npy(np.full(SHAPE, -1)), "values"),
        (npy(np.full(SHAPE, 0.5)), "values"),
        (npy(np.full(SHAPE, np.nan)), "values"),
        (npy(np.full(SHAPE, np.inf, np.float16)), "values"),
    ],
)
def test_an_array_that_is_none_of_ours_is_refused(body: bytes, code: str, contract: Make) -> None:
    with pytest.raises(payload.BadRequest) as refused:
        payload.read(NPY, body, contract())
    assert (refused.value.status, refused.value.code) == (HTTPStatus.BAD_REQUEST, code)


def test_an_array_that_claims_terabytes_is_refused_by_its_header(contract: Make) -> None:
    with pytest.raises(payload.BadRequest, match=r"expected \[N <= 1024, 1, 8, 8\]"):
        payload.read(NPY, header("(1000000000000, 1, 8, 8)"), contract())


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", "corrupt"),
        (b"\xff\xfe", "corrupt"),
        (b"[" * 100_000, "corrupt"),
        (b"[1]", "schema"),
        (b'{"instances": null}', "schema"),
        (instances([{}]), "schema"),
        (instances([[1], [2, 3]]), "schema"),
        (instances([plane("7")]), "schema"),
        (instances([plane(True)]), "schema"),
        (instances([plane(None)]), "schema"),
        (instances([plane(10**400)]), "schema"),
        (instances([]), "shape"),
        (instances([[1, 2]]), "shape"),
        (instances([plane(float("nan"))]), "values"),
        (instances([plane(float("inf"))]), "values"),
        (instances([plane(255.5)]), "values"),
    ],
)
def test_json_that_is_none_of_ours_is_refused(body: bytes, code: str, contract: Make) -> None:
    with pytest.raises(payload.BadRequest) as refused:
        payload.read(JSON, body, contract())
    assert (refused.value.status, refused.value.code) == (HTTPStatus.BAD_REQUEST, code)


def test_another_content_type_is_named_with_those_that_are_read(contract: Make) -> None:
    with pytest.raises(payload.BadRequest, match="text/csv; send one of image/png, image/jpeg") as refused:
        payload.read("text/csv", b"1,2", contract())
    assert refused.value.status == HTTPStatus.UNSUPPORTED_MEDIA_TYPE


@pytest.mark.filterwarnings("ignore::UserWarning")
@settings(max_examples=300, deadline=None)
@given(kind=st.sampled_from([NPY, JSON, PNG]), draw=st.data())
def test_a_damaged_body_is_a_batch_or_a_refusal(kind: str, draw: st.DataObject) -> None:
    contract = Contract(
        schema=2, dataset="d", modality="image", task="classification", shape=SHAPE, classes=("a", "b"),
        mean=(1.0,), std=(1.0,), counts={}, profile={},
    )  # fmt: skip
    picture = io.BytesIO()
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(picture, "PNG")
    good = {NPY: npy(np.zeros(SHAPE, np.uint8)), JSON: instances([plane(1)]), PNG: picture.getvalue()}
    body = bytearray(good[kind])
    for _ in range(draw.draw(st.integers(1, 5))):
        body[draw.draw(st.integers(0, len(body) - 1))] = draw.draw(st.integers(0, 255))
    try:
        assert payload.read(kind, bytes(body), contract).shape == (1, *SHAPE)
    except payload.BadRequest as refused:
        assert refused.status.value // 100 == 4
