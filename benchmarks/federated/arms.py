"""The rows of benchmarks.federation: their settings, and one row run in a world."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
from sklearn.metrics import adjusted_rand_score

from benchmarks.federated.world import (
    LAYERS,
    ONE_RANK,
    PRIVACY,
    RANKS,
    Scale,
    StudyDevice,
    Weighted,
    World,
    captioned,
)
from benchmarks.shared.stickers import MODEL
from coordinator.config import Federation, resolve
from coordinator.methods.aggregation import AGGREGATORS
from coordinator.simulation import ChoosingDevice, SimulatedDevice, simulate, simulate_ifca
from edge_sdk.adapter import Adapter, concatenate, distance, mean, norm
from edge_sdk.membership import RoundPlan, TrainedUpdate
from edge_sdk.training import Trainer

Kind = Literal["alone", "pooled", "federated", "ifca"]
Family = Literal["bound", "baseline", "aggregation", "clustering", "interaction", "server", "ablation"]


@dataclass(frozen=True)
class Arm:
    """A row: keys and tables of the federation file that differ from the study's, and whether ranks are mixed.

    leaf: true if the last round's steps train a private leaf on top of the shared adapters.
    variant: true for a variant of another row, which is no method of its own.
    """

    name: str
    family: Family
    kind: Kind = "federated"
    settings: Mapping[str, Any] = field(default_factory=dict)
    mixed_ranks: bool = True
    leaf: bool = False
    variant: bool = False

    def federation(self, scale: Scale, seed: int) -> Federation:
        """The row's settings, as a federation's file would say them."""
        keys: dict[str, Any] = {
            "name": "study", "slots": "impasto.json", "privacy": PRIVACY, "allow_plain": True,
            "rounds": scale.rounds - self.leaf, "steps": scale.steps,
            "batch_size": scale.batch_size, "learning_rate": scale.learning_rate, "seed": seed, "layers": LAYERS,
            "rank": max(RANKS) if self.mixed_ranks else ONE_RANK, **self.settings,
        }  # fmt: skip
        if self.kind == "ifca":
            # IFCA cannot find the number of clusters, and is told the true one.
            keys["clustering"] = {"method": "ifca", "clusters": len(scale.groups)}
        return resolve(keys, folder=Path())

    def key(self, scale: Scale, seed: int) -> dict[str, Any]:
        """Everything that the result depends on, including settings left at their defaults."""
        if self.kind in ("alone", "pooled"):
            return {"kind": self.kind, "learning_rate": self.learning_rate(scale), "mixed": self.mixed_ranks}
        asked = msgspec.to_builtins(self.federation(scale, seed), enc_hook=str)
        return {"kind": self.kind, "federation": asked, "mixed": self.mixed_ranks, "leaf": self.leaf}

    def learning_rate(self, scale: Scale) -> float:
        """Learning rate of its devices: the study's, unless the row has one of its own."""
        return float(self.settings.get("learning_rate", scale.learning_rate))


OURS = "product"
# Our default with the bytes of methods that cannot mix ranks.
ONE = "one rank"
# As it was published: clusters do not teach each other.
_PLAIN = {"interaction": {"method": "none"}}
_GLOBAL = {"aggregation": {"method": "fedit"}, "clustering": {"method": "single"}, **_PLAIN}
# Methods that train less of an adapter want larger rates than the others; fedsa did better with a smaller one, and the
# usual baseline is run at the usual rate as well.
_OWN_RATES = (("fedit", 1e-3), ("ffa", 1e-2), ("rolora", 5e-3), ("fedsa", 1e-3), ("fedsb", 1e-2))
_DISJOINT = {"aggregation": {"method": "ffa"}, "interaction": {"method": "disjoint"}}
_MOMENTUM = {"server_optimiser": {"method": "momentum"}}
_WIDER = {"server_rank": max(RANKS)}
_RATE = "learning rate"


