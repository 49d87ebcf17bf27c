"""Removes a lab from an account, all of it, and proves it by an inventory.

What the flow made goes first, then the stack, then what came late; then every service is asked by name and by tag, and
whatever is still there is named. Nothing is remembered between two calls: each looks at what is there, so a call that
was broken off is made again. Data that the template keeps on purpose (prod) stay unless `data` asks for them.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from lab import inventory, inventory_flow, inventory_jobs, inventory_stack, stacks
from lab.cloud import Cloud, CloudError
from lab.inventory import Found, Kind
from lab.stacks import Say

TRIES = 3
RETAINING = ("Retain", "RetainExceptOnCreate")
# Services whose things the kinds find by name: what the tag index alone still shows of them is gone already.
BY_NAME = {
    "cloudtrail", "cloudwatch", "codebuild", "codepipeline", "dynamodb", "ecr", "events", "glue", "greengrass", "iam",
    "iot", "lambda", "logs", "s3", "sagemaker", "scheduler", "secretsmanager", "sns", "sqs", "ssm", "states",
}  # fmt: skip
EVERY = (*inventory_flow.KINDS, *inventory_stack.KINDS)


@dataclass
class Outcome:
    """What a destruction came to, as sentences: removed, kept on purpose, still there, services that did not answer."""

    stack: str
    where: str
    removed: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    not_asked: dict[str, str] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        return {**asdict(self), "empty": not self.left}


@dataclass(frozen=True)
class Kept:
    """What the template keeps: physical ids while the stack stands, types for when it is gone."""

    ids: frozenset[str]
    types: frozenset[str]

    def holds(self, one: Found, types: Mapping[str, str]) -> bool:
        if one.kind in inventory_flow.OF_BUCKETS:
            return "AWS::S3::Bucket" in self.types and (not self.ids or str(one.id) in self.ids)
        if one.kind == inventory.TAGGED.name:
            service = str(one.id).split(":")[2]
            kind = {"s3": "AWS::S3::Bucket", "dynamodb": "AWS::DynamoDB::Table", "kms": "AWS::KMS::Key"}.get(service)
            return kind in self.types
        return types.get(one.kind) in self.types and (not self.ids or one.name in self.ids)


class Destruction:
    """One lab in one account, on its way out."""

    def __init__(
        self, cloud: Cloud, stack: str, prefix: str, template: Mapping[str, Any], say: Say, *, data: bool = False
    ) -> None:
        self.cloud, self.stack, self.say, self.data = cloud, stack, say, data
        self.whose = inventory.scope(cloud, prefix)
        self.kept = _kept(cloud, stack, stacks.template(cloud, stack) or template)
        self.outcome = Outcome(stack, cloud.name)
        self._types = {kind.name: kind.type for kind in EVERY if kind.type}

    def plan(self) -> list[str]:
        """What a call would remove, a line for each."""
        found = inventory.survey(self.cloud, self.whose, EVERY)
        standing = stacks.status(self.cloud, self.stack)
        lines = [] if standing == stacks.GONE else [f"the stack {self.stack} ({standing}) with its resources"]
        lines += [str(one) for one in self._not_of_the_stack(found.of(inventory_flow.KINDS)) if not self._spared(one)]
        return lines + [f"kept: {line} (--data removes it)" for line in self._what_is_kept(found.found)]

    def run(self) -> Outcome:
        """Removes, then takes the inventory. Raises CloudError when the stack itself cannot be deleted."""
        early = [kind for kind in inventory_flow.KINDS if not kind.late]
        self._remove_flow(early)
        self._delete_stack(early)
        self._remove_flow(inventory_flow.KINDS)
        if self.data:
            self._remove_data()
        self._take_inventory()
        return self.outcome

    def _spared(self, one: Found) -> bool:
        return not self.data and self.kept.holds(one, self._types)

    def _what_is_kept(self, found: Iterable[Found]) -> list[str]:
        """Each thing once: a bucket stands for its objects, a name for its ARN, and a key has no other name."""
        kept = [one for one in found if self._spared(one) and one.kind not in inventory_flow.OF_BUCKETS]
        named = [one for one in kept if one.kind != inventory.TAGGED.name]
        keys = [f"KMS key {str(one.id).rpartition('/')[2]}" for one in kept if ":kms:" in str(one.id)]
        return sorted([*(str(one) for one in named), *keys])

    def _not_of_the_stack(self, found: Iterable[Found]) -> list[Found]:
        ids = inventory.stack_ids(self.cloud, self.stack)
        return [one for one in found if not (self._types.get(one.kind) and {one.name.split()[0], str(one.id)} & ids)]

    def _remove_flow(self, kinds: Sequence[Kind]) -> None:
        """All that is no resource of the stack, as often as it takes: one removal may need another one first."""
        failures: dict[str, str] = {}
        for _ in range(TRIES):
            found = inventory.survey(self.cloud, self.whose, kinds)
            todo = [one for one in self._not_of_the_stack(found.found) if not self._spared(one)]
            failures = {}
            for one in todo:
                self._remove(one, failures)
            if not todo or not failures:
                break
        for name, why in failures.items():
            self.say(f"  could not remove {name}: {why}")

    def _remove(self, one: Found, failures: dict[str, str]) -> None:
        from botocore.exceptions import ClientError

        kind = next(kind for kind in inventory_flow.KINDS if kind.name == one.kind)
        assert kind.remove is not None
        try:
            kind.remove(self.cloud, one)
        except (ClientError, ValueError) as error:
            failures[str(one)] = str(error)
            return
        self._removed(str(one))

    def _removed(self, what: str) -> None:
        self.say(f"  removed {what}")
        if what not in self.outcome.removed:
            self.outcome.removed.append(what)

    def _delete_stack(self, kinds: Sequence[Kind]) -> None:
        """Deletes the stack; objects that were written meanwhile (access logs come late) are removed and it goes on."""
        for _ in range(TRIES):
            watch = stacks.Watch(self.cloud, self.stack, self.say)
            if watch.wait() == stacks.GONE:
                return
            self.say(f"• deleting the stack {self.stack}")
            self.cloud.client("cloudformation").delete_stack(StackName=self.stack)
            if watch.wait() == stacks.GONE:
                self._removed(f"stack {self.stack}")
                return
            self._remove_flow(kinds)
        why = "\n  ".join(f"{name}: {reason}" for name, reason in watch.failures.items()) or "see its events"
        raise CloudError(
            f"the stack {self.stack} is {stacks.status(self.cloud, self.stack)}:\n  {why}",
            "mend what the reasons name, then run lab destroy again; it takes up from there",
        )

    def _remove_data(self) -> None:
        """What the template keeps, once the stack has let it go. A key is scheduled to go, as KMS allows no less."""
        for one in inventory.survey(self.cloud, self.whose, inventory_stack.KINDS).found:
            if not self.kept.holds(one, self._types):
                continue
            if one.kind == "S3 bucket":
                self.cloud.client("s3").delete_bucket(Bucket=one.id)
            elif one.kind == "DynamoDB table":
                self.cloud.client("dynamodb").delete_table(TableName=one.id)
            elif ":kms:" in str(one.id) and not _leaving(self.cloud, one):
                self.cloud.client("kms").schedule_key_deletion(KeyId=one.id, PendingWindowInDays=7)
            else:
                continue
            self._removed(str(one))

    def _take_inventory(self) -> None:
        """Asks every service until nothing is there; what takes its time in AWS (an endpoint) is waited for."""
        deadline = time.monotonic() + (5.0 if self.cloud.local else 300.0)
        while True:
            found = inventory.survey(self.cloud, self.whose, EVERY)
            left = [one for one in found.found if not self._spared(one) and not self._stale(one, found)]
            if not left or time.monotonic() > deadline:
                break
            time.sleep(0.5 if self.cloud.local else 10.0)
        self.outcome.kept = self._what_is_kept(found.found)
        self.outcome.left = [str(one) for one in left]
        self.outcome.not_asked = found.not_asked

    def _stale(self, one: Found, found: inventory.Survey) -> bool:
        """Whether only the tag index, which lags, still shows a thing; or a key that has a day to go on."""
        if one.kind != inventory.TAGGED.name:
            return False
        service, name = str(one.id).split(":")[2], str(one.id).split(":", 5)[5]
        if service == "kms":
            return _leaving(self.cloud, one)
        job = inventory_jobs.is_job(str(one.id)) and inventory_jobs.RECORD not in found.not_asked
        return job or (service in BY_NAME and self.whose.owns(name))


def _leaving(cloud: Cloud, key: Found) -> bool:
    return bool(cloud.client("kms").describe_key(KeyId=key.id)["KeyMetadata"]["KeyState"] == "PendingDeletion")


def _kept(cloud: Cloud, stack: str, template: Mapping[str, Any]) -> Kept:
    resources: Mapping[str, Any] = template.get("Resources") or {}
    names = {name for name, row in resources.items() if row.get("DeletionPolicy") in RETAINING}
    types = frozenset(str(resources[name]["Type"]) for name in names)
    if stacks.status(cloud, stack) == stacks.GONE:
        return Kept(frozenset(), types)
    rows = cloud.rows("cloudformation", "list_stack_resources", "StackResourceSummaries", StackName=stack)
    return Kept(
        frozenset(str(row.get("PhysicalResourceId")) for row in rows if row["LogicalResourceId"] in names), types
    )


def problem(outcome: Outcome, *, local: bool) -> CloudError | None:
    """What is wrong with an outcome: something is left, or a service of an account did not answer; None if nothing."""
    if outcome.left:
        lines = "\n  ".join(outcome.left)
        return CloudError(
            f"{len(outcome.left)} things of the lab are still in {outcome.where}:\n  {lines}",
            "what bears the lab's name and is not made by it is yours to delete; then run lab destroy again",
        )
    if outcome.not_asked and not local:
        lines = "\n  ".join(f"{kind}: {why}" for kind, why in outcome.not_asked.items())
        return CloudError(
            f"nothing was found, but not everything could be asked in {outcome.where}:\n  {lines}",
            "let the caller list these, then run lab destroy again",
        )
    return None
