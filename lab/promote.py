"""Asks a stack to take an approved model over from the environment that its `promote_from` names."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from lab import cloud
from lab.errors import LabError

if TYPE_CHECKING:
    from lab.engine import Engine
    from lab.home import Home

LONGEST_S = 900  # as long as the function may take


def promote(home: Home, version: str | None, engine: Engine | None = None) -> dict[str, Any]:
    """What the stack's promote function answers: package, version, approval, source. Raises LabError.

    In the account of the caller's credentials, or on an embedded AWS.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    name, region = f"{home.prefix()}-promote", home.region()
    client = engine.client("lambda") if engine else _of_account(home, region)
    payload = json.dumps({"version": version} if version else {})
    try:
        said = client.invoke(FunctionName=name, Payload=payload)
    except ClientError as error:
        if error.response["Error"]["Code"] == "ResourceNotFoundException":
            raise LabError(
                f"there is no function {name} in {region}",
                "the environment's table in lab.toml needs promote_from; then deploy it",
            ) from None
        raise LabError(f"{name} was not called: {error.response['Error']['Message']}") from None
    except BotoCoreError as error:
        raise LabError(f"{name} was not called: {error}") from None
    answer: dict[str, Any] = json.loads(said["Payload"].read())
    if "FunctionError" in said:
        raise LabError(f"{answer.get('errorType', 'error')}: {answer.get('errorMessage', answer)}", f"{name} said so")
    return answer


def _of_account(home: Home, region: str) -> Any:
    """A client that waits for the function, in the account that lab.toml names. Raises LabError in another one."""
    import boto3
    from botocore.config import Config

    found, wanted = cloud.account(region), home.account()
    if wanted and wanted != found.account:
        raise LabError(
            f"the credentials are of account {found.account}, lab.toml says {wanted}",
            "take that account's credentials (AWS_PROFILE), or another --environment",
        )
    patient = Config(read_timeout=LONGEST_S, retries={"total_max_attempts": 1})
    return boto3.session.Session(region_name=region).client("lambda", config=patient)
