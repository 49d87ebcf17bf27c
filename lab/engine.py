"""The embedded AWS as its parts see it: where it answers, what is deployed."""

from __future__ import annotations

import functools
import json
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# moto accepts any signature; these mark a request as the desk's own, outside every role.
ACCESS_KEY = "test"
SECRET_KEY = "test"


@dataclass(frozen=True)
class Engine:
    """One embedded AWS. `root` holds its files; `assembly` is the deployed cdk.out, once there is one."""

    root: Path
    endpoint: str
    region: str
    account: str
    assembly: Path | None = None

    def client(self, service: str) -> Any:
        """A boto3 client of `service` on this engine; made once per service and shared, as clients are thread-safe."""
        return _client(self.endpoint, self.region, service)

    def settings(self) -> dict[str, Any]:
        """lab.json of the deployed assembly; empty before the first deployment."""
        path = (self.assembly or self.root / "assembly") / "lab.json"
        if not path.is_file():
            return {}
        found: dict[str, Any] = json.loads(path.read_text("utf-8"))
        return found


# A session reads much from disk and cannot make two clients at once.
_making = threading.Lock()


@functools.lru_cache(maxsize=8)
def _session(region: str) -> Any:
    return session(region, ACCESS_KEY, SECRET_KEY)


def session(region: str, access_key: str, secret_key: str, token: str | None = None) -> Any:
    """A boto3 session whose clients reach an engine of this very process without a socket."""
    import boto3
    import botocore.session

    from lab import inside

    core = botocore.session.Session()
    inside.connect(core)
    return boto3.session.Session(access_key, secret_key, token, region, botocore_session=core)


@functools.lru_cache(maxsize=256)
def _client(endpoint: str, region: str, service: str) -> Any:
    from botocore.config import Config

    config = Config(
        retries={"mode": "standard", "max_attempts": 2},
        connect_timeout=5,
        read_timeout=600,
        s3={"addressing_style": "path"},
        proxies={},
        max_pool_connections=32,
    )
    with _making:
        return _session(region).client(service, endpoint_url=endpoint, config=config)
