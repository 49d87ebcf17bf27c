"""What an account holds of a lab: a table of kinds, each found by name, and the tag index for all the rest.

A kind with `remove` is something that the flow makes outside the template, or that holds what the template's resources
hold (objects, images, log events): `lab destroy` removes it. The others belong to the stack, which removes them; when
one is still there afterwards it is named.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from lab.cloud import Cloud

TAG = "lab"


@dataclass(frozen=True)
class Scope:
    """Whose things: the lab's prefix, less what begins with the name of another stack that extends it."""

    prefix: str
    others: tuple[str, ...] = ()

    def owns(self, name: str) -> bool:
        """Whether a name, or a part of it between slashes and colons, is the lab's."""
        parts = [part.replace("_", "-") for part in re.split(r"[/:]", name)]
        return any(
            _begins(part, self.prefix) and not any(_begins(part, other) for other in self.others) for part in parts
        )


def _begins(part: str, prefix: str) -> bool:
    return part == prefix or part.startswith((f"{prefix}-", f"{prefix}."))


def scope(cloud: Cloud, prefix: str) -> Scope:
    """The scope of a prefix: `ml-lab-dev` does not own what is `ml-lab-dev-two`'s when that is a stack, too."""
    stacks = [str(row["StackName"]) for row in cloud.rows("cloudformation", "describe_stacks", "Stacks")]
    return Scope(prefix, tuple(name for name in stacks if name.startswith(f"{prefix}-")))


@dataclass(frozen=True)
class Found:
    """One thing that is there: its kind, its name for people, what its kind's `remove` takes."""

    kind: str
    name: str
    id: Any = None

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


Finder = Callable[[Cloud, Scope], Iterable[Found]]


@dataclass(frozen=True)
class Kind:
    """A kind of thing. `type` is its CloudFormation type, where the template may hold it.

    `late` is what the stack on its way out still needs, or writes to.
    """

    name: str
    find: Finder
    remove: Callable[[Cloud, Found], Any] | None = None
    type: str = ""
    late: bool = False


@dataclass
class Survey:
    """What was found, and what could not be asked, by kind with the reason."""

    found: list[Found] = field(default_factory=list)
    not_asked: dict[str, str] = field(default_factory=dict)

    def of(self, kinds: Sequence[Kind]) -> list[Found]:
        names = {kind.name for kind in kinds}
        return [one for one in self.found if one.kind in names]


def survey(cloud: Cloud, whose: Scope, kinds: Sequence[Kind]) -> Survey:
    """Asks for every kind. A service that refuses to answer is noted and the others are asked all the same."""
    from botocore.exceptions import BotoCoreError, ClientError

    whole = Survey()
    for kind in kinds:
        try:
            whole.found += sorted(set(kind.find(cloud, whose)), key=str)
        except (ClientError, BotoCoreError, NotImplementedError) as error:
            whole.not_asked[kind.name] = reason(error)
    return whole


def reason(error: Exception) -> str:
    """One line: the service's code and message."""
    response = getattr(error, "response", None)
    if not response:
        return str(error).splitlines()[0][:200]
    said = str(response["Error"].get("Message") or "").strip()
    if response["ResponseMetadata"]["HTTPStatusCode"] >= 500 or said.startswith("<"):
        return "the service does not know this call"
    return f"{response['Error'].get('Code')}: {said.splitlines()[0][:200] if said else 'no message'}"


def tagged(cloud: Cloud, whose: Scope) -> Iterator[Found]:
    """Everything that bears the lab's tag, by ARN, whatever it is called."""
    wanted = [{"Key": TAG, "Values": [whose.prefix]}]
    for row in cloud.rows("resourcegroupstaggingapi", "get_resources", "ResourceTagMappingList", TagFilters=wanted):
        yield Found("tagged resource", str(row["ResourceARN"]), str(row["ResourceARN"]))


TAGGED = Kind("tagged resource", tagged)


def stack_ids(cloud: Cloud, stack: str) -> set[str]:
    """Physical ids of a stack's resources, and the last part of each; empty when there is no such stack."""
    from botocore.exceptions import ClientError

    try:
        rows = list(cloud.rows("cloudformation", "list_stack_resources", "StackResourceSummaries", StackName=stack))
    except ClientError:
        return set()
    ids = {str(row.get("PhysicalResourceId") or "") for row in rows} - {""}
    return ids | {re.split(r"[/]", one)[-1] for one in ids} | {one.rpartition(":")[2] for one in ids}
