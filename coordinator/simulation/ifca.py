"""IFCA (Ghosh et al., arXiv 2006.04088) in one process: the baseline in which devices choose their clusters by loss.

    cluster of device i = argmin_j F_i(model_j)

For research only: real devices do not support it. Before every cluster round each device gets *all* K cluster models,
evaluates them on its own pictures, and trains the one with the least loss. The coordinator clusters nothing and needs
neither prompt codes nor adapters for it. This costs twice: a device fetches K models a round instead of one (counted in
`Outcome.bytes_down`), and evaluates each of them.

The rest is as in `simulate`: root rounds first, the federation's aggregation and filter, every device delivers. Models
that no device chooses stay as they are. The K models begin at random products, because devices could not choose between
models that all start at zero. An unlucky start can leave two groups in one model for good: try several seeds. Of 8
seeds with the two groups of tests/coordinator/simulation/test_ifca.py, 8 find them with `product`, 7 with `flexlora`,
6 with `fedit` and 4 with `rolora`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import msgspec
import numpy as np

from coordinator import rounds
from coordinator.config import BaseModel, Federation
from coordinator.learning import Learning
from coordinator.methods.clustering import IFCA
from coordinator.methods.interaction import Alone
from coordinator.simulation.federation import Home, OnEvent, Outcome, SimulatedDevice, deliver, traffic
from coordinator.store import MemoryBlobs
from edge_sdk.adapter import Adapter, initial_adapter, to_bytes
from edge_sdk.errors import AdapterError, ConfigurationError, NothingLearnt
from edge_sdk.wire import Manifest, RoundStart, Stage, make_manifest

Choose: TypeAlias = Callable[[Sequence[Adapter], Sequence[Adapter]], int]
"""Choice: (cluster models, frozen adapters under each) -> index of the model with the least loss on own pictures."""


@dataclass(frozen=True)
class ChoosingDevice(SimulatedDevice):
    """A simulated device that chooses its cluster.

    Attributes:
        choose: returns the index of the model with the least loss.
    """

    choose: Choose


def simulate_ifca(
    federation: Federation,
    base: BaseModel,
    devices: Mapping[str, ChoosingDevice],
    on_event: OnEvent | None = None,
) -> dict[str, Outcome]:
    """Run a federation to its end with `clusters` models; return the outcome of each device.

    The federation's interaction has no effect. Arguments as in `simulate`.

    Raises:
        ConfigurationError: the clustering is not IFCA, or the aggregation's result is not one adapter.
        NothingLearnt: a round in which every update was refused.
        ValueError: there are no devices, or a choice is not one of the models.
        Any error raised by a device's `train` or `choose`, or by `on_event`.
    """
    if not devices:
        raise ValueError("A simulation needs at least one device.")
    if not isinstance(federation.clustering, IFCA):
        raise ConfigurationError(
            f"[clustering] method = {federation.clustering.method!r}: for IFCA set method to 'ifca', and clusters to "
            "the number of models."
        )
    if federation.aggregator.folds:
        raise ConfigurationError(
            f"[aggregation] method = {federation.aggregation.method!r} folds what it has learnt under the adapter, so "
            'that a cluster is no single model to evaluate: choose another one, such as "product".'
        )
    if federation.aggregator.home_factor:
        raise ConfigurationError(
            f"[aggregation] method = {federation.aggregation.method!r} leaves a factor at home, so that devices cannot "
            'evaluate each other\'s models: choose another one, such as "product".'
        )
    return _Ifca(federation, federation.clustering.clusters, base, devices, on_event).run()


class _Ifca:
    def __init__(
        self,
        federation: Federation,
        models: int,
        base: BaseModel,
        devices: Mapping[str, ChoosingDevice],
        on_event: OnEvent | None,
    ) -> None:
        self._federation = msgspec.structs.replace(federation, interaction=Alone())
        self._wanted = models
        self._base = base
        self._devices = devices
        self._on_event = on_event
        self._blobs = MemoryBlobs()
        profiles = {name: device.profile for name, device in devices.items()}
        self._learning = Learning(self._federation, base, profiles.copy, self._blobs, secret=federation.seed)
        self._homes = {name: Home() for name in devices}
        self._root = rounds.Lineage()
        self._models: dict[int, rounds.Lineage] = {}

    def run(self) -> dict[str, Outcome]:
        settings = self._federation
        for number in range(1, settings.root_rounds + 1):
            self._round(number, "root", dict.fromkeys(self._devices))
        self._models = {model: self._random_model(model) for model in range(self._wanted)}
        for number in range(settings.root_rounds + 1, settings.rounds + 1):
            chosen = {name: self._choice(name) for name in self._devices}
            self._tell("clusters", round=number, assignment=chosen)
            self._round(number, "cluster", chosen)
        return {name: self._outcome(name) for name in self._devices}

    def _random_model(self, model: int) -> rounds.Lineage:
        """Store PEFT's initialisation with a random B, about as large as Adam makes it in one round."""
        settings = self._federation
        start = initial_adapter(self._base.slots, settings.rank, settings.seed + 1 + model, self._base.base_id)
        rng = np.random.default_rng([settings.seed, model])
        size = settings.learning_rate * np.sqrt(settings.steps)
        layers = {
            name: replace(factors, b=(size * rng.standard_normal(factors.b.shape)).astype(np.float32))
            for name, factors in start.layers.items()
        }
        data = to_bytes(Adapter(layers, self._base.base_id))
        self._blobs.put(data)
        return rounds.Lineage(make_manifest(data, role="cluster", name=f"cluster-{model}"))

    def _choice(self, name: str) -> int:
        """Return a device's choice; it fetches all models, and the root under them."""
        models, home = self._all_models(), self._homes[name]
        brought = [home.bring(manifest, self._blobs) for manifest in models]
        choice = self._devices[name].choose(brought, self._frozen(home))
        if not 0 <= choice < len(models):
            raise ValueError(f"{name} chose model {choice}; choose one of 0 to {len(models) - 1}.")
        return choice

    def _round(self, number: int, stage: Stage, chosen: Mapping[str, int | None]) -> None:
        cohort = {name: self._member(name, number, cluster) for name, cluster in chosen.items()}
        refused: dict[str, str] = {}
        came = {name: self._train(name, number, stage, member, refused) for name, member in cohort.items()}
        updates = {name: update for name, update in came.items() if update}
        for name, reason in rounds.outliers(number, updates).items():
            del updates[name]
            self._refuse(refused, name, rounds.UPDATE_OUTLIER, reason)
        if not updates:
            raise NothingLearnt(f"Every update of round {number} was refused ({refused}).")
        closed = rounds.Round(
            number=number,
            attempt=number,
            stage=stage,
            deadline=0.0,
            cohort=cohort,
            updates=updates,
            refused=refused,
        )
        last = number in (self._federation.root_rounds, self._federation.rounds)
        made = self._learning.aggregate(rounds.Aggregate(closed, last, self._root, self._models))
        self._root = made.root or self._root
        self._models |= made.clusters
        lineages = (self._root, *self._models.values())
        self._blobs.prune({sha256 for lineage in lineages for sha256 in lineage.blobs()})
        self._tell(
            "round_closed",
            round=number,
            stage=stage,
            updates=len(updates),
            missing=sorted(refused),
            refused=refused,
            **closed.median_losses,
            **made.figures,
        )

    def _refuse(self, refused: dict[str, str], name: str, code: str, reason: str) -> None:
        refused[name] = code
        self._tell("refused", device=name, code=code, reason=reason)

    def _member(self, name: str, number: int, cluster: int | None) -> rounds.Member:
        settings = self._federation
        start = (self._root if cluster is None else self._models[cluster]).start
        turn = number - 1 - (0 if cluster is None else settings.root_rounds)
        share = settings.aggregator.share(turn if start else 0)
        rank = min(settings.rank, self._devices[name].profile.max_rank)
        return rounds.Member(cluster, rank, start, settings.seed + (cluster is not None), share)

    def _train(
        self, name: str, number: int, stage: Stage, member: rounds.Member, refused: dict[str, str]
    ) -> rounds.Update | None:
        """Return a device's update; None, with the reason in `refused`, if it cannot be used."""
        home, settings = self._homes[name], self._federation
        start = RoundStart(
            round=number,
            attempt=number,
            rounds=settings.rounds,
            stage=stage,
            cluster=member.cluster,
            frozen=self._root.adapters if stage == "cluster" else [],
            start=member.start,
            keep_rest=settings.carries,
            share=member.share,
            layers=settings.layers,
            rank=member.rank,
            seed=member.seed,
            steps=settings.steps,
            batch_size=settings.batch_size,
            learning_rate=settings.learning_rate,
            deadline=settings.deadline,
        )
        plan = home.plan(start, self._blobs)
        trained = self._devices[name].train(plan)
        try:
            return deliver(trained, home, plan, member, self._learning, self._blobs)
        except AdapterError as error:
            self._refuse(refused, name, type(error).__name__, str(error))
            return None

    def _frozen(self, home: Home) -> tuple[Adapter, ...]:
        return (home.bring(self._root.start, self._blobs),) if self._root.start else ()

    def _all_models(self) -> list[Manifest]:
        return [model.start for _, model in sorted(self._models.items()) if model.start]

    def _outcome(self, name: str) -> Outcome:
        """Return a device's outcome; it chooses once more, among the final models."""
        cluster, home = self._choice(name), self._homes[name]
        kept = [*self._root.adapters, *self._all_models()]
        adapters = {manifest.name: home.bring(manifest, self._blobs) for manifest in kept}
        adapters["cluster"] = adapters[f"cluster-{cluster}"]
        return Outcome(cluster, adapters, home.up, home.down)

    def _tell(self, event: str, **values: object) -> None:
        if self._on_event:
            self._on_event(event, {**values, **traffic(self._homes)})
