"""What a real device needs to join the deployed stack, as a folder: its nucleus' configuration, two scripts, a page.

`register.sh` runs where AWS credentials are: it registers the thing in its groups and makes a claim certificate.
`join.sh` runs on the device. Nothing here holds a secret until register.sh has run.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from lab.errors import LabError
from lab.home import write_atomically
from lab.stack import Stack

ROOT_CA = "AmazonRootCA1.pem"
ROOT_CA_URL = f"https://www.amazontrust.com/repository/{ROOT_CA}"
LITE, CLASSIC = "/var/lib/greengrass", "/greengrass/v2"


def provision(stack: Stack, thing: str, group: str, out: Path) -> dict[str, Any]:
    """Writes the folder for the thing `<prefix>-…`, a member of `canary` or `fleet` beside core. Raises LabError."""
    prefix = stack["CoreGroup"].removesuffix("-core")
    name = thing if thing.startswith(f"{prefix}-") else f"{prefix}-{thing}"
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,128}", name):
        raise LabError(f"'{thing}' is no name for a thing", "letters, digits, - and _ are allowed")
    if out.exists() and any(out.iterdir()):
        raise LabError(f"{out} is not empty", "name another folder: --out FOLDER")
    facts = {
        "thing": name,
        "region": stack.engine.region,
        "alias": f"{prefix}-device",
        "policy": f"{prefix}-claim",
        "template": stack["ProvisioningTemplate"],
        "groups": " ".join([stack["CoreGroup"], stack[f"{group.title()}Group"]]),
    }
    for file, text in {
        "config-lite.yaml.in": lite(facts),
        "config-classic.yaml.in": classic(facts),
        "register.sh": register(facts),
        "join.sh": join(facts),
    }.items():
        write_atomically(out / file, text)
        if file.endswith(".sh"):
            (out / file).chmod(0o755)
    return {**facts, "folder": str(out)}


def lite(facts: dict[str, str]) -> str:
    """Nucleus lite's configuration: its endpoints and paths stay empty until it has its certificate."""
    system = {"privateKeyPath": "", "certificateFilePath": "", "rootCaPath": "", "rootPath": LITE, "thingName": ""}
    nucleus = {
        "awsRegion": facts["region"],
        "iotCredEndpoint": "",
        "iotDataEndpoint": "",
        "iotRoleAlias": facts["alias"],
        "runWithDefault": {"posixUser": "gg_component:gg_component"},
        "greengrassDataPlanePort": "8443",
    }
    joining = {
        "iotDataEndpoint": "@DATA_ENDPOINT@",
        "iotCredEndpoint": "@CREDENTIAL_ENDPOINT@",
        "rootCaPath": f"{LITE}/{ROOT_CA}",
        "claimKeyPath": f"{LITE}/claim.key",
        "claimCertPath": f"{LITE}/claim.pem",
        "templateName": facts["template"],
        "templateParams": {"ThingName": facts["thing"]},
    }
    services = {
        "aws.greengrass.NucleusLite": {"componentType": "NUCLEUS", "configuration": nucleus},
        "aws.greengrass.fleet_provisioning": {"configuration": joining},
    }
    return _yaml({"system": system, "services": services})


def classic(facts: dict[str, str]) -> str:
    """The classic nucleus' configuration, for its plug-in of fleet provisioning."""
    joining = {
        "rootPath": CLASSIC,
        "awsRegion": facts["region"],
        "iotDataEndpoint": "@DATA_ENDPOINT@",
        "iotCredentialEndpoint": "@CREDENTIAL_ENDPOINT@",
        "iotRoleAlias": facts["alias"],
        "provisioningTemplate": facts["template"],
        "claimCertificatePath": f"{CLASSIC}/claim.pem",
        "claimCertificatePrivateKeyPath": f"{CLASSIC}/claim.key",
        "rootCaPath": f"{CLASSIC}/{ROOT_CA}",
        "templateParameters": {"ThingName": facts["thing"]},
    }
    return _yaml({"services": {"aws.greengrass.FleetProvisioningByClaim": {"configuration": joining}}})


def register(facts: dict[str, str]) -> str:
    """For whoever may change the account: the thing in its groups, a claim certificate, endpoints filled in."""
    return f"""#!/bin/sh
# Registers {facts["thing"]} and makes a claim certificate for it. Needs the AWS command line, and the rights to do so.
set -eu
cd "$(dirname "$0")"
export AWS_DEFAULT_REGION={facts["region"]}
aws iot create-thing --thing-name {facts["thing"]} >/dev/null
for group in {facts["groups"]}; do
  aws iot add-thing-to-thing-group --thing-name {facts["thing"]} --thing-group-name "$group"
done
umask 077
arn=$(aws iot create-keys-and-certificate --set-as-active --certificate-pem-outfile claim.pem \\
  --private-key-outfile claim.key --query certificateArn --output text)
aws iot attach-policy --policy-name {facts["policy"]} --target "$arn"
data=$(aws iot describe-endpoint --endpoint-type iot:Data-ATS --query endpointAddress --output text)
credentials=$(aws iot describe-endpoint --endpoint-type iot:CredentialProvider --query endpointAddress --output text)
for kind in lite classic; do
  sed -e "s/@DATA_ENDPOINT@/$data/" -e "s/@CREDENTIAL_ENDPOINT@/$credentials/" \\
    "config-$kind.yaml.in" >"config-$kind.yaml"
done
curl -fsS -o {ROOT_CA} {ROOT_CA_URL}
echo "copy this folder to the device and run join.sh there; when it has joined, end the claim certificate:"
echo "  aws iot update-certificate --certificate-id ${{arn##*/}} --new-status INACTIVE"
"""


def join(facts: dict[str, str]) -> str:
    """For the device, where nucleus lite is installed already; the page in docs/ says what the classic one wants."""
    return f"""#!/bin/sh
# Joins this device as {facts["thing"]}: nucleus lite must be installed (docs/provisioning.md). Run it as root.
set -eu
cd "$(dirname "$0")"
mkdir -p /etc/greengrass {LITE}/credentials
install -m 0600 -o ggcore -g ggcore claim.key {LITE}/claim.key
install -m 0644 claim.pem {ROOT_CA} {LITE}/
install -m 0644 config-lite.yaml /etc/greengrass/config.yaml
systemctl stop greengrass-lite.target
rm -rf {LITE}/config.db /run/greengrass/iotcoredfleet
systemctl start greengrass-lite.target
fleet-provisioning
systemctl restart greengrass-lite.target
rm -f {LITE}/claim.key {LITE}/claim.pem claim.key
"""


def _yaml(value: dict[str, Any]) -> str:
    """JSON is YAML; both nuclei read it."""
    return json.dumps(value, indent=2) + "\n"
