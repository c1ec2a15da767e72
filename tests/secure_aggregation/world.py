"""Devices and their coordinator, machine against machine, over a line that loses nothing unless it is told to."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Literal

import msgspec
import numpy as np

from coordinator import secure_aggregation as server
from edge_sdk.errors import ImpastoError
from edge_sdk.secure_aggregation import (
    RANDOM_BYTES,
    FromCoordinator,
    FromDevice,
    Policy,
    Terms,
    Words,
    decode,
    device,
    encode,
    from_bytes,
    to_bytes,
)

STEP = hashlib.sha256(b"the signed step").digest()


def terms(words: int = 8, attempt: int = 1, **changes: object) -> Terms:
    """Terms of one attempt in round 3."""
    given = {"federation": "stickers", "epoch": 7, "round": 3, "attempt": attempt, "step": STEP, "words": words}
    return Terms(**{**given, "policy": Policy(), **changes})  # type: ignore[arg-type]


def random_bytes(name: str, attempt: int = 1) -> bytes:
    """Bytes for a device's secrets in an attempt, the same in every run."""
    return hashlib.shake_256(f"{name} {attempt}".encode()).digest(RANDOM_BYTES)


def identity(name: str) -> bytes:
    """A device's private identity key, the same in every run."""
    return hashlib.sha256(f"identity {name}".encode()).digest()


def vector(name: str, words: int) -> Words:
    """A device's plain vector: any words, the same in every run."""
    return np.frombuffer(hashlib.shake_256(name.encode()).digest(4 * words), "<u4").astype(np.uint32)


Dies = Callable[[str], Literal["before", "after"] | None]
"""Asked at every step of a side by its name: whether it dies before it has saved its state, or right after that."""


@dataclass
class Member:
    """A device with its journal."""

    name: str
    dies: Dies = lambda _: None
    state: device.State = field(default_factory=device.State)
    refused: list[ImpastoError] = field(default_factory=list)

    def feed(self, event: device.Event) -> list[device.Action]:
        """One step; the state goes through its record, as after a crash, and the messages through their bytes."""
        rules = device.Rules(device=self.name, identity=identity(self.name))
        state, actions = device.step(rules, self.state, event)
        dying = self.dies(self.name)
        if dying == "before":
            return []
        self.state = device.restored(device.record_of(state))
        self.refused += [action.error for action in actions if isinstance(action, device.Refuse)]
        return [] if dying else actions


Tamper = Callable[[str, FromCoordinator], FromCoordinator | None]


