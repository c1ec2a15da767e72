"""Devices with a cheap deterministic trainer, for tests of everything around training."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edge_sdk.adapter import Adapter, concatenate, norm, truncate
from edge_sdk.membership import Membership, MembershipResult, RoundPlan, TrainedUpdate
from edge_sdk.transport import Settings
from edge_sdk.wire import TrainingStats
from edge_sdk.wire.messages import DeviceProfile
from tests.coordinator.adapters import BASE_ID, random_adapter

FEDERATION = """
name = "tastes"
broker = "{broker}"
slots = "impasto.json"
privacy = "plain"
allow_plain = true
min_devices = {devices}
rounds = {rounds}
root_rounds = 1
deadline = 60.0
grace = 20.0
rank = 4
interaction = {{method = "none"}}
"""

GROUPS = ("apples", "boats")
BASIS = bytes(range(32))
"""Id of the public basis that codes of level "local" are made with."""


def target(group: str) -> Adapter:
    """The adapter that a group would learn from endless training: root knowledge plus the group's own."""
    own = random_adapter(10 + GROUPS.index(group), 2)
    return concatenate([(random_adapter(5, 1), 1.0), (own, 0.5)])


def train(group: str, device: int, plan: RoundPlan) -> TrainedUpdate:
    """Half of the way from what the plan's adapters draw to the group's target, plus a little noise of its own.

    The product moves as gradient descent on a quadratic loss would move it, truncated to the plan's rank.
    """
    have = [(adapter, 1.0) for adapter in plan.frozen] + ([(plan.start, 1.0)] if plan.start else [])
    missing = concatenate([(target(group), 1.0), *((adapter, -weight) for adapter, weight in have)])
    noise = random_adapter(1000 * plan.round + device, 1)
    terms = [(missing, 0.5), (noise, 0.02), *([(plan.start, 1.0)] if plan.start else [])]
    update = truncate(concatenate(terms), plan.rank)[0]
    left = concatenate([(missing, 1.0), (update, -1.0), *([(plan.start, 1.0)] if plan.start else [])])
    stats = TrainingStats(pictures=10 + device, first_loss=norm(missing), last_loss=norm(left), train_seconds=0.01)
    return TrainedUpdate(update, stats)


def code(group: str, device: int) -> bytes:
    """Prompt codes of a group are alike, and all codes share a large mean."""
    centre = np.random.default_rng(GROUPS.index(group)).normal(size=16)
    own = np.random.default_rng(100 + device).normal(size=16)
    return (5.0 + centre + 0.1 * own).astype("<f4").tobytes()


def profile(group: str, device: int, **changes: Any) -> DeviceProfile:
    values = {"base_id": BASE_ID, "prompt_code": code(group, device), "pictures": 10 + device, "max_rank": 4, **changes}
    return DeviceProfile(**values)


def coarse_code(group: str, device: int) -> bytes:
    """Codes of level "coarse", which stay on the devices: those of a group are alike."""
    centre = np.random.default_rng(GROUPS.index(group)).integers(-5, 6, 16)
    own = np.random.default_rng(100 + device).integers(-1, 2, 16)
    return np.clip(centre + own, -8, 8).astype(np.int8).tobytes()


def local_profile(device: int, **changes: Any) -> DeviceProfile:
    """The profile of a device that chooses its cluster alone."""
    values = {"base_id": BASE_ID, "prompt_code": b"", "level": "local", "basis": BASIS, **changes}
    return DeviceProfile(**{"pictures": 10 + device, "max_rank": 4, **values})


@dataclass
class Device:
    """A device in a thread of this process."""

    number: int
    broker: str | Settings
    home: Path
    before_training: Callable[[RoundPlan], None] = lambda plan: None
    masked_only: bool = False
    local: bool = False
    epsilon: float = 0.0  # allowed at level "local+dp"
    learns: Callable[[str, int, RoundPlan], TrainedUpdate] = train
    on_turn: Callable[[], None] | None = None
    result: MembershipResult | None = None
    error: BaseException | None = None
    events: list[dict[str, Any]] = field(default_factory=list)
    trained: list[int] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"device-{self.number}"

    @property
    def group(self) -> str:
        return GROUPS[self.number % 2]

    def start(self, **run: Any) -> Device:
        self._thread = threading.Thread(target=self._run, args=(run,), name=self.name, daemon=True)
        self._thread.start()
        return self

    def join(self, seconds: float = 90.0) -> Device:
        self._thread.join(seconds)
        assert not self._thread.is_alive(), f"{self.name} still runs; last events: {self.events[-3:]}"
        return self

    def stop(self) -> None:
        """End the membership, if it still runs."""
        if self._thread.is_alive():
            self._membership.stop()

    def _run(self, run: dict[str, Any]) -> None:
        try:
            with Membership(
                self.broker,
                "tastes",
                self.name,
                self._profile(),
                self.home,
                self._train,
                self.events.append,
                masked_only=self.masked_only,
                on_turn=self.on_turn,
                code=coarse_code(self.group, self.number) if self.local else b"",
                epsilon=self.epsilon,
            ) as membership:
                self._membership = membership
                self.result = membership.run(**run)
        except BaseException as error:
            self.error = error

    def _profile(self) -> DeviceProfile:
        if self.epsilon:
            return local_profile(self.number, level="local+dp")
        return local_profile(self.number) if self.local else profile(self.group, self.number)

    def _train(self, plan: RoundPlan) -> TrainedUpdate:
        self.before_training(plan)
        self.trained.append(plan.round)
        return self.learns(self.group, self.number, plan)