def arms() -> list[Arm]:
    """All rows, bounds first."""
    found = [
        Arm("alone", "bound", "alone"),
        Arm("pooled per group", "bound", "pooled"),
        Arm(f"alone, {_RATE} 0.001", "bound", "alone", {"learning_rate": 1e-3}, variant=True),
        Arm(f"pooled per group, {_RATE} 0.001", "bound", "pooled", {"learning_rate": 1e-3}, variant=True),
        Arm("one global FedIT", "baseline", settings=_GLOBAL, mixed_ranks=False),
        Arm("IFCA", "baseline", "ifca", {"aggregation": {"method": "fedit"}, **_PLAIN}, mixed_ranks=False),
        Arm(OURS, "aggregation"),
    ]
    found += [_rival(name) for name in AGGREGATORS.built_in if name != OURS]
    found += [_rival(name, f"{name}, {_RATE} {rate:g}", learning_rate=rate) for name, rate in _OWN_RATES]
    found += [
        _rival("fedit", "fedit, interaction: attention", interaction={"method": "attention"}),
        _variant(f"{OURS}, {_RATE} 0.001", "aggregation", learning_rate=1e-3),
    ]
    found += [
        Arm(f"clustering: {name}", "clustering", settings={"clustering": {"method": name}})
        for name in ("prompt", "adapter", "single")
    ]
    found += [
        Arm("interaction: none", "interaction", settings=_PLAIN),
        Arm("a root round first", "interaction", settings={"root_rounds": 1}),
        Arm("with leaf", "interaction", leaf=True),
        Arm("disjoint bases", "interaction", settings=_DISJOINT),
        _variant(f"disjoint bases, {_RATE} 0.01", "interaction", **_DISJOINT, learning_rate=1e-2),
        _variant("server momentum", "server", **_MOMENTUM),
        _variant(f"server momentum, {_RATE} 0.001", "server", **_MOMENTUM, learning_rate=1e-3),
        _variant("server Adam", "server", server_optimiser={"method": "adam"}),
        _variant("nothing carried", "ablation", aggregation={"carry": False}),
        Arm(ONE, "ablation", mixed_ranks=False),
        _variant("one rank, balanced factors", "ablation", mixed_ranks=False, aggregation={"method": "flexlora"}),
        _variant("one rank, a wider one carried", "ablation", mixed_ranks=False, aggregation=_WIDER),
    ]
    return found


def _rival(method: str, name: str | None = None, **settings: Any) -> Arm:
    asked = {"aggregation": {"method": method}, **_PLAIN, **settings}
    mixed_ranks = AGGREGATORS[method].mixed_ranks
    return Arm(name or method, "aggregation", settings=asked, mixed_ranks=mixed_ranks, variant=name is not None)


def _variant(name: str, family: Family, *, mixed_ranks: bool = True, **settings: Any) -> Arm:
    return Arm(name, family, settings=settings, mixed_ranks=mixed_ranks, variant=True)


def run(arm: Arm, world: World) -> dict[str, Any]:
    """One row in one world: losses of every device, and seconds, bytes and other costs."""
    began = time.perf_counter()
    facts: dict[str, Any] = {}
    if arm.kind == "alone":
        adapters = _alone(arm, world)
    elif arm.kind == "pooled":
        adapters = _pooled(arm, world)
    else:
        adapters, facts = _federated(arm, world)
    verdicts = world.judged(adapters)
    return {
        "loss": {name: device.loss(adapters[name]) for name, device in world.devices.items()},
        "base": {name: device.base_loss for name, device in world.devices.items()},
        "base_curve": float(np.mean([device.curve_loss([]) for device in world.devices.values()])),
        "judged": {name: asdict(verdict) for name, verdict in verdicts.items()},
        "seconds": time.perf_counter() - began,
        **facts,
    }


def _alone(arm: Arm, world: World) -> dict[str, Weighted]:
    scale = world.scale
    found: dict[str, Weighted] = {}
    for name, device in world.devices.items():
        result = device.trainer.train(
            steps=scale.rounds * scale.steps,
            seed=world.seed,
            rank=device.max_rank if arm.mixed_ranks else ONE_RANK,
            batch_size=scale.batch_size,
            learning_rate=arm.learning_rate(scale),
            layers=LAYERS,
        )
        found[name] = [(result.adapter, 1.0)]
    return found


def _pooled(arm: Arm, world: World) -> dict[str, Weighted]:
    """Each group's pictures pooled: as many steps as a device does, on batches of all the group's devices together."""
    scale = world.scale
    found: dict[str, Weighted] = {}
    for devices in world.groups().values():
        trainer = Trainer(MODEL, captioned([s for d in devices for s in d.plan.pictures]), threads=1)
        result = trainer.train(
            steps=scale.rounds * scale.steps,
            seed=world.seed,
            rank=max(RANKS),
            batch_size=scale.batch_size * len(devices),
            learning_rate=arm.learning_rate(scale),
            layers=LAYERS,
        )
        found |= {device.plan.id: [(result.adapter, 1.0)] for device in devices}
    return found


