"""S3: object events on EventBridge in AWS's own shape.

Covers: what moto's S3 does, and "Object Created" and "Object Deleted" on the default bus for buckets whose
    notification configuration turns EventBridge on. That it is on reads back through the API.
Does not cover: encryption at rest (settings are kept and read back, bytes lie in memory as they came) · lifecycle
    expiry · access logs · object lock · replication.
"""

from __future__ import annotations

import functools
import threading
import uuid
from collections.abc import Callable
from typing import Any

from moto.core.responses import ActionResult
from moto.iam.access_control import IAMPolicyStatement, PermissionResult
from moto.s3 import notifications
from moto.s3.models import FakeBucket
from moto.s3.responses import S3Response

from lab import events
from lab.engine import Engine

REASONS = {
    "s3:ObjectCreated:Put": "PutObject",
    "s3:ObjectCreated:Post": "POST Object",
    "s3:ObjectCreated:Copy": "CopyObject",
    "s3:ObjectCreated:CompleteMultipartUpload": "CompleteMultipartUpload",
    "s3:ObjectRemoved:Delete": "DeleteObject",
    "s3:ObjectRemoved:DeleteMarkerCreated": "DeleteObject",
}


# What a statement that asks for TLS has as its condition: by operator, the keys that loopback counts as fulfilling.
TRANSPORT = {"Bool": {"aws:SecureTransport"}, "NumericLessThan": {"s3:TlsVersion"}}


def install(engine: Engine) -> None:
    """Replaces moto's EventBridge notification, whose event has other names and whose errors nobody hears."""

    def announce(account_id: str, bucket: Any, event_name: str, key: Any) -> None:
        name = str(getattr(event_name, "value", event_name))
        if name in REASONS:
            kind = "Object Created" if "Created:" in name and "Removed" not in name else "Object Deleted"
            _when_whole(
                lambda: events.put(engine, "aws.s3", kind, _detail(engine, bucket, key, REASONS[name]), [bucket.arn])
            )

    notifications._send_event_bridge_message = announce
    for name in ("key_response", "bucket_response"):
        setattr(S3Response, name, _telling_last(getattr(S3Response, name)))
    _show_event_bridge()
    _honour_transport()
    # AWS takes the setting whatever the target's policy says, and then delivers no log; moto refuses it.
    FakeBucket._log_permissions_enabled_policy = staticmethod(lambda target_bucket, target_prefix: True)


# The events of the request that this thread answers.
_answering = threading.local()


def _when_whole(tell: Callable[[], Any]) -> None:
    """Tells now, or when the request is answered: moto announces an object before it has its metadata."""
    waiting: list[Callable[[], Any]] | None = getattr(_answering, "events", None)
    if waiting is None:
        tell()
    else:
        waiting.append(tell)


def _telling_last(respond: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(respond)
    def answer(self: S3Response, *args: Any) -> Any:
        if getattr(_answering, "events", None) is not None:
            return respond(self, *args)
        _answering.events = []
        try:
            return respond(self, *args)
        finally:
            told, _answering.events = _answering.events, None
            for tell in told:
                tell()

    return answer


def _show_event_bridge() -> None:
    """GetBucketNotificationConfiguration says that EventBridge is on; moto keeps it and leaves it out."""
    stock = S3Response.get_bucket_notification

    def get_bucket_notification(self: S3Response) -> Any:
        kept = self.backend.get_bucket_notification_configuration(self.bucket_name)
        serialized = self.serialized
        if kept is not None and kept.event_bridge is not None:
            self.serialized = lambda said: serialized(ActionResult({**said.result, "EventBridgeConfiguration": {}}))
        return stock(self)

    S3Response.get_bucket_notification = get_bucket_notification


def _honour_transport() -> None:
    """Conditional statements as AWS reads them, where moto denies whenever a condition is not fulfilled.

    A Deny of requests without TLS denies none here, as loopback stands for TLS; an Allow under a condition denies none.
    """
    stock = IAMPolicyStatement.is_action_permitted

    def is_action_permitted(self: IAMPolicyStatement, *args: Any, **kwargs: Any) -> Any:
        condition = self._statement.get("Condition") or {}
        of_transport = all(set(keys) <= TRANSPORT.get(operator, set()) for operator, keys in condition.items())
        if condition and (of_transport or self._statement.get("Effect") == "Allow"):
            return PermissionResult.NEUTRAL
        return stock(self, *args, **kwargs)

    IAMPolicyStatement.is_action_permitted = is_action_permitted


def _detail(engine: Engine, bucket: Any, key: Any, reason: str) -> dict[str, Any]:
    """The event's detail, as "EventBridge event message structure" of the S3 user guide shows it."""
    about: dict[str, Any] = {"key": key.name, "size": key.size, "etag": key.etag.strip('"')}
    if key.version_id and key.version_id != "null":
        about["version-id"] = key.version_id
    about["sequencer"] = uuid.uuid4().hex[:16].upper()
    return {
        "version": "0",
        "bucket": {"name": bucket.name},
        "object": about,
        "request-id": uuid.uuid4().hex[:16].upper(),
        "requester": engine.account,
        "source-ip-address": "127.0.0.1",
        "reason": reason,
    }
