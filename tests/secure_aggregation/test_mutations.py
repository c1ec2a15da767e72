"""Messages that are damaged at random, at every moment of an attempt: they are refused by name, whatever they are."""

from __future__ import annotations

import random

import pytest

from coordinator import secure_aggregation as server
from edge_sdk.errors import ImpastoError, MessageInvalid
from edge_sdk.secure_aggregation import FromCoordinator, FromDevice, decode, device, encode
from tests.fuzz.mutation import mutate
from tests.secure_aggregation.world import World, identity, terms

NAMES = [f"d{number}" for number in range(5)]
TIMES = 60


def recorded() -> tuple[list[tuple[str, device.State, bytes]], list[tuple[str, server.State, bytes]]]:
    """All messages of an attempt with their receivers' states before them: to devices, to the coordinator."""
    world = World(NAMES, terms())
    down: list[tuple[str, device.State, bytes]] = []
    up: list[tuple[str, server.State, bytes]] = []

    def to_device(name: str, message: FromCoordinator) -> FromCoordinator:
        down.append((name, world.members[name].state, encode(message)))
        return message

    def to_coordinator(name: str, message: FromDevice) -> FromDevice:
        up.append((name, world.state, encode(message)))
        return message

    world.tamper, world.tamper_up = to_device, to_coordinator
    world.begin()
    world.upload()
    assert world.state.phase == "done"
    assert len(down) == 5 * 4
    assert len(up) == 5 * 5
    return down, up


@pytest.mark.parametrize("seed", range(3))
def test_devices_refuse_damaged_messages(seed: int) -> None:
    drawn, refused = random.Random(seed), 0
    for name, state, data in recorded()[0]:
        rules = device.Rules(device=name, identity=identity(name))
        for _ in range(TIMES):
            try:
                message = decode(mutate(data, drawn))
            except MessageInvalid:
                continue
            if isinstance(message, FromCoordinator) and encode(message) != data:
                after, actions = device.step(rules, state, message)
                for action in actions:
                    if isinstance(action, device.Refuse):
                        assert isinstance(action.error, ImpastoError)
                        assert after == state
                        refused += 1
    assert refused > 20


@pytest.mark.parametrize("seed", range(3))
def test_the_coordinator_refuses_damaged_messages(seed: int) -> None:
    drawn, refused = random.Random(seed), 0
    for name, state, data in recorded()[1]:
        for _ in range(TIMES):
            try:
                message = decode(mutate(data, drawn))
            except MessageInvalid:
                continue
            if isinstance(message, FromDevice) and encode(message) != data:
                after, actions = server.step(state, server.Heard(name, message))
                for action in actions:
                    if isinstance(action, server.Refuse):
                        assert isinstance(action.error, ImpastoError)
                        assert after == state
                        refused += 1
    assert refused > 20