class _Learner:
    """A device's part of the rounds, and the losses recorded on the way."""

    def __init__(self, device: StudyDevice) -> None:
        self.device = device
        # By round: the loss before it, which is the result of the round before.
        self.curve: dict[int, float] = {}
        self.last: tuple[int | None, TrainedUpdate] | None = None

    def train(self, plan: RoundPlan) -> TrainedUpdate:
        frozen = [(adapter, 1.0) for adapter in plan.frozen]
        now = [*frozen, *([(plan.start, 1.0)] if plan.start else [])]
        self.curve[plan.round - 1] = self.device.curve_loss(now) if now else self.device.curve_loss([])
        update = self.device.train(plan)
        self.last = (plan.cluster, update)
        return update

    def choose(self, models: Sequence[Adapter], frozen: Sequence[Adapter]) -> int:
        """Number of the IFCA model that suits this device's own pictures best."""
        frozen_weighted = [(adapter, 1.0) for adapter in frozen]
        losses = [self.device.own_loss([*frozen_weighted, (model, 1.0)]) for model in models]
        return int(np.argmin(losses))


def _federated(arm: Arm, world: World) -> tuple[dict[str, Weighted], dict[str, Any]]:
    federation = arm.federation(world.scale, world.seed)
    learners = {name: _Learner(device) for name, device in world.devices.items()}
    closed: list[Mapping[str, Any]] = []

    def watch(event: str, reported: Mapping[str, Any]) -> None:
        if event == "round_closed":
            closed.append(reported)

    profiles = {name: world.profile(learner.device, arm.mixed_ranks) for name, learner in learners.items()}
    if arm.kind == "ifca":
        choosing = {name: ChoosingDevice(profiles[name], one.train, one.choose) for name, one in learners.items()}
        outcomes = simulate_ifca(federation, world.base, choosing, watch)
    else:
        plain = {name: SimulatedDevice(profiles[name], one.train) for name, one in learners.items()}
        outcomes = simulate(federation, world.base, plain, watch)
    adapters: dict[str, Weighted] = {
        name: [(outcome.adapters[role], 1.0) for role in ("root", "cluster") if role in outcome.adapters]
        for name, outcome in outcomes.items()
    }
    together = float(np.mean([learners[n].device.curve_loss(adapters[n]) for n in adapters]))
    curve = [float(np.mean([learner.curve[r] for learner in learners.values()])) for r in range(1, federation.rounds)]
    if arm.leaf:
        adapters = {name: _with_leaf(world, learners[name].device, frozen) for name, frozen in adapters.items()}
    groups = [device.plan.group for device in world.devices.values()]
    facts = {
        "curve": [*curve, together],
        "bytes_up": [event["bytes_up"] for event in closed],
        "bytes_down": [event["bytes_down"] for event in closed],
        "total_bytes": sum(outcome.bytes_up + outcome.bytes_down for outcome in outcomes.values()),
        "ari": float(adjusted_rand_score(groups, [outcomes[name].cluster for name in world.devices])),
        "aggregation_error": _aggregation_error(federation, list(learners.values())),
    }
    return adapters, facts


def _with_leaf(world: World, device: StudyDevice, frozen: Weighted) -> Weighted:
    scale = world.scale
    result = device.trainer.train(
        steps=scale.steps,
        frozen=frozen,
        seed=world.seed,
        rank=device.max_rank,
        batch_size=scale.batch_size,
        learning_rate=scale.learning_rate,
        layers=LAYERS,
    )
    return [*frozen, (result.adapter, 1.0)]


def _aggregation_error(federation: Federation, learners: list[_Learner]) -> float | None:
    """Relative distance of the method's result from the weighted mean of the last round's products, averaged over
    clusters. None if devices keep a factor at home, so that there is no common product."""
    method = federation.aggregator
    if method.home_factor:
        return None
    clusters: dict[int | None, list[TrainedUpdate]] = {}
    for learner in learners:
        assert learner.last is not None
        clusters.setdefault(learner.last[0], []).append(learner.last[1])
    errors: list[float] = []
    for updates in clusters.values():
        aggregator = method(federation.rank, federation.aggregation)
        for update in updates:
            aggregator.add(update.adapter, update.stats.pictures)
        made = aggregator.result()
        parts: list[tuple[Adapter, float]] = [(part, 1.0) for part in (made.start, made.folded) if part]
        exact = mean([update.adapter for update in updates], [update.stats.pictures for update in updates])
        errors.append(distance(concatenate(parts), exact) / norm(exact))
    return float(np.mean(errors))
