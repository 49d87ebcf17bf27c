"""Deploys an assembly to an account or to the embedded AWS: asked first, shown first, and taken up where it was left.

Preflight, plan with cost and permissions, confirmation; then the assets, a change set, its execution. CloudFormation is
asked directly, so that the same code runs in tests as in an account; `cdk deploy` on the same assembly gives the same
stack. Each step looks at what is there before it acts: a call that was broken off is made again.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lab import assembly as assemblies
from lab import plan, preflight, stacks
from lab.assembly import Assembly
from lab.bill import Bill
from lab.cloud import Cloud, CloudError
from lab.doctor import Finding
from lab.home import read_json, write_atomically
from lab.plan import Plan
from lab.stacks import Say

CHANGE_SET = "lab-deploy"
# A stack in one of these was never whole and holds nothing: it is deleted before another one is made.
UNMADE = ("ROLLBACK_COMPLETE", "REVIEW_IN_PROGRESS")
NO_CHANGES = ("didn't contain changes", "No updates are to be performed")


@dataclass(frozen=True)
class Prospect:
    """What a deployment would do and cost, before anything is touched."""

    findings: list[Finding]
    plan: Plan
    bill: Bill

    def document(self) -> dict[str, Any]:
        costs = {"run_usd": self.bill.run["usd"], "idle_month_usd": self.bill.idle["month_usd"]}
        return {
            "preflight": [vars(one) for one in self.findings],
            "plan": self.plan.document(),
            "cost": {**costs, "month_usd": self.bill.month["usd"], "hourly": self.bill.idle["hourly"]},
        }


def prospect(cloud: Cloud, assembly: Assembly, costs: Bill) -> Prospect:
    """Asks and compares. Raises CloudError when the deployment must not begin."""
    if cloud.local:
        assembly.check()
    found = list(preflight.findings(cloud, assembly))
    failed = [one for one in found if one.state == "fail"]
    if failed:
        lines = "\n  ".join(f"{one.name}: {one.detail}" for one in failed)
        raise CloudError(f"{cloud.name} is not ready for {assembly.stack}:\n  {lines}", failed[0].mend)
    return Prospect(found, plan.plan(stacks.template(cloud, assembly.stack), assembly.template), costs)


def deploy(cloud: Cloud, assembly: Assembly, say: Say) -> dict[str, str]:
    """Publishes, makes or changes the stack, and gives its outputs. Raises CloudError with the first failures."""
    watch = stacks.Watch(cloud, assembly.stack, say)
    standing = watch.wait()
    if standing in UNMADE:
        say(f"• removing {assembly.stack}, which was never made whole ({standing})")
        cloud.client("cloudformation").delete_stack(StackName=assembly.stack)
        standing = watch.wait()
    _publish(cloud, assembly, say)
    _forget(cloud)
    if cloud.engine:
        assemblies.keep(cloud.engine, assembly)  # its parts read lab.json while the stack comes up
    if _change(cloud, assembly, standing == stacks.GONE, say):
        say(f"• the stack {assembly.stack}")
        _execute(cloud, assembly.stack)
        standing = watch.wait()
        if standing not in ("CREATE_COMPLETE", "UPDATE_COMPLETE"):
            why = "\n  ".join(f"{name}: {reason}" for name, reason in watch.failures.items()) or "see its events"
            raise CloudError(f"{assembly.stack} is {standing}:\n  {why}", "mend it, then run lab deploy again")
    else:
        say(f"• the stack {assembly.stack} is as it should be")
    _remember(cloud, assembly)
    return stacks.outputs(stacks.describe(cloud, assembly.stack) or {})


def _publish(cloud: Cloud, assembly: Assembly, say: Say) -> None:
    """Puts the assets that are not there: their keys are hashes of their content."""
    from botocore.exceptions import ClientError

    s3, sent, there = cloud.client("s3"), 0, 0
    if cloud.engine:
        assemblies.bootstrap(cloud.engine, assembly)
    for source, bucket, key in assemblies.files(cloud, assembly):
        try:
            found = s3.head_object(Bucket=bucket, Key=key, ExpectedBucketOwner=cloud.account)
            if int(found["ContentLength"]) == source.stat().st_size:
                there += 1
                continue
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
                raise
        s3.put_object(Bucket=bucket, Key=key, Body=source.read_bytes(), ExpectedBucketOwner=cloud.account)
        sent += 1
    say(f"• assets: {sent} sent, {there} were there")


def _change(cloud: Cloud, assembly: Assembly, new: bool, say: Say) -> bool:
    """Makes the change set anew; False when it holds no change."""
    from botocore.exceptions import ClientError, WaiterError

    client, which = cloud.client("cloudformation"), {"StackName": assembly.stack, "ChangeSetName": CHANGE_SET}
    if not new:
        client.delete_change_set(**which)
    bucket, key = assemblies.template_asset(cloud, assembly)
    given: dict[str, Any] = {
        **which,
        "ChangeSetType": "CREATE" if new else "UPDATE",
        # By URL: a template in the request itself may have 51,200 bytes at most.
        "TemplateURL": f"https://s3.{cloud.region}.amazonaws.com/{bucket}/{key}",
        "Capabilities": ["CAPABILITY_NAMED_IAM"],
        "Tags": [{"Key": name, "Value": value} for name, value in _tags(assembly).items()],
    }
    role = _execution_role(cloud)
    try:
        client.create_change_set(**given, **({"RoleARN": role} if role else {}))
        client.get_waiter("change_set_create_complete").wait(**which, WaiterConfig={"Delay": 1 if cloud.local else 5})
    except WaiterError:
        reason = str(client.describe_change_set(**which).get("StatusReason"))
        if any(words in reason for words in NO_CHANGES):
            client.delete_change_set(**which)
            return False
        raise CloudError(f"CloudFormation refuses the change: {reason}", "nothing was changed") from None
    except ClientError as error:
        raise CloudError(f"CloudFormation refuses the change: {error}", "nothing was changed") from None
    changes = list(cloud.rows("cloudformation", "describe_change_set", "Changes", **which))
    say(f"• change set: {len(changes)} resources")
    return bool(changes)


def _execute(cloud: Cloud, stack: str) -> None:
    from botocore.exceptions import ClientError

    try:
        cloud.client("cloudformation").execute_change_set(StackName=stack, ChangeSetName=CHANGE_SET)
    except ClientError as error:
        raise CloudError(f"{stack} was not deployed: {error}", "mend it, then run lab deploy again") from None


def _tags(assembly: Assembly) -> Mapping[str, str]:
    """The stack's tags, as the CDK's command line would set them."""
    artifact = read_json(assembly.path / "manifest.json")["artifacts"][assembly.stack]
    tags: Mapping[str, str] = artifact["properties"].get("tags") or {}
    return tags


def _execution_role(cloud: Cloud) -> str | None:
    """The role of the CDK's bootstrap stack that CloudFormation acts with; None where there is none, as on the desk."""
    from botocore.exceptions import ClientError

    name = f"cdk-hnb659fds-cfn-exec-role-{cloud.account}-{cloud.region}"
    try:
        return str(cloud.client("iam").get_role(RoleName=name)["Role"]["Arn"])
    except ClientError:
        return None


def _forget(cloud: Cloud) -> None:
    """The embedded AWS keeps a mark of the assembly that it runs; while that changes there is none."""
    for name in ("assembly.sha256", "deployed") if cloud.engine else ():
        (cloud.engine.root / name).unlink(missing_ok=True)  # type: ignore[union-attr]


def _remember(cloud: Cloud, assembly: Assembly) -> None:
    if cloud.engine:
        write_atomically(cloud.engine.root / "assembly.sha256", assembly.digest)


def forget(cloud: Cloud) -> None:
    """What the embedded AWS remembers of a stack that is destroyed."""
    _forget(cloud)
    if cloud.engine:
        shutil.rmtree(cloud.engine.root / "assembly", ignore_errors=True)