class World:
    """One attempt of devices with these names.

    Attributes:
        members: the devices by name.
        vectors: their plain vectors.
        state: the coordinator's state.
        refused: refusals by the coordinator, with the devices' names.
        error, spent: why the attempt was abandoned, and if devices may have answered; None if it was not.
        total: the sum, once there is one.
        liars: devices whose shares were wrong.
        gone: devices that say and hear nothing any more.
        tamper: changes a message to a device, or loses it.
    """

    def __init__(self, names: Collection[str], given: Terms, dies: Dies = lambda _: None) -> None:
        self.terms = given
        self.dies = dies
        self.vectors = {name: vector(name, given.words) for name in names}
        self.members = {name: Member(name, dies) for name in sorted(names)}
        self.state = server.begin(given, self.members)
        self.parts: dict[str, bytes] = {}  # the coordinator's disk
        self.refused: list[tuple[str, ImpastoError]] = []
        self.error: ImpastoError | None = None
        self.spent: bool | None = None
        self.total: Words | None = None
        self.liars: frozenset[str] = frozenset()
        self.blobs: dict[str, bytes] = {}
        self.gone: set[str] = set()
        self.tamper: Tamper = lambda _, message: message
        self.tamper_up: Callable[[str, FromDevice], FromDevice] = lambda _, message: message
        self.task: server.Task | None = None

    def begin(self) -> None:
        """Let all devices advertise themselves."""
        for name, member in self.members.items():
            if name not in self.gone:
                self.do(name, member.feed(device.Begin(self.terms, random_bytes(name, self.terms.attempt))))

    def time_up(self) -> None:
        """End the coordinator's phase."""
        self.feed(server.TimeUp())

    def upload(self, *names: str) -> None:
        """Let devices hand in their vectors; by default all that are there and ready."""
        for name in names or self.members:
            if name not in self.gone and self.members[name].state.phase == "ready":
                data = to_bytes(self.vectors[name])
                self.do(name, self.members[name].feed(device.Vector(data)))

    def restart(self) -> None:
        """Let the coordinator, then all devices, begin again with what they have saved."""
        self.feed(server.Restarted())
        for name, member in self.members.items():
            if name not in self.gone and member.state.terms == self.terms:
                self.do(name, member.feed(device.Restarted()))
        self.begin()  # the coordinator repeats its step

    def expected(self) -> Words:
        """The plain sum of the survivors' vectors."""
        assert self.task is not None
        return np.sum([self.vectors[name] for name in self.task.uploads], axis=0, dtype=np.uint32)

    # the two ways ---------------------------------------------------------------------------------------------------

    def do(self, name: str, actions: list[device.Action]) -> None:
        """Carry out a device's actions."""
        for action in actions:
            if name in self.gone:
                return
            if isinstance(action, device.Say):
                message = decode(encode(self.tamper_up(name, action.message)))
                assert isinstance(message, FromDevice)
                self.feed(server.Heard(name, message))
            elif isinstance(action, device.HandIn):
                data = self.members[name].state.masked
                sha256 = hashlib.sha256(data).hexdigest()
                self.blobs[sha256] = data
                self.feed(server.Uploaded(name, sha256, len(data)))

    def feed(self, event: server.Event) -> None:
        """One step of the coordinator; its state goes through its record, as after a crash."""
        state, actions = server.step(self.state, event)
        dying = self.dies("coordinator")
        if dying == "before":
            return
        self.save(state)
        for action in [] if dying else actions:
            match action:
                case server.Send():
                    for name in action.devices:
                        self.hear(name, action.message)
                case server.Refuse():
                    self.refused.append((action.device, action.error))
                case server.Discard():
                    del self.blobs[action.sha256]
                case server.Abandon():
                    self.error, self.spent = action.error, action.spent
                case server.Unmask():
                    self.unmask(action.task)

    def save(self, state: server.State) -> None:
        """Write the head and the parts of devices that have changed, and read all of them."""
        saved = self.state if self.parts else None
        self.parts |= {
            name: msgspec.msgpack.encode(part)
            for name, part in server.parts_of(state, server.touched(saved, state)).items()
        }
        head = msgspec.msgpack.decode(msgspec.msgpack.encode(server.head_of(state)), type=server.Head)
        read = {name: msgspec.msgpack.decode(part, type=server.Part) for name, part in self.parts.items()}
        self.state = server.restored(head, read)
        assert self.state == state, "nothing was lost"
        self.state = state  # the next `touched` looks at what is the same object

    def hear(self, name: str, message: FromCoordinator) -> None:
        """Let a device hear a message."""
        changed = self.tamper(name, message)
        if name not in self.gone and changed is not None:
            heard = decode(encode(changed))
            assert isinstance(heard, FromCoordinator)
            self.do(name, self.members[name].feed(heard))

    def unmask(self, task: server.Task) -> None:
        """Do an unmasking, as a worker of the coordinator does."""
        self.task = task
        try:
            left = server.leftover(task)
        except ImpastoError as error:
            self.feed(server.Failed(error))
            return
        total = np.sum([from_bytes(self.blobs[sha256]) for sha256 in task.uploads.values()], axis=0, dtype=np.uint32)
        server.unmask(total, left)
        self.total, self.liars = total, left.liars
        self.feed(server.Summed())
