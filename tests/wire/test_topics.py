"""The topic layout, and names that could break out of it."""

from __future__ import annotations

import pytest

from edge_sdk.errors import MessageInvalid
from edge_sdk.wire.topics import Topics, check_name

TOPICS = Topics("stickers")


def test_the_layout() -> None:
    assert TOPICS.coordinator_state == "impasto/1/stickers/coordinator/state"
    assert TOPICS.presence("pi-4") == "impasto/1/stickers/dev/pi-4/state"
    assert TOPICS.control("pi-4", "up") == "impasto/1/stickers/dev/pi-4/up/control"
    assert TOPICS.chunks("pi-4", "down") == "impasto/1/stickers/dev/pi-4/down/chunk"
    assert TOPICS.all_presence == "impasto/1/stickers/dev/+/state"
    assert TOPICS.all_up == "impasto/1/stickers/dev/+/up/+"
    assert TOPICS.all_down("pi-4") == "impasto/1/stickers/dev/pi-4/down/+"


def test_topics_stay_within_the_limits_of_hosted_brokers() -> None:
    longest = Topics("f" * 64).control("d" * 64, "down")
    assert len(longest) <= 256
    assert longest.count("/") <= 7


@pytest.mark.parametrize("name", ["", "a/b", "+", "#", "a b", ".a", "-a", "ä", "a" * 65, "a\n", "a\x00", "$SYS"])
def test_names_that_could_break_out_of_their_level_are_refused(name: str) -> None:
    for use in (check_name, Topics, TOPICS.presence, TOPICS.all_down):
        with pytest.raises(MessageInvalid):
            use(name)


@pytest.mark.parametrize(
    "topic", [TOPICS.presence("pi-4"), TOPICS.control("pi-4", "up"), TOPICS.chunks("pi-4", "down")]
)
def test_the_device_of_a_topic(topic: str) -> None:
    assert TOPICS.device_of(topic) == "pi-4"


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "impasto/1/stickers/dev/pi-4",
        "impasto/1/other/dev/pi-4/state",
        "impasto/2/stickers/dev/pi-4/state",
        TOPICS.coordinator_state,
        "impasto/1/stickers/dev//state",
    ],
)
def test_topics_of_no_device_are_refused(topic: str) -> None:
    with pytest.raises(MessageInvalid):
        TOPICS.device_of(topic)
