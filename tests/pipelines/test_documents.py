"""Documents in the bucket: one is written where none is, whoever else is at it."""

from typing import Any

from botocore.exceptions import ClientError

from pipelines.functions import documents


class Busy:
    """S3 while another client writes the same key: it answers with these codes, and then takes what it gets."""

    def __init__(self, *codes: str) -> None:
        self.codes = list(codes)

    def put_object(self, **given: Any) -> None:
        assert given["IfNoneMatch"] == "*"
        if self.codes:
            raise ClientError({"Error": {"Code": self.codes.pop(0)}}, "PutObject")


def test_of_two_that_write_at_once_one_writes() -> None:
    assert not documents.create(Busy("ConditionalRequestConflict", "PreconditionFailed"), "lake", "a.json", {})
    assert documents.create(Busy("ConditionalRequestConflict"), "lake", "a.json", {})


def test_what_is_there_stays(s3: Any, get: Any) -> None:
    assert documents.create(s3, "lake", "a.json", {"a": 1})
    assert not documents.create(s3, "lake", "a.json", {"a": 2})
    assert get("a.json") == {"a": 1}
