"""Puts objects into the data bucket with the device role's credentials, which the nucleus' token exchange hands out."""

from __future__ import annotations

import http.client
import os
from collections.abc import Mapping
from urllib.parse import quote, urlsplit

from awscrt import auth
from awscrt import http as crt

SECONDS = 20.0


class Bucket:
    """One bucket, addressed as the environment says (AWS_REGION, and AWS_ENDPOINT_URL for another than AWS itself)."""

    def __init__(self, name: str, environment: Mapping[str, str] = os.environ) -> None:
        self.name = name
        self.region = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION") or "us-east-1"
        given = environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL")
        where = urlsplit(given or f"https://{name}.s3.{self.region}.amazonaws.com")
        self._secure = where.scheme == "https"
        self._host = where.netloc
        # Another endpoint than AWS' own has the bucket in the path.
        self._path = f"/{name}" if given else ""
        self._provider: auth.AwsCredentialsProvider | None = None

    def put(self, key: str, content: bytes) -> None:
        """Writes one object whole. Raises OSError, with what was answered, when it could not."""
        path = f"{self._path}/{quote(key)}"
        headers = self._signed(path, content)
        kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        connection = kind(self._host, timeout=SECONDS)
        try:
            connection.request("PUT", path, content, headers)
            answer = connection.getresponse()
            said = answer.read(500)
        except http.client.HTTPException as error:
            raise OSError(f"{self._host} answered no HTTP: {error!r}") from error
        finally:
            connection.close()
        if answer.status != 200:
            raise OSError(f"PUT {key}: {answer.status} {said.decode('utf-8', 'replace')}")

    def _signed(self, path: str, content: bytes) -> dict[str, str]:
        """The request's headers with AWS Signature Version 4, by the Common Runtime that awsiotsdk stands on."""
        headers = crt.HttpHeaders([("host", self._host), ("content-length", str(len(content)))])
        request = crt.HttpRequest("PUT", path, headers)
        config = auth.AwsSigningConfig(
            algorithm=auth.AwsSigningAlgorithm.V4,
            signature_type=auth.AwsSignatureType.HTTP_REQUEST_HEADERS,
            credentials_provider=self._credentials(),
            region=self.region,
            service="s3",
            use_double_uri_encode=False,
            should_normalize_uri_path=False,
            signed_body_value=auth.AwsSignedBodyValue.UNSIGNED_PAYLOAD,
            signed_body_header_type=auth.AwsSignedBodyHeaderType.X_AMZ_CONTENT_SHA_256,
        )
        try:
            signed = auth.aws_sign_request(request, config).result(SECONDS)
        except Exception as error:  # the runtime's own errors: no credentials, above all
            raise OSError(f"no credentials for {self.name}: {error}") from error
        return dict(signed.headers)

    def _credentials(self) -> auth.AwsCredentialsProvider:
        if self._provider is None:
            self._provider = auth.AwsCredentialsProvider.new_default_chain()
        return self._provider
