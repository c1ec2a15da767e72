"""Simulation of a whole federation in one process: the real rounds and methods, with devices as functions.

Everything between a device and its coordinator is left out: transfers, presence, deadlines. Devices work one after the
other, and every device delivers in every round. Bytes are counted as on the wire: a device's updates, and every adapter
that it does not have yet.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from msgspec.structs import replace

from coordinator import rounds
from coordinator.config import BaseModel, Federation
from coordinator.learning import Learning
from coordinator.methods.clustering import by_noisy_sums, by_sums
from coordinator.simulation.choosing import chosen, found_groups, is_alone, largest_weight, unmasked
from coordinator.store import Blobs, MemoryBlobs
from edge_sdk.adapter import Adapter, Share, from_bytes
from edge_sdk.errors import AdapterError, ConfigurationError, NothingLearnt, Rejected
from edge_sdk.membership import RoundPlan, Train, TrainedUpdate, make_plan, pack_update, to_keep
from edge_sdk.wire import DeviceProfile, Finished, Manifest, Offer, Refused, RoundStart, make_manifest

OnEvent: TypeAlias = Callable[[str, Mapping[str, Any]], None]
# Manifest for updates that could not be packed, and so have no content.
_NOTHING = make_manifest(b"-", role="update", name="refused")


@dataclass(frozen=True)
class SimulatedDevice:
    """A device of a simulation.

    Attributes:
        profile: its profile, as sent to the coordinator.
        train: trains a round, as for a `Membership`.
        code: its code at home, in federations of level "local".
    """

    profile: DeviceProfile
    train: Train
    code: bytes = field(default=b"", kw_only=True)


@dataclass(frozen=True)
class Outcome:
    """Result of a simulation for one device.

    Attributes:
        cluster: its cluster.
        adapters: "root", "cluster" (its own), "cluster-<n>" -> adapter.
        bytes_up, bytes_down: bytes that it sent and fetched.
    """

    cluster: int
    adapters: Mapping[str, Adapter]
    bytes_up: int
    bytes_down: int


def simulate(
    federation: Federation,
    base: BaseModel,
    devices: Mapping[str, SimulatedDevice],
    on_event: OnEvent | None = None,
) -> dict[str, Outcome]:
    """Run a federation to its end; return the outcome of each device. `min_devices` is the number of devices.

    An update that the coordinator would refuse is refused, and its round goes on without it. A federation of level
    "local" is simulated without masks: its clusters are found by the plain sums of the devices' answers, and its bytes
    are those of vectors with a slot for each cluster, without the messages of masked sums.

    Args:
        federation: the federation file.
        base: its base model.
        devices: the devices, by name.
        on_event: called with the name and the values of every event that the coordinator reports, and with "bytes_up"
            and "bytes_down" of all devices until then.

    Raises:
        NothingLearnt: a round in which every update was refused.
        Rejected: a device cannot take part.
        ConfigurationError: the file asks for masked sums, at another level than "local".
        TooFewDevices, PromptError: the devices of level "local" do not make a cluster, or one has no code.
        ValueError: there are no devices.
        Any error raised by a device's `train`, or by `on_event`.
    """
    if federation.masking is not None and not is_alone(federation):
        raise ConfigurationError(
            "[aggregation] masked = true: a simulation hides no update from itself. Set masked = false to simulate: "
            "the means are the same but for the rounding of masked sums, docs/masked-sums.md."
        )
    if not devices:
        raise ValueError("A simulation needs at least one device.")
    return _Simulation(federation, base, devices, on_event).run()


@dataclass
class Home:
    """The files of a simulated device, and its traffic.

    Attributes:
        own: the adapter with the factor that it keeps to itself; None if there is none.
        has: hashes of the adapters that it has fetched.
        up, down: bytes that it has sent and fetched.
        finished: the final message; None before.
    """

    own: Adapter | None = None
    has: set[str] = field(default_factory=set)
    up: int = 0
    down: int = 0
    finished: Finished | None = None

    def bring(self, manifest: Manifest, blobs: Blobs) -> Adapter:
        """Return an adapter, and count its bytes if the device does not have it yet."""
        if manifest.sha256 not in self.has:
            self.has.add(manifest.sha256)
            self.down += manifest.size
        return from_bytes(blobs.get(manifest.sha256))

    def plan(self, start: RoundStart, blobs: Blobs) -> RoundPlan:
        """Return the work of a round, with all adapters that it needs."""
        adapters = {manifest.sha256: self.bring(manifest, blobs) for manifest in start.manifests}
        return make_plan(start, adapters, self.own)


def deliver(
    trained: TrainedUpdate, home: Home, plan: RoundPlan, member: rounds.Member, learning: Learning, blobs: Blobs
) -> rounds.Update:
    """Check and store a trained update, as the coordinator would; count its bytes in `home`.

    Raises:
        AdapterError: an update that the coordinator would refuse.
    """
    data = pack_update(plan, trained, learning.base_id)
    _, norm = learning.check_update(data, member, blobs.put(data))
    home.up += len(data)
    home.own = trained.adapter if plan.share is Share.A_ONLY else None
    return rounds.Update(
        manifest=make_manifest(data, role="update", name=f"update-{plan.round}"),
        member=member,
        norm=norm,
        **trained.stats.figures(),
    )


def traffic(homes: Mapping[str, Home]) -> dict[str, int]:
    """Return the bytes that all devices have sent and fetched until now."""
    return {"bytes_up": sum(h.up for h in homes.values()), "bytes_down": sum(h.down for h in homes.values())}


class _Simulation:
    def __init__(
        self,
        federation: Federation,
        base: BaseModel,
        devices: Mapping[str, SimulatedDevice],
        on_event: OnEvent | None,
    ) -> None:
        self._base = base
        self._devices = devices
        self._on_event = on_event
        self._federation, self._alone = federation, is_alone(federation)
        self._vector = values = federation.rules(base)
        if self._alone:
            federation = unmasked(federation)
            values = federation.rules(base)
        # No clock runs here: a round ends when all have delivered or been refused.
        self._rules = replace(values, min_devices=len(devices), quorum=1 / len(devices), smallest=0)
        self._blobs = MemoryBlobs()
        profiles = {name: device.profile for name, device in devices.items()}
        self._learning = Learning(federation, base, profiles.copy, self._blobs, secret=federation.seed)
        self._homes = {name: Home() for name in devices}
        self._state = rounds.State()
        self._events: list[rounds.Event] = []
        self._groups: by_sums.Groups | by_noisy_sums.Groups | None = None

    def run(self) -> dict[str, Outcome]:
        self._events = [rounds.Joined(name, device.profile) for name, device in self._devices.items()]
        while self._events:
            event = self._events.pop(0)
            self._state, actions = rounds.step(self._rules, self._state, event, 0.0)
            for action in actions:
                self._do(action)
            if isinstance(event, rounds.Aggregated) and not self._events:
                self._blobs.prune(self._state.blobs())
        if self._state.current is not None:
            refused = ", ".join(f"{name}: {code}" for name, code in sorted(self._state.current.refused.items()))
            raise NothingLearnt(f"Every update of round {self._state.current.number} was refused ({refused}).")
        return {name: self._outcome(home) for name, home in self._homes.items()}

    def _do(self, action: rounds.Action) -> None:
        match action:
            case rounds.Send(device, RoundStart() as start):
                self._work(device, start)
            case rounds.Send(device, Finished() as finished):
                self._homes[device].finished = finished
            case rounds.Send(device, Refused(about="join") as refused):
                raise Rejected(f"{device}: {refused.code}: {refused.reason}")
            case rounds.Cluster() if self._alone:
                self._events.append(self._chosen())
            case rounds.Cluster():
                self._events.append(self._learning.try_cluster(action))
            case rounds.Aggregate():
                self._events.append(self._learning.try_aggregate(action))
            case rounds.Report(event, values):
                if self._on_event:
                    self._on_event(event, {**values, **traffic(self._homes)})

    def _work(self, name: str, start: RoundStart) -> None:
        home, device = self._homes[name], self._devices[name]
        plan = home.plan(start, self._blobs)
        if self._alone and start.stage == "cluster":  # nobody may see which cluster's adapter is its own
            for lineage in self._state.clusters.values():
                if lineage.start:
                    home.bring(lineage.start, self._blobs)
        current = self._state.current
        assert current is not None, "a round was started"
        trained = device.train(plan)
        try:
            up = home.up
            update = deliver(trained, home, plan, current.cohort[name], self._learning, self._blobs)
            if self._alone:
                home.up = up + self._bytes_of(start)
        except AdapterError as error:
            offer = Offer.of(start, _NOTHING, trained.stats)
            self._events.append(rounds.Spoiled(name, offer, type(error).__name__, str(error), True))
        else:
            stats = trained.stats
            if (most := largest_weight(self._federation)) is not None:
                stats = replace(stats, pictures=min(stats.pictures, most))
            self._events.append(rounds.Stored(name, Offer.of(start, update.manifest, stats), update.norm))

    def _chosen(self) -> rounds.Clustered:
        """Return the clusters that devices choose alone; they are found once."""
        codes = {name: device.code for name, device in self._devices.items()}
        if self._groups is None:
            self._groups, up, down = found_groups(self._federation, codes)
            for home in self._homes.values():
                home.up, home.down = home.up + up, home.down + down
        return chosen(self._groups, codes)

    def _bytes_of(self, start: RoundStart) -> int:
        """Return the size of a masked vector in this round, and of the count before it."""
        slots = len(self._state.clusters) if start.stage == "cluster" else 1
        words = self._vector.words[start.share] + (slots - 1) * self._vector.slot_words[start.share]
        return 4 * (words + (slots + 1 if slots > 1 else 0))

    def _outcome(self, home: Home) -> Outcome:
        assert home.finished is not None, "the last round was closed"
        cluster = home.finished.cluster
        assert cluster is not None, "the coordinator of a simulation knows it"
        brought = [(manifest, home.bring(manifest, self._blobs)) for manifest in home.finished.adapters]
        adapters = {manifest.name: adapter for manifest, adapter in to_keep(brought, cluster, home.own)}
        if f"cluster-{cluster}" in adapters:
            adapters["cluster"] = adapters[f"cluster-{cluster}"]
        return Outcome(cluster, adapters, home.up, home.down)
