"""MQTT topics of protocol version 1. The layout is documented in docs/protocol.md."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from edge_sdk.errors import MessageInvalid

ROOT = "impasto/1"
Direction = Literal["up", "down"]
# One topic level that is safe in ACL patterns and file names. Excludes the wildcards and the separator.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def check_name(name: str) -> str:
    """Return `name` if it can stand as one topic level; raise MessageInvalid otherwise."""
    if not NAME.fullmatch(name):
        raise MessageInvalid(f"{name[:100]!r} is no valid name: use 1 to 64 letters, digits, '.', '_' or '-'.")
    return name


@dataclass(frozen=True)
class Topics:
    """The topics of one federation."""

    federation: str

    def __post_init__(self) -> None:
        check_name(self.federation)

    @property
    def coordinator_state(self) -> str:
        """Retained: a CoordinatorState, also the coordinator's will."""
        return f"{ROOT}/{self.federation}/coordinator/state"

    def presence(self, device: str) -> str:
        """Retained: a Presence, also the device's will."""
        return f"{ROOT}/{self.federation}/dev/{check_name(device)}/state"

    def control(self, device: str, direction: Direction) -> str:
        """Messages between a device and the coordinator."""
        return f"{ROOT}/{self.federation}/dev/{check_name(device)}/{direction}/control"

    def chunks(self, device: str, direction: Direction) -> str:
        """Chunks of transfers between a device and the coordinator."""
        return f"{ROOT}/{self.federation}/dev/{check_name(device)}/{direction}/chunk"

    @property
    def all_presence(self) -> str:
        return f"{ROOT}/{self.federation}/dev/+/state"

    @property
    def all_up(self) -> str:
        """Everything that devices send: control and chunks."""
        return f"{ROOT}/{self.federation}/dev/+/up/+"

    def all_down(self, device: str) -> str:
        """Everything that the coordinator sends to one device."""
        return f"{ROOT}/{self.federation}/dev/{check_name(device)}/down/+"

    def device_of(self, topic: str) -> str:
        """The device that a topic names; raises MessageInvalid for a topic that is not of a device."""
        levels = topic.split("/")
        prefix = [*ROOT.split("/"), self.federation, "dev"]
        if len(levels) < len(prefix) + 2 or levels[: len(prefix)] != prefix:
            raise MessageInvalid(f"{topic[:200]!r} is not a device's topic of federation {self.federation!r}.")
        return check_name(levels[len(prefix)])
