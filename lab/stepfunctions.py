"""Step Functions: moto's interpreter, with the integrations of our flows made real.

Covers: JSONPath machines whose states and tasks definition.py lists; aws-sdk integrations with AWS's casing and error
    names; glue:startJobRun, sagemaker:createTrainingJob, createHyperParameterTuningJob, createProcessingJob and
    codebuild:startBuild, each with `.sync`; lambda, dynamodb, events, sns and sqs as moto does them; names for
    executions that were given none.
Does not cover, and refuses when a machine is made: everything that definition.py does not list, JSONata, Activities.
"""

from __future__ import annotations

import datetime
import json
import os
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError
from botocore.response import StreamingBody
from moto.core.config import default_user_config
from moto.core.exceptions import ServiceException
from moto.stepfunctions.parser import models as parser_models
from moto.stepfunctions.parser.api import HistoryEventType, InvalidDefinition, TaskFailedEventDetails
from moto.stepfunctions.parser.asl.component.common.error_name.custom_error_name import CustomErrorName
from moto.stepfunctions.parser.asl.component.common.error_name.failure_event import FailureEvent, FailureEventException
from moto.stepfunctions.parser.asl.component.common.error_name.states_error_name import StatesErrorName
from moto.stepfunctions.parser.asl.component.common.error_name.states_error_name_type import StatesErrorNameType
from moto.stepfunctions.parser.asl.component.state.exec.state_task import state_task_factory
from moto.stepfunctions.parser.asl.component.state.exec.state_task.service import state_task_service_callback
from moto.stepfunctions.parser.asl.component.state.exec.state_task.service.resource import ResourceCondition
from moto.stepfunctions.parser.asl.component.state.exec.state_task.service.state_task_service_aws_sdk import (
    StateTaskServiceAwsSdk,
)
from moto.stepfunctions.parser.asl.component.state.exec.state_task.service.state_task_service_callback import (
    StateTaskServiceCallback,
)
from moto.stepfunctions.parser.asl.eval.event.event_detail import EventDetails
from moto.stepfunctions.parser.asl.parse.asl_parser import AmazonStateLanguageParser
from moto.stepfunctions.parser.asl.utils.boto_client import boto_client_for
from moto.stepfunctions.parser.backend.execution_worker import ExecutionWorker

from lab import access, onbehalf
from lab.casing import recased
from lab.definition import refusals
from lab.engine import Engine
from lab.needs import Need

POLL_SECONDS = 0.1
# The tag that Step Functions puts on the SageMaker jobs that it starts, for which its role needs sagemaker:AddTags.
MANAGED = {"Key": "MANAGED_BY_AWS", "Value": "STARTED_BY_STEP_FUNCTIONS"}
# `.sync` follows a job by a rule of EventBridge that Step Functions makes in the name of the machine's role.
RULES = {
    "sagemaker:createTrainingJob": "StepFunctionsGetEventsForSageMakerTrainingJobsRule",
    "sagemaker:createHyperParameterTuningJob": "StepFunctionsGetEventsForSageMakerTuningJobsRule",
    "sagemaker:createProcessingJob": "StepFunctionsGetEventsForSageMakerProcessingJobsRule",
    "sagemaker:createTransformJob": "StepFunctionsGetEventsForSageMakerTransformJobsRule",
    "codebuild:startBuild": "StepFunctionsGetEventForCodeBuildStartBuildRule",
}
# How Step Functions spells a service in error names, where that is not its API name with a capital.
ERROR_PREFIX = {"dynamodb": "DynamoDb", "greengrassv2": "GreengrassV2", "sagemaker": "SageMaker", "glue": "Glue"}


@dataclass(frozen=True)
class Sync:
    """How `.sync` waits for one API: what to poll with which names, and which status ends it how."""

    poll: str
    asks: Callable[[Mapping[str, Any], Mapping[str, Any]], dict[str, Any]]
    found: Callable[[Mapping[str, Any]], Mapping[str, Any]]
    status: str
    good: frozenset[str]
    bad: frozenset[str]


