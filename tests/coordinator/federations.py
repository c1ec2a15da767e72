"""Rules, profiles and offers for the tests of the round machine."""

from __future__ import annotations

import hashlib

import msgspec
import numpy as np

from coordinator.rounds import (
    Action,
    Aggregate,
    Aggregated,
    Cluster,
    Clustered,
    Head,
    Joined,
    Lineage,
    Record,
    Rules,
    Send,
    State,
    Stored,
    head_of,
    records_of,
    restored,
    step,
    touched,
)
from edge_sdk.wire.messages import DeviceProfile, Manifest, Message, Offer, Presence, Refused

BASE_ID = "b" * 64
DEVICES = ("a1", "a2", "b1", "b2")


def rules(**changes: object) -> Rules:
    values: dict[str, object] = {
        "base_id": BASE_ID,
        "min_devices": 3,
        "rounds": 3,
        "root_rounds": 1,
        "quorum": 0.5,
        "deadline": 100.0,
        "grace": 10.0,
        "extensions": 1,
        "rank": 4,
        "min_rank": 1,
        "steps": 5,
        "batch_size": 2,
        "learning_rate": 1e-3,
        "seed": 7,
        "max_update": 10_000,
        "privacy": "plain",
        **changes,
    }
    return Rules(**values)  # type: ignore[arg-type]


def profile(code: list[float] | None = None, **changes: object) -> DeviceProfile:
    values: dict[str, object] = {
        "base_id": BASE_ID,
        "prompt_code": np.array(code or [1, 2, 3], dtype="<f4").tobytes(),
        "pictures": 10,
        "max_rank": 4,
        **changes,
    }
    return DeviceProfile(**values)  # type: ignore[arg-type]


def joined(device: str, epoch: int = 1, **changes: object) -> Joined:
    """A device that shows presence joins."""
    return Joined(device, profile(**changes), Presence(online=True, epoch=epoch))  # type: ignore[arg-type]


def manifest(content: str, role: str = "update", size: int = 100) -> Manifest:
    sha256 = hashlib.sha256(content.encode()).hexdigest()
    return Manifest(role=role, name=role, sha256=sha256, size=size, chunk_size=1024)  # type: ignore[arg-type]


def offer(device: str, number: int, variant: int = 0, **changes: object) -> Offer:
    """Of round `number`, which was opened at the first attempt, as all before it."""
    values: dict[str, object] = {
        "round": number,
        "attempt": number,
        "manifest": manifest(f"{device}/{number}/{variant}"),
        "pictures": 10,
        "first_loss": 1.0,
        "last_loss": 0.5,
        "train_seconds": 2.0,
        **changes,
    }
    return Offer(**values)  # type: ignore[arg-type]


def cluster_by_name(action: Cluster) -> Clustered:
    """Devices whose names begin alike belong together."""
    initials = sorted({name[0] for name in action.devices})
    return Clustered({name: initials.index(name[0]) for name in action.devices})


def aggregate_by_name(action: Aggregate) -> Aggregated:
    """Manifests that name what went in."""
    closed = action.round
    if closed.stage == "root":
        return Aggregated(closed.number, root=Lineage(manifest(f"root/{closed.number}", "root")))
    clusters = {update.member.cluster for update in closed.updates.values()}
    clusters |= {closed.cohort[name].cluster for name in closed.summed}
    return Aggregated(
        closed.number,
        clusters={c: Lineage(manifest(f"{c}/{closed.number}", "cluster")) for c in clusters if c is not None},
    )


def stored(device: str, number: int, variant: int = 0, *, norm: float = 1.0, **changes: object) -> Stored:
    """An update that lies on disk."""
    return Stored(device, offer(device, number, variant, **changes), norm)


def saved_and_loaded(state: State) -> State:
    """A state as the next start of a coordinator finds it."""
    pack, unpack = msgspec.msgpack.encode, msgspec.msgpack.decode
    saved = records_of(state, touched(None, state))
    records = {name: unpack(pack(record), type=Record) for name, record in saved.items()}
    return restored(unpack(pack(head_of(state)), type=Head), records)


class Machine:
    """A round machine with a clock and somebody who answers its questions at once."""

    def __init__(self, given: Rules, state: State | None = None) -> None:
        self.rules = given
        self.state = state or State()
        self.now = 0.0
        self.actions: list[Action] = []
        self.answers = True  # False: questions about closed rounds stay open

    def __call__(self, *events: object) -> list[Action]:
        """Feed events and whatever answers follow from them; returns all actions."""
        self.actions = []
        queue = list(events)
        while queue:
            self.state, actions = step(self.rules, self.state, queue.pop(0), self.now)  # type: ignore[arg-type]
            self.actions += actions
            queue += [cluster_by_name(a) for a in actions if isinstance(a, Cluster)]
            queue += [aggregate_by_name(a) for a in actions if isinstance(a, Aggregate) and self.answers]
        return self.actions

    def sent(self, device: str, kind: type[Message] | None = None) -> list[Message]:
        """The messages of the last call to a device."""
        sends = [action for action in self.actions if isinstance(action, Send) and action.device == device]
        return [action.message for action in sends if kind is None or isinstance(action.message, kind)]


def started(**changes: object) -> Machine:
    """A federation of four devices whose first round is open."""
    machine = Machine(rules(min_devices=4, **changes))
    machine(*(joined(name) for name in DEVICES))
    return machine


def deliver(machine: Machine, number: int, *names: str) -> None:
    machine(*(stored(name, number) for name in names))


def refusals(machine: Machine, device: str) -> list[str]:
    """The codes of the last call's refusals to a device."""
    return [message.code for message in machine.sent(device, Refused) if isinstance(message, Refused)]
