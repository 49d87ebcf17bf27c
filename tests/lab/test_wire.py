"""A request is read as its client meant it, in every protocol that botocore speaks."""

import functools
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

import botocore.session
import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from hypothesis import given, settings
from hypothesis import strategies as st

from lab import inside, wire

ENDPOINT = "http://127.0.0.1:1"


@functools.cache
def recording(service: str) -> tuple[Any, list[AWSPreparedRequest]]:
    """A client of botocore that sends nothing, and the requests that it would have sent."""
    session = botocore.session.get_session()
    session.set_credentials("AKIAEXAMPLE", "secret", "token")
    client = session.create_client(service, "us-east-1", endpoint_url=ENDPOINT)
    seen: list[AWSPreparedRequest] = []

    def keep(request: AWSPreparedRequest, **_: Any) -> AWSResponse:
        seen.append(request)
        return AWSResponse(request.url, 200, {}, inside._Raw(b""))

    client.meta.events.register("before-send", keep)
    return client, seen


def asked(service: str, operation: str, **given: Any) -> tuple[wire.Signer | None, wire.Call, bytes]:
    """Who signs and what is read from the request that botocore itself would send, and the body left to read."""
    client, seen = recording(service)
    seen.clear()
    try:
        client._make_api_call(operation, given)
    except Exception:
        assert seen, "the request was not even made"
    environ = inside._environ(seen[0])
    who = wire.signer(environ)
    return who, wire.call(environ, who.service if who else service), environ["wsgi.input"].read()


@pytest.mark.parametrize(
    ("service", "operation", "given", "read"),
    [
        ("s3", "GetObject", {"Bucket": "b", "Key": "x/y z.csv"}, {"Bucket": "b", "Key": "x/y z.csv"}),
        ("s3", "ListObjectsV2", {"Bucket": "bb1", "Prefix": "raw/"}, {"Bucket": "bb1", "Prefix": "raw/"}),
        ("s3", "HeadObject", {"Bucket": "bb1", "Key": "k"}, {"Key": "k"}),
        ("s3", "UploadPart", {"Bucket": "bb1", "Key": "k", "PartNumber": 1, "UploadId": "u"}, {"UploadId": "u"}),
        ("s3", "CopyObject", {"Bucket": "bb1", "Key": "k", "CopySource": "o/k"}, {"CopySource": "o/k"}),
        ("s3", "GetBucketLocation", {"Bucket": "bb1"}, {"Bucket": "bb1"}),
        ("dynamodb", "Scan", {"TableName": "runs"}, {"TableName": "runs"}),
        ("sagemaker", "DescribeEndpoint", {"EndpointName": "e"}, {"EndpointName": "e"}),
        ("sagemaker-runtime", "InvokeEndpoint", {"EndpointName": "e", "Body": b"x"}, {"EndpointName": "e"}),
        ("stepfunctions", "StartExecution", {"stateMachineArn": "a"}, {"stateMachineArn": "a"}),
        ("cloudwatch", "PutMetricData", {"Namespace": "n", "MetricData": []}, {"Namespace": "n"}),
        ("codebuild", "BatchGetBuilds", {"ids": ["p:1"]}, {"ids": ["p:1"]}),
        ("sns", "Publish", {"TopicArn": "t", "Message": "m"}, {"TopicArn": "t"}),
        ("iot", "DescribeJob", {"jobId": "j"}, {"jobId": "j"}),
        ("iot-data", "Publish", {"topic": "a/b", "payload": b"x"}, {"topic": "a/b"}),
        ("lambda", "Invoke", {"FunctionName": "f"}, {"FunctionName": "f"}),
        ("greengrassv2", "CreateDeployment", {"targetArn": "arn:t"}, {"targetArn": "arn:t"}),
    ],
)
def test_an_operation_is_read_with_its_parameters(
    service: str, operation: str, given: dict[str, Any], read: dict[str, Any]
) -> None:
    given = {**given, "Bucket": "bb1"} if given.get("Bucket") == "b" else given
    read = {**read, "Bucket": "bb1"} if read.get("Bucket") == "b" else read
    who, call, _ = asked(service, operation, **given)
    assert who is not None and who.access_key == "AKIAEXAMPLE"
    assert (call.service, call.operation) == (service, operation)
    assert {key: call.parameters[key] for key in read} == read


def test_the_body_can_still_be_read_afterwards() -> None:
    _, _, body = asked("dynamodb", "Scan", TableName="runs")
    assert b'"TableName": "runs"' in body
    _, _, body = asked("s3", "PutObject", Bucket="bb1", Key="k", Body=b"whole")
    assert body == b"whole"


def test_a_signed_url_is_signed() -> None:
    client, _ = recording("s3")
    parts = urlsplit(client.generate_presigned_url("get_object", Params={"Bucket": "bb1", "Key": "k"}))
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": parts.path, "QUERY_STRING": parts.query}
    who = wire.signer(environ)
    assert who == wire.Signer("AKIAEXAMPLE", "s3")
    assert wire.call(environ, "s3").operation == "GetObject"


def test_no_signature_is_no_signer() -> None:
    assert wire.signer({"QUERY_STRING": "a=b", "HTTP_AUTHORIZATION": "Bearer x"}) is None


def test_a_path_that_no_operation_has_is_refused_by_name() -> None:
    environ = {"REQUEST_METHOD": "PATCH", "PATH_INFO": "/bb1/k", "QUERY_STRING": ""}
    with pytest.raises(wire.Unreadable, match="PATCH /bb1/k is no operation of s3"):
        wire.call(environ, "s3")


@settings(max_examples=150, deadline=None)
@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=8), min_size=1))
def test_any_key_is_read_as_it_was_written(parts: Iterable[str]) -> None:
    key = "/".join(parts)
    if key.strip("/") and not any(part in (".", "..") for part in key.split("/")):
        assert asked("s3", "GetObject", Bucket="bb1", Key=key)[1].parameters["Key"] == key
