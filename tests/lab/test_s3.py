"""An object's event is told when the object is whole: what hears of it can read all of it."""

from collections.abc import Callable
from typing import Any

import pytest
from moto.s3 import notifications
from moto.s3.models import FakeBucket
from moto.s3.responses import S3Response

from lab import events, s3
from lab.engine import Engine


@pytest.fixture
def heard(desk: Engine, itself: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What a HeadObject says at the very moment in which an object's event is sent."""
    itself(S3Response, FakeBucket)
    monkeypatch.setattr(notifications, "_send_event_bridge_message", notifications._send_event_bridge_message)
    monkeypatch.setattr(notifications, "_send_event_bridge_message", None)
    s3.install(desk)
    client, found = desk.client("s3"), []
    client.create_bucket(Bucket="data")
    client.put_bucket_notification_configuration(
        Bucket="data", NotificationConfiguration={"EventBridgeConfiguration": {}}
    )

    def put(engine: Engine, source: str, kind: str, detail: dict[str, Any], resources: Any) -> str:
        if kind == "Object Created":
            found.append(client.head_object(Bucket="data", Key=detail["object"]["key"])["Metadata"])
        return "id"

    monkeypatch.setattr(events, "put", put)
    return found


def test_an_objects_metadata_are_there_when_its_event_is(desk: Engine, heard: list[dict[str, Any]]) -> None:
    desk.client("s3").put_object(Bucket="data", Key="raw/_manifest.json", Body=b"{}", Metadata={"digest": "d1"})
    assert heard == [{"digest": "d1"}]


def test_a_copys_metadata_are_there_when_its_event_is(desk: Engine, heard: list[dict[str, Any]]) -> None:
    client = desk.client("s3")
    client.put_object(Bucket="data", Key="a", Body=b"{}", Metadata={"digest": "d1"})
    client.copy_object(Bucket="data", Key="b", CopySource="data/a", MetadataDirective="REPLACE", Metadata={"n": "2"})
    assert heard == [{"digest": "d1"}, {"n": "2"}]


def test_what_the_desk_itself_puts_is_told_at_once(desk: Engine, heard: list[dict[str, Any]]) -> None:
    from moto.s3.models import s3_backends

    s3_backends[desk.account]["aws"].put_object("data", "x", b"1")
    assert heard == [{}]
