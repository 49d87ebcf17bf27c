"""Configuration arrives as a nucleus hands it over: strings, floats, unknown keys."""

from typing import Any

import pytest

from edge.settings import Settings, SettingsError, read


@pytest.mark.parametrize("value", [30, 30.0, "30", "30.0"])
def test_numbers_are_numbers_however_they_are_written(value: Any) -> None:
    settings, unknown = read({"interval_s": value, "threads": value})
    assert (settings.interval_s, settings.threads, type(settings.threads), unknown) == (30.0, 30, int, [])


def test_what_is_not_given_has_a_default_and_what_is_unknown_is_reported() -> None:
    settings, unknown = read({"prefix": "p", "accessControl": {}, "colour": "red"})
    assert (settings, unknown) == (Settings(prefix="p"), ["colour"])


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        ({"interval_s": "often"}, "interval_s is 'often'"),
        ({"interval_s": 0}, "interval_s is 0; 0.1 to 86400"),
        ({"interval_s": "nan"}, "interval_s is 'nan'; a number"),
        ({"threads": 1.5}, "whole number"),
        ({"threads": True}, "threads is True"),
        ({"prefix": "a/b"}, "one topic level"),
        ({"model_component": "../x"}, "component's name"),
        ({"poll_s": {"a": 1}}, "poll_s is"),
    ],
)
def test_a_value_that_cannot_be_used_is_named(raw: dict[str, Any], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        read(raw)
