"""Reading back: what was asked for must be there, however a service spells it."""

from typing import Any

import pytest

from lab.engine import Engine
from lab.resource import Kind, Made, NotKept, Site, check_kept, missing, pairs


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({"Status": "Enabled"}, {"status": "Enabled", "more": 1}),
        ({"Rules": [{"Id": "a"}, {"Id": "b"}]}, {"Rules": [{"Id": "b"}, {"Id": "a"}]}),
        ({"Days": "30", "On": True}, {"Days": 30, "On": "true"}),
        ({"Policy": {"Version": "1"}}, {"Policy": '{"Version": "1", "Statement": []}'}),
        ({"Policy": {"Version": "1"}}, {"Policy": "%7B%22Version%22%3A%20%221%22%7D"}),
        ({"Threshold": 80}, {"Threshold": 80.0}),
    ],
)
def test_the_same_thing_in_a_services_own_spelling_is_kept(wanted: Any, found: Any) -> None:
    assert missing(found, wanted) is None


@pytest.mark.parametrize(
    ("wanted", "found", "said"),
    [
        ({"Versioning": {"Status": "Enabled"}}, {"Versioning": {}}, "Versioning.Status should be"),
        ({"Versioning": {"Status": "Enabled"}}, {"Versioning": {"Status": "Suspended"}}, 'reads back as "Suspended"'),
        ({"Rules": [{"Id": "a"}]}, {"Rules": []}, "Rules should be"),
        ({"Rules": [{"Id": "a"}]}, {"Rules": [{"Id": "b"}]}, "Rules[0] should be"),
        ({"Key": "k"}, {"Key": None}, "reads back as null"),
    ],
)
def test_what_did_not_stick_is_named_with_both_values(wanted: Any, found: Any, said: str) -> None:
    difference = missing(found, wanted)
    assert difference is not None and said in difference


def test_a_property_that_a_service_drops_is_an_error_unless_it_is_declared_without_effect(desk: Engine) -> None:
    def kind(**more: Any) -> Kind:
        return Kind("T", frozenset({"A", "B"}), lambda site, p: "id", lambda made: {"A": 1}, lambda made: None, **more)

    made = Made(Site(desk, "stack", "Thing"), "id", {"A": 1, "B": 2})
    with pytest.raises(NotKept, match="B should be 2"):
        check_kept(kind(), made)
    check_kept(kind(inert={"B": "why"}), made)


def test_a_resource_without_a_name_is_called_the_same_on_every_deployment(desk: Engine) -> None:
    site = Site(desk, "a-stack-with-a-long-name", "AndALongLogicalIdentifierToGoWithItToo")
    assert site.named() == Site(desk, site.stack, site.logical).named() and len(site.named()) == 64
    assert site.named() != Site(desk, "another", site.logical).named()


def test_tags_come_as_pairs_or_as_a_mapping() -> None:
    assert pairs([{"Key": "a", "Value": "b"}]) == pairs({"a": "b"}) == {"a": "b"}
    assert pairs(None) == {}
