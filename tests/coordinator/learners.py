"""Devices that learn a known matrix by gradient descent: LoRA training without a diffusion model.

The loss is 1/2 ||frozen + B A - target||^2 over all layers. Adam moves the factors that the plan's share says.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edge_sdk.adapter import Adapter, Factors, Share, beginning, concatenate, core, distance, frames
from edge_sdk.membership import RoundPlan, TrainedUpdate
from edge_sdk.wire import TrainingStats
from edge_sdk.wire.messages import DeviceProfile
from tests.coordinator.adapters import BASE_ID, SLOTS, dense, random_adapter

GROUPS = 2


@dataclass
class Learner:
    """One device: everybody's knowledge, its group's, and a little of its own, which nobody shares."""

    number: int
    rank: int = 4

    @property
    def group(self) -> int:
        return self.number % GROUPS

    @property
    def name(self) -> str:
        return f"device-{self.number}"

    @property
    def target(self) -> Adapter:
        """The adapter that fits the whole group."""
        return concatenate([(random_adapter(5, 1), 1.0), (random_adapter(10 + self.group, 2), 1.0)])

    @property
    def lesson(self) -> Adapter:
        """The adapter that its own pictures teach."""
        return concatenate([(self.target, 1.0), (random_adapter(100 + self.number, 1), 0.3)])

    @property
    def profile(self) -> DeviceProfile:
        centre = np.random.default_rng(self.group).normal(size=16)
        own = np.random.default_rng(100 + self.number).normal(size=16)
        code = (5.0 + centre + 0.1 * own).astype("<f4").tobytes()
        return DeviceProfile(base_id=BASE_ID, prompt_code=code, pictures=10 + self.number, max_rank=self.rank)

    def error(self, adapters: list[Adapter]) -> float:
        """Distance of the adapters from the target, as a share of the base model's distance."""
        nothing = Adapter({name: Factors(f.a * 0, f.b) for name, f in self.target.layers.items()})
        whole = concatenate([(adapter, 1.0) for adapter in adapters]) if adapters else nothing
        return distance(whole, self.target) / distance(nothing, self.target)

    def train(self, plan: RoundPlan) -> TrainedUpdate:
        start = beginning(plan.start, SLOTS, plan.rank, plan.seed, plan.share)
        goal = dense(concatenate([(self.lesson, 1.0), *((adapter, -1.0) for adapter in plan.frozen)]))
        layers = {
            name: _descend(factors, goal[name], plan.share, plan.steps, plan.learning_rate)
            for name, factors in start.layers.items()
        }
        trained = Adapter(layers, BASE_ID)
        stats = TrainingStats(
            pictures=10 + self.number,
            first_loss=_loss(start, goal),
            last_loss=_loss(trained, goal),
            train_seconds=0.01,
        )
        return TrainedUpdate(trained, stats)


def _descend(start: Factors, goal: np.ndarray, share: Share, steps: int, rate: float) -> Factors:
    a, b = start.a.astype(float), start.b.astype(float)
    parts: dict[str, np.ndarray] = {}
    q_b = q_a = np.zeros(0)
    if share is Share.CORE:
        q_b, q_a = frames(start)
        parts["core"] = core(start, start)
    elif share is not Share.B:
        parts["a"] = a
    if share in (Share.BOTH, Share.B, Share.A_ONLY):
        parts["b"] = b
    moments = {key: (np.zeros_like(value), np.zeros_like(value)) for key, value in parts.items()}
    for step in range(1, steps + 1):
        if share is Share.CORE:
            a, b = q_a, q_b @ parts["core"]
        residual = b @ a - goal
        slopes = {"a": b.T @ residual, "b": residual @ a.T}
        if share is Share.CORE:
            slopes = {"core": q_b.T @ residual @ q_a.T}
        for key, value in parts.items():
            first, second = moments[key]
            first += 0.1 * (slopes[key] - first)
            second += 0.01 * (slopes[key] ** 2 - second)
            value -= rate * (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.99**step)) + 1e-8)
    if share is Share.CORE:
        a, b = q_a, q_b @ parts["core"]
    return Factors(a.astype(np.float32), b.astype(np.float32))


def _loss(adapter: Adapter, goal: dict[str, np.ndarray]) -> float:
    return float(sum(((matrix - goal[name]) ** 2).sum() for name, matrix in dense(adapter).items()))