def _job(kind: str) -> Sync:
    """CreateTrainingJob and its like: named in the request, described until it ended."""
    word = kind.title().replace("_", "")
    return Sync(
        f"describe_{kind}_job",
        lambda request, _: {f"{word}JobName": request[f"{word}JobName"]},
        lambda response: response,
        f"{word}JobStatus",
        frozenset({"Completed"}),
        frozenset({"Failed", "Stopped"}),
    )


SYNC = {
    ("sagemaker", "create_training_job"): _job("training"),
    ("sagemaker", "create_hyper_parameter_tuning_job"): _job("hyper_parameter_tuning"),
    ("sagemaker", "create_processing_job"): _job("processing"),
    ("sagemaker", "create_transform_job"): _job("transform"),
    ("glue", "start_job_run"): Sync(
        "get_job_run",
        lambda request, response: {"JobName": request["JobName"], "RunId": response["JobRunId"]},
        lambda response: response["JobRun"],
        "JobRunState",
        frozenset({"SUCCEEDED"}),
        frozenset({"FAILED", "TIMEOUT", "STOPPED", "ERROR", "EXPIRED"}),
    ),
    ("codebuild", "start_build"): Sync(
        "batch_get_builds",
        lambda _, response: {"ids": [response["Build"]["Id"]]},
        lambda response: {"Build": response["Builds"][0], "BuildStatus": response["Builds"][0]["BuildStatus"]},
        "BuildStatus",
        frozenset({"SUCCEEDED"}),
        frozenset({"FAILED", "FAULT", "TIMED_OUT", "STOPPED"}),
    ),
}


def install(engine: Engine) -> None:
    """Routes every state machine to the interpreter, and its tasks to the services of this engine."""
    default_user_config["stepfunctions"]["execute_state_machine"] = True
    os.environ["MOTO_PORT"] = engine.endpoint.rpartition(":")[2]
    state_task_service_callback._DELAY_SECONDS_SYNC_CONDITION_CHECK = POLL_SECONDS
    stock = state_task_factory.state_task_service_for

    def service_for(service_name: str) -> Any:
        if service_name == "aws-sdk":
            return AwsSdkTask()
        if any(service == service_name for service, _ in SYNC):
            return JobTask()
        return stock(service_name)

    state_task_factory.state_task_service_for = service_for
    StateTaskServiceAwsSdk._SERVICE_NAME_SFN_TO_BOTO_OVERRIDES["eventbridge"] = "events"
    StateTaskServiceAwsSdk._SERVICE_NAME_SFN_TO_BOTO_OVERRIDES["applicationautoscaling"] = "application-autoscaling"
    _refuse_what_the_desk_cannot()
    _name_every_execution()
    _parse_once()
    _check_the_role(engine)


def _refuse_what_the_desk_cannot() -> None:
    """What definition.py does not cover is refused when a machine is made; moto would fail in the middle of a run."""
    backend = parser_models.StepFunctionsParserBackend
    validate = backend._validate_definition

    def checked(definition: str) -> None:
        validate(definition)
        found = refusals(json.loads(definition))
        if found:
            raise InvalidDefinition(message="the desk does not cover this definition: " + "; ".join(found))

    backend._validate_definition = staticmethod(checked)


def _check_the_role(engine: Engine) -> None:
    """The role of a machine may log, trace and follow its jobs, as AWS checks when the machine is made or changed."""
    backend = parser_models.StepFunctionsParserBackend
    create, update = backend.create_state_machine, backend.update_state_machine

    def created(self: Any, **given: Any) -> Any:
        about = given["loggingConfiguration"], given["tracingConfiguration"]
        _admit(engine, given["name"], given["roleArn"], given["definition"], *about)
        return create(self, **given)

    def updated(self: Any, **given: Any) -> Any:
        now = self.describe_state_machine(given["arn"])
        role, definition = given["role_arn"] or now.roleArn, given["definition"] or now.definition
        about = given["logging_configuration"], given["tracing_configuration"]
        _admit(engine, now.name, role, definition, *about)
        return update(self, **given)

    backend.create_state_machine, backend.update_state_machine = created, updated


