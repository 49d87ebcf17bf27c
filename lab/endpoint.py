"""An endpoint's state and process, and how one process takes over from another."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from moto.core.utils import utcnow
from moto.sagemaker.models import FakeEndpoint, FakeEndpointConfig, Model

from lab import capture, joblog, serving
from lab.errors import LabError
from lab.training import SETS_UP_LOGS

if TYPE_CHECKING:
    from lab.engine import Engine

LOG = logging.getLogger(__name__)
LOG_GROUP = "/aws/sagemaker/Endpoints"
REASON_CHARACTERS = 1024


class Endpoint(FakeEndpoint):  # type: ignore[misc]
    """One endpoint: its state as DescribeEndpoint tells it, and the process that answers."""

    def __init__(self, engine: Engine, name: str, config: FakeEndpointConfig, tags: list[dict[str, str]]) -> None:
        super().__init__(
            engine.account, engine.region, name, config.endpoint_config_name, config.production_variants, {}, tags
        )
        self.data_capture_config = None
        self.engine = engine
        self.endpoint_status = "Creating"
        self.server: serving.Server | None = None
        self.capture: capture.Capture | None = None
        self.gone = False
        self._turn = threading.Condition()
        self._asked: dict[serving.Server, int] = {}
        self._shipped: dict[serving.Server, int] = {}  # lines of each server's log that CloudWatch has

    @property
    def response_object(self) -> dict[str, Any]:
        """What DescribeEndpoint answers."""
        answer = {
            "EndpointName": self.endpoint_name,
            "EndpointArn": self.arn,
            "EndpointConfigName": self.endpoint_config_name,
            "ProductionVariants": self.production_variants,
            "DataCaptureConfig": self.capture and self.capture.summary(),
            "EndpointStatus": self.endpoint_status,
            "FailureReason": self.failure_reason,
            "CreationTime": self.creation_time,
            "LastModifiedTime": self.last_modified_time,
        }
        return {key: value for key, value in answer.items() if value is not None}

    def enter(self, status: str, reason: str | None = None) -> None:
        self.failure_reason = reason and reason[:REASON_CHARACTERS]
        self.last_modified_time = utcnow()
        # Last, as it is what pollers wait for.
        self.endpoint_status = status

    def deploy(self, config: FakeEndpointConfig, model: Model) -> None:
        """Brings up a process for `model` and lets it take over, in a thread of its own."""
        old = self.server
        try:
            fresh = self._start(config, model)
        except Exception as error:
            if not isinstance(error, LabError):
                LOG.exception("endpoint %s", self.endpoint_name)
            reason = error.message if isinstance(error, LabError) else f"{type(error).__name__}: {error}"
            self.enter("InService" if old else "Failed", reason)
            return
        with self._turn:
            self.server = fresh
            self.capture = self._capture(config, model)
        self.endpoint_config_name = config.endpoint_config_name
        self.production_variants = self._process_production_variants(config.production_variants)
        for variant in self.production_variants:
            variant["DeployedImages"] = [{"SpecifiedImage": model.primary_container["Image"]}]
        if self.gone:
            fresh.stop()
        self.enter("InService")
        self._ship(fresh)
        if old is not None:
            self._end(old)

    def _start(self, config: FakeEndpointConfig, model: Model) -> serving.Server:
        container = model.primary_container
        name = f"{self.endpoint_name}/{int(time.time())}-{uuid.uuid4().hex[:6]}"
        return serving.start(
            self.engine,
            name,
            image=container["Image"],
            model_data=container.get("ModelDataUrl"),
            environment=container.get("Environment") or {},
            role_arn=model.execution_role_arn,
            isolated=model.enable_network_isolation,
        )

    def _capture(self, config: FakeEndpointConfig, model: Model) -> capture.Capture | None:
        wanted = config.data_capture_config
        if not wanted or not wanted.get("EnableCapture"):
            return None
        variant = config.production_variants[0]["VariantName"]
        return capture.Capture(self.engine, self.endpoint_name, variant, wanted, model.execution_role_arn)

    def remove(self) -> None:
        """DeleteEndpoint: the process ends."""
        self.gone = True
        if self.server is not None:
            self._end(self.server)

    @contextlib.contextmanager
    def lease(self) -> Iterator[serving.Server | None]:
        """The server in service, which does not end before the block does; None when there is none."""
        with self._turn:
            server = self.server
            if server is not None:
                self._asked[server] = self._asked.get(server, 0) + 1
        try:
            yield server
        finally:
            if server is not None:
                with self._turn:
                    self._asked[server] -= 1
                    self._turn.notify_all()

    def _end(self, server: serving.Server) -> None:
        with self._turn:
            self._turn.wait_for(lambda: not self._asked.get(server), timeout=serving.ANSWER_SECONDS)
        server.stop()
        self._ship(server)

    def _ship(self, server: serving.Server) -> None:
        """What a server has said since the last time, to its log stream."""
        variant = self.production_variants[0]["VariantName"]
        lines = joblog.text(server.running.log).splitlines()
        lines, self._shipped[server] = lines[self._shipped.get(server, 0) :], len(lines)
        group = f"{LOG_GROUP}/{self.endpoint_name}"
        stream = f"{variant}/{server.running.log.parent.name}"
        joblog.to_cloudwatch(self.engine, server.running.child.role_arn or "", group, stream, lines, more=SETS_UP_LOGS)
