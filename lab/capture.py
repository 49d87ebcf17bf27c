"""Data capture of an endpoint: a sample of what it was asked and what it answered, as JSON lines in S3.

One object per captured request, `<prefix>/<endpoint>/<variant>/yyyy/mm/dd/hh/mm-ss-mmm-<id>.jsonl`. SageMaker gathers
several requests in an object; the lines are the same. Source: SageMaker AI developer guide, "Capture data from
real-time endpoint".
"""

from __future__ import annotations

import base64
import datetime
import json
import logging
import random
import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lab import identity
from lab.jobfiles import Files, Place

if TYPE_CHECKING:
    from lab.engine import Engine

LOG = logging.getLogger(__name__)
MODES = {"Input": ("endpointInput", "INPUT"), "Output": ("endpointOutput", "OUTPUT")}
KEYS = {
    "EnableCapture", "InitialSamplingPercentage", "DestinationS3Uri", "KmsKeyId", "CaptureOptions",
    "CaptureContentTypeHeader",
}  # fmt: skip


def refusal(request: Mapping[str, Any]) -> str | None:
    """Why an endpoint cannot capture as its config asks, in one line; None when it can, or asks for nothing."""
    wanted = request.get("DataCaptureConfig") or {}
    if not wanted.get("EnableCapture"):
        return None
    if any("ServerlessConfig" in variant for variant in request["ProductionVariants"]):
        return "DataCaptureConfig: serverless endpoints capture nothing"
    unknown = sorted(set(wanted) - KEYS)
    if unknown:
        return f"DataCaptureConfig.{unknown[0]} is not covered by the desk engine"
    return None


def record(config: Mapping[str, Any], asked: tuple[str, bytes], said: tuple[str, bytes], attributes: str) -> str:
    """One captured request as a line: content type and body of what was asked and said."""
    captured = {}
    for option in config["CaptureOptions"]:
        name, mode = MODES[option["CaptureMode"]]
        content_type, body = asked if mode == "INPUT" else said
        data, encoding = _encoded(content_type, body, config.get("CaptureContentTypeHeader") or {})
        captured[name] = {
            "observedContentType": content_type,
            "mode": mode,
            "data": data,
            "encoding": encoding,
        }
    now = datetime.datetime.now(datetime.UTC)
    about: dict[str, Any] = {"eventId": str(uuid.uuid4()), "inferenceTime": f"{now:%Y-%m-%dT%H:%M:%SZ}"}
    if attributes:
        about["customAttributes"] = [attributes]
    return json.dumps({"captureData": captured, "eventMetadata": about, "eventVersion": "0"}) + "\n"


def _encoded(content_type: str, body: bytes, headers: Mapping[str, Any]) -> tuple[str, str]:
    """Text that the config names as CSV or JSON is kept as it is; everything else in base64."""
    kind = content_type.partition(";")[0].strip().lower()
    for encoding, key in (("CSV", "CsvContentTypes"), ("JSON", "JsonContentTypes")):
        if kind in [name.lower() for name in headers.get(key) or ()]:
            try:
                return body.decode("utf-8"), encoding
            except UnicodeDecodeError:
                break
    return base64.b64encode(body).decode("ascii"), "BASE64"


class Capture:
    """Keeps a sample of one endpoint's requests, as the role that its model runs as."""

    def __init__(self, engine: Engine, endpoint: str, variant: str, config: Mapping[str, Any], role_arn: str) -> None:
        self._engine, self._config, self._role_arn = engine, config, role_arn
        self._place = Place.parse(str(config["DestinationS3Uri"])).below(f"{endpoint}/{variant}")

    def summary(self) -> dict[str, Any]:
        """What DescribeEndpoint says of it."""
        return {
            "EnableCapture": True,
            "CaptureStatus": "Started",
            "CurrentSamplingPercentage": self._config["InitialSamplingPercentage"],
            "DestinationS3Uri": self._config["DestinationS3Uri"],
            "KmsKeyId": self._config.get("KmsKeyId", ""),
        }

    def keep(self, asked: tuple[str, bytes], said: tuple[str, bytes], attributes: str) -> None:
        """Puts the request into S3 when the dice say so; what goes wrong is logged and never the caller's concern."""
        if random.random() * 100.0 >= float(self._config["InitialSamplingPercentage"]):
            return
        now = datetime.datetime.now(datetime.UTC)
        name = f"{now:%Y/%m/%d/%H/%M-%S}-{now.microsecond // 1000:03}-{uuid.uuid4()}.jsonl"
        place = self._place.below(name)
        try:
            session = identity.assume(self._engine, self._role_arn, "capture")
            line = record(self._config, asked, said, attributes)
            Files(self._engine, session).s3.put_object(Bucket=place.bucket, Key=place.key, Body=line.encode())
        except Exception:
            LOG.exception("capture to %s", place)