def _admit(engine: Engine, name: str, role_arn: str, definition: str, logs: Any, traces: Any) -> None:
    wanted = []
    if logs and logs.get("destinations"):
        wanted += [Need(f"logs:{action}", "*") for action in onbehalf.DELIVERY]
    if traces and traces.get("enabled"):
        wanted += [Need(f"xray:{action}", "*") for action in onbehalf.TRACING]
    for part, rule in RULES.items():
        if f"arn:aws:states:::{part}.sync" in definition:
            arn = f"arn:aws:events:{engine.region}:{engine.account}:rule/{rule}"
            wanted += [Need(f"events:{action}", arn) for action in ("PutTargets", "PutRule", "DescribeRule")]
    try:
        access.require(engine, role_arn, wanted, session=name)
    except access.AccessDenied as error:
        raise AccessDeniedException(error.message) from None


class AccessDeniedException(ServiceException):  # type: ignore[misc]
    """Step Functions' word for a role that may not do what its machine needs."""

    code = "AccessDeniedException"


def _name_every_execution() -> None:
    """As AWS, an execution that no one named is called by a UUID."""
    backend = parser_models.StepFunctionsParserBackend
    start = backend.start_execution

    def named(self: Any, state_machine_arn: str, name: str | None = None, *rest: Any, **options: Any) -> Any:
        return start(self, state_machine_arn, name or str(uuid.uuid4()), *rest, **options)

    backend.start_execution = named


def _parse_once() -> None:
    """The first execution of a machine takes the program that the check of its definition has parsed."""
    stock = AmazonStateLanguageParser.parse
    ready: dict[str, Any] = {}

    def parsed(definition: str) -> Any:
        ready[definition] = stock(definition)
        return ready[definition]

    def program(self: ExecutionWorker) -> Any:
        definition = self._evaluation_details.state_machine_details.definition
        return (ready.pop(definition, None) or stock(definition))[0]

    AmazonStateLanguageParser.parse = staticmethod(parsed)
    ExecutionWorker._get_evaluation_entrypoint = program


