"""S3: object events on EventBridge in AWS's own shape.

Covers: what moto's S3 does, and "Object Created" and "Object Deleted" on the default bus for buckets whose
    notification configuration turns EventBridge on.
Does not cover: encryption at rest (settings are kept and read back, bytes lie in memory as they came) · lifecycle
    expiry · access logs · object lock · replication.
"""

from __future__ import annotations

import uuid
from typing import Any

from moto.s3 import notifications

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


def install(engine: Engine) -> None:
    """Replaces moto's EventBridge notification, whose event has other names and whose errors nobody hears."""

    def announce(account_id: str, bucket: Any, event_name: str, key: Any) -> None:
        name = str(getattr(event_name, "value", event_name))
        if name in REASONS:
            kind = "Object Created" if "Created:" in name and "Removed" not in name else "Object Deleted"
            events.put(engine, "aws.s3", kind, _detail(engine, bucket, key, REASONS[name]), [bucket.arn])

    notifications._send_event_bridge_message = announce


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
