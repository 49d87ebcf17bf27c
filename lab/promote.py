"""Asks a stack to take an approved model over from the environment that its `promote_from` names."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from lab.errors import LabError

if TYPE_CHECKING:
    from lab.home import Home


def promote(home: Home, version: str | None) -> dict[str, Any]:
    """What the stack's promote function answers: package, version, approval, source. Raises LabError.

    Any AWS that the environment's variables point at: an account, or the embedded one after `eval "$(lab env)"`.
    """
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    name = f"{home.prefix()}-promote"
    patient = Config(read_timeout=900, retries={"total_max_attempts": 1})
    region = os.environ.get("AWS_REGION") or home.region()
    payload = json.dumps({"version": version} if version else {})
    try:
        said = boto3.client("lambda", region_name=region, config=patient).invoke(FunctionName=name, Payload=payload)
    except ClientError as error:
        if error.response["Error"]["Code"] == "ResourceNotFoundException":
            raise LabError(
                f"there is no function {name} in {region}",
                "the environment's table in lab.toml needs promote_from; then deploy it",
            ) from None
        raise LabError(f"{name} was not called: {error.response['Error']['Message']}") from None
    except BotoCoreError as error:
        raise LabError(f"{name} was not called: {error}", "credentials of the account, or of lab env") from None
    answer: dict[str, Any] = json.loads(said["Payload"].read())
    if "FunctionError" in said:
        raise LabError(f"{answer.get('errorType', 'error')}: {answer.get('errorMessage', answer)}", f"{name} said so")
    return answer
