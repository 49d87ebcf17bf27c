"""The dated price table, and how it is brought up to date from AWS's Price List API.

Every price names its offer in the Price List, and its usage type there without the region's prefix (`USE1-`,
`us-east-1-`); `usage` null says that only the price page has it, and a refresh leaves it as it is, by name. The API is
called with the caller's credentials; it was never run against AWS from here, only against responses of its shape.
"""

from __future__ import annotations

import copy
import json
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.errors import LabError
from lab.home import Home, read_json, write_atomically

PATH = Path(__file__).with_name("prices.json")
# The Price List API answers for every region, from a few of them.
API_REGION = "us-east-1"
# What the API said of an offer, or of one family of its products: prices by usage type.
Offers = dict[tuple[str, str | None], dict[str, list[float]]]
REGION_PREFIX = re.compile(r"^(?:[A-Z]{2,3}[A-Z0-9]*\d|EU|[a-z]{2}(?:-[a-z]+)+-\d)-")


class PriceError(LabError):
    """The price table or the Price List API cannot say what is asked."""


@dataclass(frozen=True)
class Prices:
    """A price table: `document` is prices.json."""

    document: Mapping[str, Any]

    @property
    def date(self) -> str:
        return str(self.document["date"])

    @property
    def region(self) -> str:
        return str(self.document["region"])

    def usd(self, key: str) -> float:
        """The price of one unit. Raises PriceError when the table has no such price."""
        found = self._entry(key)["usd"]
        if isinstance(found, Mapping):
            raise PriceError(f"the price {key} is one for each name: {', '.join(found)}")
        return float(found)

    def of(self, key: str, name: str) -> float | None:
        """The price of one unit of `name`, such as an instance type; None when the table does not know it."""
        found = self._entry(key)["usd"].get(name)
        return None if found is None else float(found)

    def source(self, key: str) -> str:
        """The page that the price was read from."""
        return str(self.document["offers"][self._entry(key)["offer"]])

    def _entry(self, key: str) -> Mapping[str, Any]:
        try:
            entry: Mapping[str, Any] = self.document["prices"][key]
        except KeyError:
            raise PriceError(f"lab/prices.json has no price {key}", "lab/prices.py says how one is written") from None
        return entry

    def summary(self) -> dict[str, Any]:
        """Date, region, note and sources, for what is made of the prices."""
        return {key: self.document[key] for key in ("date", "region", "note")} | {"sources": self.document["offers"]}


def load(path: Path = PATH) -> Prices:
    """The table as it lies in the repository."""
    return Prices(read_json(path))


@dataclass(frozen=True)
class Change:
    """What a refresh made of one price: `before` and `now` in USD, `now` None with the reason in `why`."""

    price: str
    before: float
    now: float | None
    why: str = ""


def refreshed(table: Prices, client: Any, region: str, today: str) -> tuple[Prices, list[Change]]:
    """The table with what the Price List API says for `region`, dated `today`, and what became of each price.

    `client` is boto3's `pricing`. A price that the API does not give, or gives more than once, stays as it is. Raises
    PriceError when none was found: the table would bear a new date and no new price.
    """
    document = copy.deepcopy(dict(table.document))
    document.update(date=today, region=region)
    changes: list[Change] = []
    offers: Offers = {}
    for key, entry in document["prices"].items():
        several = isinstance(entry["usd"], dict)
        for name, before in list(entry["usd"].items()) if several else [("", entry["usd"])]:
            change = _look_up(key, entry, name, float(before), client, region, offers)
            changes.append(change)
            if change.now is not None and several:
                entry["usd"][name] = change.now
            elif change.now is not None:
                entry["usd"] = change.now
    if all(change.now is None for change in changes):
        raise PriceError(f"the Price List API gave no price for {region}; the table stays as it is", changes[0].why)
    return Prices(document), changes


def _look_up(
    key: str,
    entry: Mapping[str, Any],
    name: str,
    before: float,
    client: Any,
    region: str,
    offers: Offers,
) -> Change:
    called = f"{key} {name}".strip()
    if entry["usage"] is None:
        return Change(called, before, None, "only its price page has it")
    usage, offer = str(entry["usage"]).replace("{name}", name), str(entry["offer"])
    which = (offer, entry.get("family"))
    if which not in offers:
        offers[which] = _by_usage(client, *which, region)
    found = sorted(set(offers[which].get(usage, [])))
    if len(found) == 1:
        return Change(called, before, found[0])
    why = f"{len(found)} prices" if found else "no price"
    return Change(called, before, None, f"{offer} has {why} for {usage} in {region}")


def _by_usage(client: Any, offer: str, family: str | None, region: str) -> dict[str, list[float]]:
    """Usage type without its region's prefix -> on-demand prices in USD, each product's first that is not free."""
    found: dict[str, list[float]] = {}
    fields = {"regionCode": region, **({"productFamily": family} if family else {})}
    wanted = [{"Type": "TERM_MATCH", "Field": field, "Value": value} for field, value in fields.items()]
    for page in client.get_paginator("get_products").paginate(
        ServiceCode=offer, Filters=wanted, FormatVersion="aws_v1"
    ):
        for text in page["PriceList"]:
            product = json.loads(text) if isinstance(text, str) else text
            usage = REGION_PREFIX.sub("", str(product["product"]["attributes"].get("usagetype", "")))
            price = next(_on_demand(product), None)
            if usage and price is not None:
                found.setdefault(usage, []).append(price)
    return found


def _on_demand(product: Mapping[str, Any]) -> Iterator[float]:
    """The prices of a product, the lowest tier first; free tiers are left out, as the table says."""
    for term in (product.get("terms") or {}).get("OnDemand", {}).values():
        tiers = sorted(term["priceDimensions"].values(), key=lambda row: float(row.get("beginRange") or 0))
        yield from (price for tier in tiers if (price := float(tier["pricePerUnit"].get("USD", 0))) > 0)


def refresh(home: Home) -> list[Change]:
    """Asks the API for the region of lab.toml and writes lab/prices.json. Raises PriceError without credentials."""
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        client = boto3.session.Session().client("pricing", region_name=API_REGION)
        table, changes = refreshed(load(), client, home.region(), time.strftime("%Y-%m-%d"))
    except (BotoCoreError, ClientError) as error:
        hint = "it needs credentials that may pricing:GetProducts; without, the table of the repository stands"
        raise PriceError(f"the Price List API could not be asked: {error}", hint) from None
    write_atomically(PATH, json.dumps(table.document, indent=1) + "\n")
    return changes
