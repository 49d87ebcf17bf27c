"""The price table, and its refresh against responses of the shape that the Price List API has."""

import json
import re
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber

from lab import prices
from lab.prices import PriceError, Prices

TODAY = "2027-02-03"


def table(**entries: Any) -> Prices:
    offers = {"AmazonSageMaker": "https://aws.amazon.com/sagemaker/ai/pricing/", "awskms": "https://x"}
    return Prices({"date": "2026-11-22", "region": "us-east-1", "note": "n", "offers": offers, "prices": entries})


def product(usage: str, *tiers: tuple[str, str]) -> str:
    """One element of GetProducts' PriceList: a JSON document as text, with tiers of (beginRange, USD)."""
    dimensions = {
        f"SKU.JRTCKXETXF.{number}": {
            "unit": "Hrs",
            "beginRange": begin,
            "endRange": "Inf",
            "pricePerUnit": {"USD": usd},
            "appliesTo": [],
            "rateCode": f"SKU.JRTCKXETXF.{number}",
            "description": usage,
        }
        for number, (begin, usd) in enumerate(tiers)
    }
    term = {"priceDimensions": dimensions, "sku": "SKU", "offerTermCode": "JRTCKXETXF", "termAttributes": {}}
    return json.dumps(
        {
            "product": {"productFamily": "ML Instance", "attributes": {"usagetype": usage}, "sku": "SKU"},
            "serviceCode": "AmazonSageMaker",
            "terms": {"OnDemand": {"SKU.JRTCKXETXF": term}},
            "version": "20270101000000",
            "publicationDate": "2027-01-01T00:00:00Z",
        }
    )


def answering(*pages: list[str]) -> Any:
    """A pricing client whose get_products answers with these pages, in order; botocore checks their shape."""
    client = boto3.client("pricing", region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x")
    stub = Stubber(client)
    for page in pages:
        stub.add_response("get_products", {"FormatVersion": "aws_v1", "PriceList": page})
    stub.activate()
    return client


INSTANCE = {"offer": "AmazonSageMaker", "usage": "Host:{name}", "unit": "hour", "usd": {"ml.m5.large": 0.115}}


def test_a_price_is_found_by_its_usage_type_in_whatever_region() -> None:
    client = answering([product("EUC1-Host:ml.m5.large", ("0", "0.1380000000")), product("EUC1-Train:ml.m5.large")])
    found, changes = prices.refreshed(table(instance_hour=INSTANCE), client, "eu-central-1", TODAY)
    assert found.of("instance_hour", "ml.m5.large") == 0.138
    assert (found.date, found.region) == (TODAY, "eu-central-1")
    assert [(change.before, change.now) for change in changes] == [(0.115, 0.138)]


def test_a_free_tier_is_passed_over_and_of_the_others_the_lowest_taken() -> None:
    key = {"offer": "awskms", "usage": "KMS-Keys", "unit": "key-month", "usd": 9.0}
    client = answering([product("us-east-1-KMS-Keys", ("100", "0.5"), ("0", "0.0"), ("10", "1.0"))])
    found, _ = prices.refreshed(table(kms_key_month=key), client, "us-east-1", TODAY)
    assert found.usd("kms_key_month") == 1.0


def test_what_the_api_does_not_know_or_knows_twice_stays_as_it_is_and_says_so() -> None:
    two = {**INSTANCE, "usd": {"ml.m5.large": 0.115, "ml.c5.large": 0.102, "ml.m5.xlarge": 0.2}}
    page = [
        product("USE1-Host:ml.m5.large", ("0", "0.2")),
        product("USE1-Host:ml.m5.large", ("0", "0.3")),
        product("USE1-Host:ml.m5.xlarge", ("0", "0.23")),
    ]
    found, changes = prices.refreshed(table(instance_hour=two), answering(page), "us-east-1", TODAY)
    kept = {change.price: change.why for change in changes if change.now is None}
    assert "2 prices" in kept["instance_hour ml.m5.large"] and "no price" in kept["instance_hour ml.c5.large"]
    assert found.of("instance_hour", "ml.m5.large") == 0.115 and found.of("instance_hour", "ml.m5.xlarge") == 0.23


def test_a_refresh_that_found_nothing_does_not_date_the_table_anew() -> None:
    with pytest.raises(PriceError, match="no price for eu-west-9"):
        prices.refreshed(table(instance_hour=INSTANCE), answering([]), "eu-west-9", TODAY)


def test_every_price_of_the_repository_names_its_source_and_the_day() -> None:
    found = prices.load()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", found.date)
    for key, entry in found.document["prices"].items():
        assert found.source(key).startswith("https://aws.amazon.com/"), key
        assert entry["unit"] and "usage" in entry, key


def test_a_price_that_the_table_lacks_is_an_error_and_not_zero() -> None:
    with pytest.raises(PriceError, match="no price flux_hour"):
        prices.load().usd("flux_hour")
