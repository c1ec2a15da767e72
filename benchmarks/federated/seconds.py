"""The coordinator's time for a round of each row: real rounds of devices that train nothing.

It is measured in one process with one thread of BLAS, after everything else: during the runs, other rows compete for
the cores.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.federated.arms import Arm
from benchmarks.federated.world import World
from coordinator.simulation import ChoosingDevice, SimulatedDevice, simulate, simulate_ifca
from edge_sdk.adapter import Adapter, Factors, Share, beginning
from edge_sdk.membership import RoundPlan, TrainedUpdate
from edge_sdk.wire import TrainingStats

_STEP = 1e-3
Returned = TypeVar("Returned")


def seconds_a_round(arm: Arm, world: World) -> float:
    """Processor seconds of a round without the devices' work: reading and checking updates, clustering, aggregation,
    interaction, storage."""
    federation = arm.federation(world.scale, world.seed)
    clock = _Clock()
    devices = {
        name: ChoosingDevice(
            world.profile(device, arm.mixed_ranks),
            clock.outside(_Idler(world, name).train),
            clock.outside(_Idler(world, name).choose),
        )
        for name, device in world.devices.items()
    }
    began = time.process_time()
    with threadpool_limits(1, "blas"):
        if arm.kind == "ifca":
            simulate_ifca(federation, world.base, devices)
        else:
            simulate(federation, world.base, dict[str, SimulatedDevice](devices))
    return (time.process_time() - began - clock.spent) / federation.rounds


class _Clock:
    """Sum of the seconds spent outside of the coordinator."""

    def __init__(self) -> None:
        self.spent = 0.0

    def outside(self, call: Callable[..., Returned]) -> Callable[..., Returned]:
        def timed(*given: object) -> Returned:
            began = time.process_time()
            try:
                return call(*given)
            finally:
                self.spent += time.process_time() - began

        return timed


class _Idler:
    """A device that moves every number a little, at random, instead of training."""

    def __init__(self, world: World, name: str) -> None:
        self._slots, self._base_id = world.base.slots, world.base.base_id
        self._rng = np.random.default_rng([world.seed, zlib.crc32(name.encode())])
        self._choice = sorted(world.groups()).index(world.devices[name].plan.group)

    def train(self, plan: RoundPlan) -> TrainedUpdate:
        start = beginning(plan.start, self._slots, plan.rank, plan.seed, plan.share)
        layers = {name: self._moved(factors, plan.share) for name, factors in start.layers.items()}
        stats = TrainingStats(pictures=10, first_loss=1.0, last_loss=0.5, train_seconds=0.0)
        return TrainedUpdate(Adapter(layers, self._base_id), stats)

    def choose(self, models: Sequence[Adapter], frozen: Sequence[Adapter]) -> int:
        return self._choice % len(models)

    def _moved(self, factors: Factors, share: Share) -> Factors:
        a, b = factors.a, factors.b
        if share is Share.CORE:
            return Factors(a, b + b @ self._noise((factors.rank, factors.rank)), factors.kernel)
        a = a if share is Share.B else a + self._noise(a.shape)
        b = b if share is Share.A else b + self._noise(b.shape)
        return Factors(a, b, factors.kernel)

    def _noise(self, shape: tuple[int, ...]) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        return (_STEP * self._rng.standard_normal(shape)).astype(np.float32)
