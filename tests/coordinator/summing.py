"""Devices' machines against the coordinator's round machine, for tests of rounds under masks."""

from __future__ import annotations

import hashlib
from typing import Any

from coordinator.rounds import Offered, Said, Send, Stored
from coordinator.rounds import decisions as decided
from edge_sdk.adapter import Share
from edge_sdk.secure_aggregation import (
    RANDOM_BYTES,
    FromCoordinator,
    FromDevice,
    decode,
    device,
    terms_of,
)
from edge_sdk.wire import Manifest, Masking, Offer, Sum, make_manifest
from tests.coordinator.federations import Machine, joined, rules

WORDS = 5
FOUR = ("a1", "a2", "b1", "b2")
MASKING = Masking(
    epoch=0, largest_weight=64, largest_change=1.0, colluding=0.1, dropping=0.3, security_bits=40, failure_bits=20
)


class Members:
    """Devices' machines, which answer the coordinator's at once unless they are silent."""

    def __init__(self, machine: Machine, *names: str) -> None:
        self.machine = machine
        self.silent: set[str] = set()
        self.holding: set[str] = set()  # devices that hand in no vector
        self.deaf_to: type[FromCoordinator] | None = None
        self.lost: type[FromDevice] | None = None  # messages of this kind do not come
        self.states = {name: device.State() for name in names}
        self.vectors: dict[str, bytes] = {}
        self.drawn = 0

    def rules(self, name: str) -> device.Rules:
        return device.Rules(device=name, identity=name.encode().ljust(32, b"."))

    def train(self, *names: str) -> None:
        """Devices have been trained, and advertise themselves."""
        for name in names or self.states:
            start = decided.round_start(self.machine.rules, self.machine.state, name, self.machine.now)
            self.drawn += 1
            random = hashlib.shake_256(f"{name} {self.drawn}".encode()).digest(RANDOM_BYTES)
            self.step(name, device.Begin(terms_of("tastes", start, WORDS), random))

    def step(self, name: str, event: device.Event) -> None:
        self.states[name], actions = device.step(self.rules(name), self.states[name], event)
        for action in actions:
            match action:
                case device.Say(message):
                    if self.lost is None or not isinstance(message, self.lost):
                        self.hear(self.machine(Said(name, message)))
                case device.HandIn():
                    self.machine(Offered(name, self.offer(name)))
                    self.hear(self.machine(Stored(name, self.offer(name), 0.0)))
                case device.Refuse(error):
                    raise error
        if self.states[name].phase == "ready" and name not in self.silent | self.holding:
            self.step(name, device.Vector(name.encode().ljust(4 * WORDS, b".")))

    def offer(self, name: str) -> Offer:
        data, terms = self.states[name].masked, self.states[name].terms
        assert terms is not None
        return offer(terms.round, terms.attempt, make_manifest(data, role="update", name="x"))

    def hear(self, actions: list[Any]) -> None:
        for action in actions:
            if isinstance(action, Send) and isinstance(action.message, Sum) and action.device not in self.silent:
                message = decode(action.message.content)
                assert isinstance(message, FromCoordinator)
                if self.deaf_to is None or not isinstance(message, self.deaf_to):
                    self.step(action.device, message)


def opened(*names: str, **changes: Any) -> tuple[Machine, Members]:
    given = {
        "min_devices": len(names), "masking": MASKING, "words": dict.fromkeys(Share, WORDS),
        "name": "tastes", "epoch": 7, "patience": 30.0,
        **changes,
    }  # fmt: skip
    machine = Machine(rules(**given))
    machine(*(joined(name) for name in names))
    return machine, Members(machine, *names)


def stopped_at(kind: type[FromCoordinator], **changes: Any) -> tuple[Machine, Members]:
    """A sum of four devices that are trained, and deaf to this message."""
    machine, members = opened(*FOUR, **changes)
    members.deaf_to = kind
    members.train()
    return machine, members


def offer(number: int, attempt: int, manifest: Manifest) -> Offer:
    """An offer of a masked vector, which says nothing else."""
    return Offer(
        round=number, attempt=attempt, manifest=manifest, pictures=1, first_loss=0.0, last_loss=0.0, train_seconds=0.0
    )
