"""The embedded AWS calls itself without a socket, and gives the answers that the socket would give."""

import logging
import socket
from collections.abc import Iterable, Iterator
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, EndpointConnectionError
from moto.core.base_backend import BackendDict
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

from lab import engine, inside


@pytest.fixture
def nobody() -> Iterator[str]:
    """host:port that is ours and that no server listens on."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{held.getsockname()[1]}"


def client(service: str, netloc: str) -> Any:
    config = Config(retries={"max_attempts": 0}, s3={"addressing_style": "path"}, proxies={})
    return engine.session("us-east-1", "test", "test").client(service, endpoint_url=f"http://{netloc}", config=config)


@pytest.fixture
def served(nobody: str, monkeypatch: pytest.MonkeyPatch) -> str:
    BackendDict.reset()
    monkeypatch.setattr(inside, "_served", {})
    inside.serve(nobody, DomainDispatcherApplication(create_backend_app))
    return nobody


def test_a_call_is_answered_though_no_one_listens(served: str) -> None:
    s3 = client("s3", served)
    s3.create_bucket(Bucket="data")
    body = bytes(range(256)) * 9000
    s3.put_object(Bucket="data", Key="ein Schlüssel/a+b?c.bin", Body=body, Metadata={"who": "me"})
    found = s3.get_object(Bucket="data", Key="ein Schlüssel/a+b?c.bin")
    assert found["Body"].read() == body
    assert found["Metadata"] == {"who": "me"}
    assert [row["Key"] for row in s3.list_objects_v2(Bucket="data")["Contents"]] == ["ein Schlüssel/a+b?c.bin"]


def test_an_open_file_is_sent_whole(served: str, tmp_path: Any) -> None:
    (tmp_path / "file").write_bytes(b"0123456789" * 1000)
    s3 = client("s3", served)
    s3.create_bucket(Bucket="data")
    with (tmp_path / "file").open("rb") as body:
        s3.put_object(Bucket="data", Key="file", Body=body)
    assert s3.head_object(Bucket="data", Key="file")["ContentLength"] == 10_000


def test_errors_are_those_of_the_service(served: str) -> None:
    with pytest.raises(ClientError) as caught:
        client("dynamodb", served).describe_table(TableName="absent")
    assert caught.value.response["Error"]["Code"] == "ResourceNotFoundException"


def test_what_goes_elsewhere_takes_the_socket(nobody: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inside, "_served", {})
    with pytest.raises(EndpointConnectionError):
        client("s3", nobody).list_buckets()


def test_a_client_of_another_session_takes_the_socket(served: str) -> None:
    config = Config(retries={"max_attempts": 0}, proxies={})
    stock = boto3.session.Session("a", "b", region_name="us-east-1")
    with pytest.raises(EndpointConnectionError):
        stock.client("s3", endpoint_url=f"http://{served}", config=config).list_buckets()


def test_a_fault_of_the_server_is_an_error_500_and_in_the_log(
    nobody: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        raise RuntimeError("no such luck")

    monkeypatch.setattr(inside, "_served", {nobody: broken})
    with caplog.at_level(logging.ERROR), pytest.raises(ClientError) as caught:
        client("s3", nobody).list_buckets()
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 500
    assert "no such luck" in caplog.text
