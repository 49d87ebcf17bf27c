"""What must hold before a stack is deployed, asked of the account itself: one finding for each question.

Every check answers ok, warn, fail with the mend, or skip with the reason why it could not be asked; a fail stops the
deployment. The embedded AWS is asked the same questions, and says which it cannot answer.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from lab import definition, inventory, inventory_flow, inventory_stack, processes, stacks
from lab.assembly import BOOTSTRAP_PARAMETER, Assembly
from lab.cloud import Cloud
from lab.doctor import Finding
from lab.home import read_json
from lab.template import as_text

# The tag `latest` of the CDK's command line was an old one by accident (aws/aws-cdk #38113): this one fits the library.
CDK = "aws-cdk@2.1148.1"
SERVICES = ("cloudformation", "greengrassv2", "glue", "iot", "sagemaker", "stepfunctions")
BROKEN = {
    "ROLLBACK_FAILED": "lab destroy removes it",
    "DELETE_FAILED": "lab destroy finishes it",
    "UPDATE_ROLLBACK_FAILED": "aws cloudformation continue-update-rollback --stack-name …",
}


@dataclass(frozen=True)
class Asked:
    """What the checks look at."""

    cloud: Cloud
    assembly: Assembly

    @cached_property
    def manifest(self) -> dict[str, Any]:
        found: dict[str, Any] = read_json(self.assembly.path / "manifest.json")
        return found

    @cached_property
    def status(self) -> str:
        return stacks.status(self.cloud, self.assembly.stack)


def findings(cloud: Cloud, assembly: Assembly) -> Iterator[Finding]:
    """Each check's finding, in order; what a service answers with an error is a skip that names it."""
    from botocore.exceptions import BotoCoreError, ClientError

    asked = Asked(cloud, assembly)
    for name, check in CHECKS.items():
        try:
            state, detail, mend = check(asked)
        except (ClientError, BotoCoreError, NotImplementedError) as error:
            state, detail, mend = "skip", f"could not be asked: {inventory.reason(error)}", None
        yield Finding(name, state, detail, mend)


Answer = tuple[str, str, str | None]


def _credentials(asked: Asked) -> Answer:
    cloud, wanted = asked.cloud, (asked.assembly.settings["settings"].get("lab") or {}).get("account")
    if wanted and wanted != cloud.account and not cloud.local:
        mend = "take that account's credentials (AWS_PROFILE), or change account in lab.toml"
        return "fail", f"the credentials are of account {cloud.account}, lab.toml says {wanted}", mend
    return "ok", f"{cloud.caller} in {cloud.name}", None


def _region(asked: Asked) -> Answer:
    import boto3

    region = asked.cloud.region
    rows = asked.cloud.client("ec2").describe_regions(AllRegions=True)["Regions"]
    found = {str(row["RegionName"]): str(row.get("OptInStatus")) for row in rows}
    if found.get(region, "not-opted-in") == "not-opted-in":
        mend = f"aws account enable-region --region-name {region}, or another region in lab.toml"
        return "fail", f"{region} is not enabled in this account", mend
    session = boto3.session.Session()
    lacking = [name for name in SERVICES if region not in session.get_available_regions(name)]
    if lacking:
        return "fail", f"{region} has no {', '.join(lacking)}", "another region in lab.toml"
    return "ok", f"{region} is enabled and has {', '.join(SERVICES)}", None


def _bootstrap(asked: Asked) -> Answer:
    from botocore.exceptions import ClientError

    cloud = asked.cloud
    every = [row.get("properties") or {} for row in asked.manifest["artifacts"].values()]
    needed = max(int(row.get("requiresBootstrapStackVersion", 0)) for row in every)
    mend = f"npx {CDK} bootstrap aws://{cloud.account}/{cloud.region}"
    try:
        found = int(cloud.client("ssm").get_parameter(Name=BOOTSTRAP_PARAMETER)["Parameter"]["Value"])
    except ClientError as error:
        if error.response["Error"]["Code"] != "ParameterNotFound":
            raise
        if cloud.local:
            return "ok", "the desk makes the assets bucket itself", None
        return "fail", "the CDK's bootstrap stack is not there", mend
    if found < needed:
        return "fail", f"the CDK's bootstrap stack is version {found}, the assembly needs {needed}", mend
    return "ok", f"version {found}, {needed} is needed", None


def _command_line(asked: Asked) -> Answer:
    """Only bootstrapping needs it; `lab deploy` asks CloudFormation itself."""
    wanted, path = CDK.partition("@")[2], shutil.which("cdk")
    if path is None:
        return "ok", f"none is installed, and none is needed; to bootstrap: npx {CDK}", None
    done = processes.run([path, "--version"], cwd=asked.assembly.path, env=os.environ)
    found = (done.last_lines() or ["?"])[-1].split()[0]
    if found != wanted:
        return "warn", f"cdk is {found}; {wanted} is the one that fits the library", f"npx {CDK} instead of cdk"
    return "ok", f"cdk {found}", None


