"""MQTT topics of protocol version 1. The layout is documented in docs/protocol.md."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from edge_sdk.errors import MessageInvalid

ROOT = "impasto/1"
Direction = Literal["up", "down"]
# One topic level that is safe in ACL patterns and file names, without wildcards and separators.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def check_name(name: str) -> str:
    """Return `name` if it can stand as one topic level; raise MessageInvalid otherwise."""
    if not NAME.fullmatch(name):
        raise MessageInvalid(f"{name[:100]!r} is no valid name: use 1 to 64 letters, digits, '.', '_' or '-'.")
    return name


@dataclass(frozen=True)
class Topics:
    """Topics of one federation."""

    federation: str

    def __post_init__(self) -> None:
        check_name(self.federation)

    @property
    def coordinator_state(self) -> str:
        """Topic of the coordinator's retained CoordinatorState, and of its will."""
        return f"{ROOT}/{self.federation}/coordinator/state"

    def presence(self, device: str) -> str:
        """Topic of a device's retained Presence, and of its will."""
        return f"{ROOT}/{self.federation}/dev/{check_name(device)}/state"

    def control(self, device: str, direction: Direction) -> str:
        """Topic of the messages between a device and the coordinator, one for each direction."""
        return f"{ROOT}/{self.federation}/dev/{check_name(device)}/{direction}/control"

    def chunks(self, device: str, direction: Direction) -> str:
        """Topic of the chunks between a device and the coordinator, one for each direction."""
        return f"{ROOT}/{self.federation}/dev/{check_name(device)}/{direction}/chunk"

    @property
    def all_presence(self) -> str:
        return f"{ROOT}/{self.federation}/dev/+/state"

    @property
    def all_up(self) -> str:
        """Topic filter for everything that devices send: control and chunks."""
        return f"{ROOT}/{self.federation}/dev/+/up/+"

    def all_down(self, device: str) -> str:
        """Topic filter for everything that the coordinator sends to one device."""
        return f"{ROOT}/{self.federation}/dev/{check_name(device)}/down/+"

    def helper_state(self, helper: str) -> str:
        """Topic of a helper's retained HelperState, and of its will."""
        return f"{ROOT}/{self.federation}/assist/{check_name(helper)}/state"

    @property
    def all_helper_states(self) -> str:
        return f"{ROOT}/{self.federation}/assist/+/state"

    def assist(self, helper: str, device: str, direction: Direction) -> str:
        """Topic of the messages between a device and a helper, one for each direction."""
        return f"{ROOT}/{self.federation}/assist/{check_name(helper)}/{check_name(device)}/{direction}/control"

    def assist_chunks(self, helper: str, device: str, direction: Direction) -> str:
        """Topic of the chunks between a device and a helper, one for each direction."""
        return f"{ROOT}/{self.federation}/assist/{check_name(helper)}/{check_name(device)}/{direction}/chunk"

    def all_assist_up(self, helper: str) -> str:
        """Topic filter for everything that devices send to a helper."""
        return f"{ROOT}/{self.federation}/assist/{check_name(helper)}/+/up/+"

    def all_assist_down(self, device: str) -> str:
        """Topic filter for everything that helpers send to one device."""
        return f"{ROOT}/{self.federation}/assist/+/{check_name(device)}/down/+"

    def helper_of(self, topic: str) -> str:
        """Name of the helper in a topic; raises MessageInvalid if the topic is not a helper's."""
        return self._named(topic, "assist", 2, "helper")

    def asker_of(self, topic: str) -> str:
        """Name of the device in a topic of a helper; raises MessageInvalid if there is none."""
        self._named(topic, "assist", 4, "helper")
        return check_name(topic.split("/")[len(ROOT.split("/")) + 3])

    def device_of(self, topic: str) -> str:
        """Name of the device in a topic; raises MessageInvalid if the topic is not a device's."""
        return self._named(topic, "dev", 2, "device")

    def _named(self, topic: str, kind: str, below: int, whose: str) -> str:
        """The level behind `kind`, which has at least `below` levels with it."""
        levels = topic.split("/")
        prefix = [*ROOT.split("/"), self.federation, kind]
        if len(levels) < len(prefix) + below or levels[: len(prefix)] != prefix:
            raise MessageInvalid(f"{topic[:200]!r} is not a {whose}'s topic of federation {self.federation!r}.")
        return check_name(levels[len(prefix)])
