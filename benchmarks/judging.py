"""What it costs that the desk judges a call by the policies of its role: HeadObject with a role's session, and without.

    lab up; eval "$(lab env)"; python -m benchmarks.judging

The two alternate, each first in every other pair; medians of the wall clock in milliseconds. The lab's own keys are an
administrator's, whom nothing judges.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from typing import Any

import boto3

from lab import bench

PAIRS, WARM = 600, 50
KEY = "raw/digits/benchmark.txt"


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the record as one line of JSON."""
    argparse.ArgumentParser(prog="python -m benchmarks.judging", description=__doc__).parse_args(argv)
    admin = boto3.client("s3")
    bucket = next(row["Name"] for row in admin.list_buckets()["Buckets"] if "-data-" in row["Name"])
    admin.put_object(Bucket=bucket, Key=KEY, Body=b"judged")
    times = _timed({"admin_ms": admin, "role_ms": _session("Etl").client("s3")}, bucket)
    admin.delete_object(Bucket=bucket, Key=KEY)
    row = {"case": "head-object", "pairs": PAIRS - WARM, **times}
    print(json.dumps(bench.document("judging", [row])))  # noqa: T201 - the record goes to stdout
    return 0


def _timed(clients: dict[str, Any], bucket: str) -> dict[str, float]:
    found: dict[str, list[float]] = {name: [] for name in clients}
    for pair in range(PAIRS):
        for name in sorted(clients, reverse=bool(pair % 2)):
            began = time.perf_counter()
            clients[name].head_object(Bucket=bucket, Key=KEY)
            found[name].append((time.perf_counter() - began) * 1000)
    return {name: round(statistics.median(each[WARM:]), 3) for name, each in found.items()}


def _session(word: str) -> boto3.Session:
    """A session of the one role whose name has the word."""
    pages = boto3.client("iam").get_paginator("list_roles").paginate()
    role = next(row["Arn"] for page in pages for row in page["Roles"] if word in row["RoleName"])
    given = boto3.client("sts").assume_role(RoleArn=role, RoleSessionName="benchmark")["Credentials"]
    return boto3.Session(given["AccessKeyId"], given["SecretAccessKey"], given["SessionToken"])


if __name__ == "__main__":
    sys.exit(main())
