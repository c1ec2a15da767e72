"""Topic filters as in MQTT 5, section 4.7."""

from __future__ import annotations

import pytest

from edge_sdk.transport.filters import check_filter, check_topic, matches


@pytest.mark.parametrize(
    ("topic_filter", "topic", "expected"),
    [
        ("a/b", "a/b", True),
        ("a/b", "a/c", False),
        ("a/+/c", "a/b/c", True),
        ("a/+", "a/b/c", False),
        ("a/+", "a", False),
        ("a/+", "a/", True),
        ("a/#", "a", True),
        ("a/#", "a/b/c", True),
        ("#", "a/b", True),
        ("#", "$SYS/x", False),
        ("+/x", "$SYS/x", False),
        ("$SYS/#", "$SYS/x", True),
    ],
)
def test_matching(topic_filter: str, topic: str, expected: bool) -> None:
    assert matches(topic_filter, topic) is expected


@pytest.mark.parametrize("topic_filter", ["", "a+", "a/+b", "#/a", "a#", "a/#/b", "a\0"])
def test_filters_that_make_no_sense(topic_filter: str) -> None:
    with pytest.raises(ValueError, match="filter"):
        check_filter(topic_filter)


@pytest.mark.parametrize("topic", ["", "+", "a/#", "a\0", "a" * 65536])
def test_topics_that_make_no_sense(topic: str) -> None:
    with pytest.raises(ValueError, match="topic"):
        check_topic(topic)