def plain(value: Any) -> Any:
    """`value` as a state's output can hold it: times as milliseconds since 1970, streams as text."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, datetime.datetime):
        return int(value.timestamp() * 1000)
    if isinstance(value, StreamingBody):
        return value.read().decode()
    if isinstance(value, bytes):
        return value.decode()
    return value


class Call:
    """One API of one service, called as Step Functions calls it."""

    def __init__(self, service: str, action: str, region: str, credentials: Any) -> None:
        self._client = boto_client_for(service=service, region=region, state_credentials=credentials)
        self._action = action
        if not hasattr(self._client, action):
            raise ValueError(f"{service} has no API {action}")

    def __call__(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """The response with Step Functions' casing and plain values. Raises botocore's ClientError."""
        meta = self._client.meta
        operation = meta.service_model.operation_model(meta.method_to_api_mapping[self._action])
        response = getattr(self._client, self._action)(**recased(dict(request), operation.input_shape, to_boto=True))
        response.pop("ResponseMetadata", None)
        said: dict[str, Any] = plain(recased(response, operation.output_shape, to_boto=False))
        return said


class AwsSdkTask(StateTaskServiceAwsSdk):  # type: ignore[misc]
    """`arn:aws:states:::aws-sdk:<service>:<action>`."""

    @staticmethod
    def _normalise_service_error_name(service_name: str) -> str:
        return ERROR_PREFIX.get(service_name.lower(), service_name[:1].upper() + service_name[1:])

    @staticmethod
    def _normalise_exception_name(norm_service_name: str, ex: Exception) -> str:
        """As AWS: `Ecr.ImageNotFoundException`; an error the service does not model is `Ecr.EcrException`."""
        modelled = type(ex).__name__
        name = norm_service_name if modelled == "ClientError" else modelled
        return f"{norm_service_name}.{name}" + ("" if name.endswith("Exception") else "Exception")

    def _eval_service_task(
        self, env: Any, resource_runtime_part: Any, normalised_parameters: dict[str, Any], state_credentials: Any
    ) -> None:
        call = Call(
            self._get_boto_service_name(),
            self._get_boto_service_action(),
            resource_runtime_part.region,
            state_credentials,
        )
        env.stack.append(call(normalised_parameters))


class JobTask(StateTaskServiceCallback):  # type: ignore[misc]
    """An optimised integration that starts something, and with `.sync` waits for its end."""

    def __init__(self) -> None:
        super().__init__({ResourceCondition.Sync, ResourceCondition.WaitForTaskToken})

    def _validate_service_integration_is_supported(self) -> None:
        key = (self.resource.service_name, self._get_boto_service_action())
        if self.resource.condition is not None and (
            self.resource.condition != ResourceCondition.Sync or key not in SYNC
        ):
            raise ValueError(f"the desk does not cover the task {self.resource.resource_arn}")

    def _eval_service_task(
        self, env: Any, resource_runtime_part: Any, normalised_parameters: dict[str, Any], state_credentials: Any
    ) -> None:
        service, action = self.resource.service_name, self._get_boto_service_action()
        if service == "sagemaker":
            tags = [*normalised_parameters.get("Tags", []), MANAGED]
            normalised_parameters = {**normalised_parameters, "Tags": tags}
        env.stack.append(Call(service, action, resource_runtime_part.region, state_credentials)(normalised_parameters))

    def _build_sync_resolver(
        self, env: Any, resource_runtime_part: Any, normalised_parameters: dict[str, Any], state_credentials: Any
    ) -> Callable[[], Any]:
        service = self.resource.service_name
        sync = SYNC[service, self._get_boto_service_action()]
        call = Call(service, sync.poll, resource_runtime_part.region, state_credentials)
        asked = sync.asks(normalised_parameters, env.stack.pop())

        def resolve() -> Any:
            found = dict(sync.found(call(asked)))
            if found[sync.status] in sync.good:
                return found
            if found[sync.status] in sync.bad:
                raise FailureEventException(self._failed(env, found))
            return None

        return resolve

    def _failed(self, env: Any, found: Mapping[str, Any]) -> FailureEvent:
        """A job that ended badly is States.TaskFailed, with its whole description as the cause."""
        task_failed = StatesErrorNameType.StatesTaskFailed
        return self._event(env, StatesErrorName(typ=task_failed), task_failed.to_name(), json.dumps(found))

    def _from_error(self, env: Any, ex: Exception) -> FailureEvent:
        """As AWS: `Glue.EntityNotFoundException`; what SageMaker does not model is AmazonSageMakerException."""
        if not isinstance(ex, ClientError):
            return super()._from_error(env=env, ex=ex)
        prefix = {"codebuild": "CodeBuild"}.get(self.resource.service_name) or ERROR_PREFIX[self.resource.service_name]
        name = type(ex).__name__
        if name == "ClientError":
            name = {"SageMaker": "AmazonSageMaker"}.get(prefix, f"AWS{prefix}")
        error = f"{prefix}.{name}" + ("" if name.endswith("Exception") else "Exception")
        return self._event(env, CustomErrorName(error), error, ex.response["Error"]["Message"])

    def _event(self, env: Any, name: Any, error: str, cause: str) -> FailureEvent:
        details = TaskFailedEventDetails(
            resource=self._get_sfn_resource(), resourceType=self._get_sfn_resource_type(), error=error, cause=cause
        )
        return FailureEvent(
            env=env,
            error_name=name,
            event_type=HistoryEventType.TaskFailed,
            event_details=EventDetails(taskFailedEventDetails=details),
        )
