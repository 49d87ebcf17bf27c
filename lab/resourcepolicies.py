"""The policy that a resource carries itself: of a bucket, a KMS key, an SNS topic or a Lambda function."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from lab import policy

if TYPE_CHECKING:
    from lab.engine import Engine


def of(engine: Engine, arn: str) -> tuple[policy.Statement, ...]:
    """The statements of the policy on a resource; none where it has no policy or cannot have one."""
    parts = arn.split(":", 5)
    if len(parts) < 6:
        return ()
    found = {"s3": _bucket, "kms": _key, "sns": _topic, "lambda": _function}.get(parts[2], _none)(engine, arn, parts[5])
    if found is None:
        return ()
    text = found if isinstance(found, str) else found.decode()
    return tuple(policy.statements(text, f"policy of {parts[5].partition('/')[0]}"))


def _none(engine: Engine, arn: str, resource: str) -> Any:
    return None


def _bucket(engine: Engine, arn: str, resource: str) -> Any:
    from moto.s3.models import s3_backends

    found = s3_backends[engine.account]["aws"].buckets.get(resource.partition("/")[0])
    return found.policy if found is not None else None


def _key(engine: Engine, arn: str, resource: str) -> Any:
    from moto.kms.models import kms_backends

    found = kms_backends[engine.account][engine.region].keys.get(resource.partition("/")[2])
    return found.policy if found is not None else None


def _topic(engine: Engine, arn: str, resource: str) -> Any:
    from moto.sns.models import sns_backends

    found = sns_backends[engine.account][engine.region].topics.get(arn)
    return found.policy if found is not None else None


def _function(engine: Engine, arn: str, resource: str) -> Any:
    from moto.awslambda.models import lambda_backends

    found = lambda_backends[engine.account][engine.region]._lambdas.get_arn(arn)
    return json.dumps({"Statement": found.policy.statements}) if found is not None else None
