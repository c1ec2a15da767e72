"""A coordinator that changes what one device hears, for tests of what is refused."""

from __future__ import annotations

from collections.abc import Callable

from edge_sdk.errors import (
    ImpastoError,
)
from edge_sdk.secure_aggregation import (
    FromCoordinator,
    UnmaskRequest,
    device,
)
from tests.secure_aggregation.world import World, terms

NAMES = [f"d{number}" for number in range(6)]
VICTIM = "d2"


def tampered(change: Callable[[FromCoordinator], FromCoordinator]) -> World:
    """A world in which the victim hears changed messages, up to where it waits for a true one."""
    world = World(NAMES, terms())
    world.tamper = lambda name, message: change(message) if name == VICTIM else message
    world.begin()
    world.upload()
    return world


def refusal(world: World) -> tuple[ImpastoError, device.State]:
    """The one refusal of the victim, and its state."""
    member = world.members[VICTIM]
    (error,) = member.refused
    return error, member.state


def kept_from_all(world: World) -> dict[str, UnmaskRequest]:
    """Let nobody hear an unmask request; what was meant for each device comes into the answer."""
    requests: dict[str, UnmaskRequest] = {}

    def keep(name: str, message: FromCoordinator) -> FromCoordinator | None:
        if not isinstance(message, UnmaskRequest):
            return message
        requests[name] = message
        return None

    world.tamper = keep
    return requests


def masked() -> tuple[World, UnmaskRequest]:
    """A world in which all have handed in, and nobody has heard an unmask request; and that of the victim."""
    world = World(NAMES, terms())
    requests = kept_from_all(world)
    world.begin()
    world.upload()
    world.tamper = lambda _, message: message
    assert world.state.phase == "consenting"
    return world, requests[VICTIM]
