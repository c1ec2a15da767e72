"""Devices that a test plays, message by message, and the federation file of a coordinator for them."""

from __future__ import annotations

import queue
from pathlib import Path
from typing import Any

from edge_sdk.adapter import Adapter, to_bytes
from edge_sdk.transport import DEFAULT_MAX_PAYLOAD, Settings, create
from edge_sdk.wire.messages import Join, Offer, Pull, SignedStep, decode, decode_step, encode
from edge_sdk.wire.topics import Topics
from edge_sdk.wire.transfer import Sender, make_manifest
from tests.integration.coordinators import write_federation
from tests.integration.devices import profile

TOPICS = Topics("tastes")
DEADLINE = 60


class Devices:
    """Plays any number of devices."""

    def __init__(self, url: str, max_payload: int = DEFAULT_MAX_PAYLOAD) -> None:
        self.transport = create(Settings(url=url, client_id="devices", max_payload=max_payload))
        self.transport.connect(5)
        self.heard: queue.Queue[tuple[str, Any]] = queue.Queue()
        self.said: list[tuple[str, Any]] = []  # to devices, whether it was waited for or not
        self.states: queue.Queue[Any] = queue.Queue()
        self._senders: dict[str, Sender] = {}
        self.transport.subscribe("impasto/1/tastes/dev/+/down/control", self._arrived)
        self.transport.subscribe(TOPICS.coordinator_state, lambda _, data: self.states.put(decode(data)))

    def say(self, device: str, message: Any) -> None:
        self.transport.publish(TOPICS.control(device, "up"), encode(message))

    def join(self, *devices: str) -> None:
        """Say Join for each of these devices, whose tastes are alike."""
        for number, device in enumerate(devices):
            self.say(device, Join(profile=profile("apples", number)))

    def hear(self, kind: type, devices: set[str]) -> list[Any]:
        """One message of a kind for each of these devices, in the order of arrival; others are skipped."""
        found: dict[str, Any] = {}
        while set(found) != devices:
            device, message = self.heard.get(timeout=DEADLINE)
            if isinstance(message, kind) and device in devices:
                found.setdefault(device, message)
        return list(found.values())

    def offer(self, device: str, adapter: Adapter, *, serve: bool = True, attempt: int = 1) -> Offer:
        data = to_bytes(adapter)
        manifest = make_manifest(data, role="update", name="update")
        if serve:
            self._senders[manifest.sha256] = Sender(data, manifest)
        offer = Offer(
            round=1, attempt=attempt, manifest=manifest, pictures=10, first_loss=1.0, last_loss=0.5, train_seconds=1.0
        )
        self.say(device, offer)
        return offer

    def _arrived(self, topic: str, payload: bytes) -> None:
        device, message = TOPICS.device_of(topic), decode(payload)
        if isinstance(message, SignedStep):
            message = decode_step(message.step)
        self.said.append((device, message))
        self.heard.put((device, message))
        if isinstance(message, Pull) and message.sha256 in self._senders:
            for chunk in self._senders[message.sha256].on_pull(message):
                self.transport.publish(TOPICS.chunks(device, "up"), chunk)


def federation(folder: Path, url: str, devices: int) -> Path:
    return write_federation(folder, url, rounds=2, devices=devices)
