"""Client ids that nobody guesses and every broker takes."""

from __future__ import annotations

import re

import pytest

from edge_sdk.transport import fresh_id


@pytest.mark.parametrize("name", ["", "pi-4", "a", "x" * 64, "..--__", "stickers.device-12"])
def test_every_session_has_its_own(name: str) -> None:
    made = {fresh_id(name) for _ in range(100)}
    assert len(made) == 100
    for client_id in made:
        assert re.fullmatch("[A-Za-z0-9]{16,23}", client_id), "what MQTT obliges every broker to take"


def test_those_who_read_the_brokers_log_know_whose_it_is() -> None:
    assert fresh_id("pi-4").startswith("pi4")
    assert fresh_id("coordinator").startswith("coordin")


def test_names_that_could_be_mistaken_for_each_other_are_not() -> None:
    """An id made of names alone would mistake "a" in "b.c" for "a.b" in "c"."""
    assert len({fresh_id(name) for name in ("a.b", "ab", "a-b") * 50}) == 150
