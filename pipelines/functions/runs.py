"""The rows of the run table, one per claimed input, marked with what became of it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any


class RowMissing(Exception):
    """The table has no such row, or another run holds it now."""


def mark(dynamodb: Any, table: str, claim: str, *, status: str, run: str = "", **values: str) -> None:
    """Sets the row's status and values. With `run`, only while that run holds the row. Raises RowMissing."""
    attributes = {"status": status, "updated": datetime.now(UTC).isoformat(timespec="milliseconds"), **values}
    names = {f"#{name}": name for name in attributes}
    texts = {f":{name}": {"S": value} for name, value in attributes.items()}
    condition = "attribute_exists(#claim)"
    names["#claim"] = "claim"
    if run:
        condition += " AND #run = :run"
        names["#run"] = "run"
        texts[":run"] = {"S": run}
    try:
        dynamodb.update_item(
            TableName=table,
            Key={"claim": {"S": claim}},
            UpdateExpression="SET " + ", ".join(f"#{name} = :{name}" for name in attributes),
            ConditionExpression=condition,
            ExpressionAttributeNames=names,
            ExpressionAttributeValues=texts,
        )
    except dynamodb.exceptions.ConditionalCheckFailedException as error:
        holder = f" that run {run} holds" if run else ""
        raise RowMissing(f"table {table} has no row {claim}{holder}") from error


def claim_of(dynamodb: Any, table: str, run: str, package: str = "") -> str:
    """The key of a run's row or, where another run holds that now, of one that has the run's model package.

    The table holds one small row per run, so it is read through. Raises RowMissing.
    """
    pages = dynamodb.get_paginator("scan").paginate(
        TableName=table,
        FilterExpression="#run = :run OR #package = :package",
        ProjectionExpression="#claim, #run",
        ExpressionAttributeNames={"#run": "run", "#package": "model_package", "#claim": "claim"},
        ExpressionAttributeValues={":run": {"S": run}, ":package": {"S": package or "-"}},
    )
    found = [item for page in pages for item in page["Items"]]
    if not found:
        raise RowMissing(f"table {table} has no row of run {run}")
    own = next((item for item in found if item["run"]["S"] == run), found[0])
    return str(own["claim"]["S"])
