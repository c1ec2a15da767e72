"""MQTT topics and topic filters: validity and matching (MQTT 5, section 4.7)."""

from __future__ import annotations

from functools import lru_cache

from paho.mqtt.client import topic_matches_sub

_MAX_BYTES = 65535


@lru_cache(maxsize=4096)  # asked for every message, and paho builds a tree for each answer
def matches(topic_filter: str, topic: str) -> bool:
    """True if a valid filter matches a valid topic."""
    return bool(topic_matches_sub(topic_filter, topic))


def check_topic(topic: str) -> str:
    """Return `topic` if messages can be published on it; raise ValueError otherwise."""
    if not topic or len(topic.encode()) > _MAX_BYTES or any(character in topic for character in "+#\0"):
        raise ValueError(f"{topic[:100]!r} is no topic: it must not be empty, too long, or hold '+', '#' or NUL.")
    return topic


def check_filter(topic_filter: str) -> str:
    """Return `topic_filter` if it can be subscribed to; raise ValueError otherwise."""
    levels = topic_filter.split("/")
    misplaced = any(("+" in level and level != "+") or ("#" in level and level != "#") for level in levels)
    if (
        not topic_filter
        or len(topic_filter.encode()) > _MAX_BYTES
        or "\0" in topic_filter
        or misplaced
        or "#" in levels[:-1]
    ):
        raise ValueError(f"{topic_filter[:100]!r} is no topic filter: '+' takes one whole level, '#' the last ones.")
    return topic_filter