def _quotas(asked: Asked) -> Answer:
    """Instances that the template asks SageMaker for, against the account's quotas; a new account has none of many."""
    wanted = instances(asked.assembly.template)
    if not wanted:
        return "ok", "nothing in the template counts against a quota of instances", None
    cloud = asked.cloud
    rows = cloud.rows("service-quotas", "list_aws_default_service_quotas", "Quotas", ServiceCode="sagemaker")
    quotas = {str(row["QuotaName"]): (float(row["Value"]), str(row["QuotaCode"])) for row in rows}
    for row in cloud.rows("service-quotas", "list_service_quotas", "Quotas", ServiceCode="sagemaker"):
        quotas[str(row["QuotaName"])] = (float(row["Value"]), str(row["QuotaCode"]))
    short = [
        (name, count, *quotas[name]) for name, count in wanted.items() if name in quotas and quotas[name][0] < count
    ]
    if short:
        said = "; ".join(f"{name}: {has:g}, {count} are needed" for name, count, has, _ in short)
        _, count, _, code = short[0]
        ask = "aws service-quotas request-service-quota-increase --service-code sagemaker"
        return "fail", said, f"{ask} --quota-code {code} --desired-value {count}, or another instance in lab.toml"
    unknown = [name for name in wanted if name not in quotas]
    if unknown:
        return "warn", f"Service Quotas does not know: {', '.join(unknown)}", "look at the console's Service Quotas"
    return "ok", ", ".join(f"{name}: {quotas[name][0]:g}" for name in wanted), None


def instances(template: Mapping[str, Any]) -> dict[str, int]:
    """Name of a SageMaker quota, as Service Quotas spells it -> instances that one run or the endpoint takes of it."""
    found: dict[str, int] = {}

    def take(kind: Any, use: str, count: Any) -> None:
        if kind:
            name = f"{kind} for {use} usage"
            found[name] = max(found.get(name, 0), int(count or 1))

    for resource in template["Resources"].values():
        if resource["Type"] != "AWS::StepFunctions::StateMachine":
            continue
        for state in definition.of_resource(resource["Properties"])["States"].values():
            given, what = state.get("Parameters") or {}, str(state.get("Resource")).lower()
            if "createtrainingjob" in what:
                use = "spot training job" if given.get("EnableManagedSpotTraining") else "training job"
                cluster = given.get("ResourceConfig") or {}
                take(cluster.get("InstanceType"), use, cluster.get("InstanceCount"))
            elif "createprocessingjob" in what:
                cluster = given["ProcessingResources"]["ClusterConfig"]
                take(cluster.get("InstanceType"), "processing job", cluster.get("InstanceCount"))
            elif "createendpointconfig" in what:
                for variant in given["ProductionVariants"]:
                    take(variant.get("InstanceType"), "endpoint", variant.get("InitialInstanceCount"))
    return found


def _stack(asked: Asked) -> Answer:
    name, found = asked.assembly.stack, asked.status
    if found in BROKEN:
        return "fail", f"{name} is {found}", BROKEN[found]
    words = {stacks.GONE: "is new", "REVIEW_IN_PROGRESS": "was begun and is made now"}
    return "ok", f"{name} {words.get(found, f'is {found}')}", None


def _names(asked: Asked) -> Answer:
    """What stands under a name that the template gives would make the stack fail half way."""
    cloud = asked.cloud
    if asked.status not in (stacks.GONE, "REVIEW_IN_PROGRESS", "ROLLBACK_COMPLETE"):
        return "ok", "the stack has its names already", None
    wanted = given_names(asked.assembly, cloud)
    kinds = [kind for kind in (*inventory_stack.KINDS, *inventory_flow.KINDS) if kind.type]
    found = inventory.survey(cloud, inventory.scope(cloud, str(asked.assembly.settings["prefix"])), kinds)
    types = {kind.name: kind.type for kind in kinds}
    taken = [str(one) for one in found.found if (types[one.kind], one.name) in wanted]
    taken += [f"S3 bucket {name}, which is another account's" for name in _foreign(cloud, wanted)]
    if taken:
        mend = "lab destroy removes what a former deployment left (--data what it kept), or another name in lab.toml"
        return "fail", f"there are already: {', '.join(taken)}", mend
    if found.not_asked and not cloud.local:
        return "warn", f"not asked: {', '.join(found.not_asked)}", "let the caller list these"
    return "ok", f"none of {len(wanted)} names is taken", None


def given_names(assembly: Assembly, cloud: Cloud) -> set[tuple[str, str]]:
    """Type and physical name of every resource that the template names."""
    known = {"AWS::AccountId": cloud.account, "AWS::Region": cloud.region, "AWS::Partition": "aws"}
    found = set()
    for resource in assembly.template["Resources"].values():
        kind = str(resource["Type"])
        last = kind.rpartition("::")[2]
        given = resource.get("Properties") or {}
        for key, value in given.items():
            # TableName of a Table, RuleName of a TopicRule, the RoleAlias of a RoleAlias.
            if key in ("Name", last) or (key.endswith("Name") and last.endswith(key.removesuffix("Name"))):
                found.add((kind, as_text(value, lambda other: known.get(str(other.get("Ref")), "?"))))
    return found


def _foreign(cloud: Cloud, wanted: set[tuple[str, str]]) -> Iterator[str]:
    """Buckets of that name that are not ours: names of buckets are one for all accounts."""
    from botocore.exceptions import ClientError

    for kind, name in sorted(wanted):
        if kind != "AWS::S3::Bucket":
            continue
        try:
            cloud.client("s3").head_bucket(Bucket=name)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == 403:
                yield name


CHECKS: dict[str, Callable[[Asked], Answer]] = {
    "credentials": _credentials,
    "region": _region,
    "bootstrap": _bootstrap,
    "cdk": _command_line,
    "quotas": _quotas,
    "stack": _stack,
    "names": _names,
}
