"""MQTT topics and the filters that select them."""

from __future__ import annotations


def matches(pattern: str, topic: str) -> bool:
    """Whether a topic filter selects a topic: `+` is one level, a closing `#` the level itself and all below."""
    levels, names = pattern.split("/"), topic.split("/")
    for index, level in enumerate(levels):
        if level == "#":
            return index == len(levels) - 1
        if index >= len(names) or level not in ("+", names[index]):
            return False
    return len(levels) == len(names)
