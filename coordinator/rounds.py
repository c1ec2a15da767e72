"""The rounds of a federation as a pure state machine: `step(rules, state, event, now) -> (state, actions)`.

No clock, no socket, no disk: `service` feeds it what happened and carries out what it answers, tests and simulations do
the same without a network. The state can be written down with msgspec at any point and taken up again with `Restarted`.

    gathering ──enough devices──> clustering ──Clustered──> training ──quorum or deadline──> aggregating
        ^                                                      │ nobody delivered                │ Aggregated, Failed
        └──────────────────────────────────────────────────────┴─────────────<──────────────────┤
                                                                              after the last round v
                                                                                             finished

Cascade: rounds 1 to `root_rounds` train the root adapter with all devices, the others train every cluster's adapter on
top of the frozen root. Promises, tested by tests/coordinator/test_rounds_properties.py: an update that was answered
Committed counts exactly once, unless its round makes nothing (Failed), which its device is told; round numbers never
fall, and a round ends at the latest (1 + extensions) deadlines after it started if anybody delivered.

`now` is in seconds of any clock that does not jump back; times in the state are of that clock.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Literal, TypeAlias

import msgspec
from msgspec.structs import replace

from edge_sdk.adapter import Share
from edge_sdk.wire.messages import (
    MAX_ADAPTERS,
    Committed,
    DeviceProfile,
    Finished,
    Manifest,
    Message,
    Offer,
    Refused,
    RoundDone,
    RoundStart,
    Stage,
    Welcome,
)

Phase = Literal["gathering", "clustering", "training", "aggregating", "finished"]


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """What the federation file decides about rounds; see `config.Federation` for the meaning and the units.

    shares: what devices train and send in a stage's first, second, … round; the last one holds for all that follow.
    """

    base_id: str
    min_devices: int
    rounds: int
    root_rounds: int
    quorum: float
    deadline: float
    grace: float
    extensions: int
    rank: int
    min_rank: int
    steps: int
    batch_size: int
    learning_rate: float
    seed: int
    max_update: int
    shares: tuple[Share, ...] = (Share.BOTH,)


# --- the state ------------------------------------------------------------------------------------------------------


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """A device that has joined. `left`: said goodbye; `offline_since`: None while it is there; `placed`: it came after
    the last clustering and has its cluster by its prompt code alone."""

    max_rank: int
    epoch: int = 0
    offline_since: float | None = None
    left: bool = False
    cluster: int | None = None
    placed: bool = False
    trace: Trace | None = None


class Member(msgspec.Struct, frozen=True):
    """A device's part in a round: the cluster that it works for (None: the root), its rank, where it starts (None: the
    common initialisation of `seed`), what it trains and sends."""

    cluster: int | None
    rank: int
    start: Manifest | None
    seed: int
    share: Share


class Trace(msgspec.Struct, frozen=True):
    """Where a device's last counted update lies, and how it was trained: evidence for clustering."""

    update: str
    member: Member


class Update(msgspec.Struct, frozen=True):
    """An update that counts. `pictures` is its weight."""

    manifest: Manifest
    pictures: int
    first_loss: float
    last_loss: float
    train_seconds: float


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """The round that is open. `spoiled`: devices whose update was refused for what it holds; nobody waits for them."""

    number: int
    stage: Stage
    deadline: float
    extended: int = 0
    cohort: dict[str, Member]
    updates: dict[str, Update] = {}
    spoiled: frozenset[str] = frozenset()


class State(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the coordinator must not forget. `round` is the last round that was closed.

    clusters: the adapter of each cluster that devices go on from, None: from a fresh initialisation; root_folded and
    folded: what a method has laid under the root and under each cluster's adapter while they are trained; next_cluster:
    the next identity to give out; margin: how well the clusters fitted when they were found, None if not known;
    code_size: bytes of a prompt code, set by the first device.
    """

    phase: Phase = "gathering"
    round: int = 0
    devices: dict[str, Device] = {}
    current: Round | None = None
    root: Manifest | None = None
    clusters: dict[int, Manifest | None] = {}
    root_folded: Manifest | None = None
    folded: dict[int, Manifest] = {}
    next_cluster: int = 0
    margin: float | None = None
    code_size: int | None = None

    def blobs(self) -> set[str]:
        """The hashes of all blobs that may still be needed."""
        kept = (self.root, self.root_folded, *self.clusters.values(), *self.folded.values())
        needed = {manifest.sha256 for manifest in kept if manifest}
        for device in self.devices.values():
            if device.trace:
                start = device.trace.member.start
                needed |= {device.trace.update} | ({start.sha256} if start else set())
        if self.current:
            needed |= {update.manifest.sha256 for update in self.current.updates.values()}
            needed |= {member.start.sha256 for member in self.current.cohort.values() if member.start}
        return needed


# --- what happens ---------------------------------------------------------------------------------------------------


class Joined(msgspec.Struct, frozen=True):
    device: str
    profile: DeviceProfile


class Left(msgspec.Struct, frozen=True):
    device: str
    reason: str = ""


class Seen(msgspec.Struct, frozen=True):
    """Birth or death of a device's session."""

    device: str
    online: bool
    epoch: int


class Offered(msgspec.Struct, frozen=True):
    device: str
    offer: Offer


class Stored(msgspec.Struct, frozen=True):
    """An offered update was pulled, checked, and lies on disk."""

    device: str
    offer: Offer


class Spoiled(msgspec.Struct, frozen=True):
    """An offered update could not be had. `final`: offering it again would not help."""

    device: str
    offer: Offer
    code: str
    reason: str
    final: bool


class Clustered(msgspec.Struct, frozen=True):
    """`parents`: for each cluster that is new, the one that most of its devices come from; `margin`: how well these
    clusters fitted when they were found; `placed`: devices that got theirs by prompt code alone; `figures`: to report.
    """

    assignment: dict[str, int]
    parents: dict[int, int] = {}
    margin: float | None = None
    placed: frozenset[str] = frozenset()
    figures: dict[str, Any] = {}


class Placed(msgspec.Struct, frozen=True):
    """A cluster was found for a device that came too late to train."""

    device: str
    cluster: int


class Aggregated(msgspec.Struct, frozen=True):
    """What a round has made: the root, or the clusters that changed.

    None as a value: the devices start afresh. `root_folded` and `folded` are all that lies under it now.
    """

    round: int
    root: Manifest | None = None
    root_folded: Manifest | None = None
    clusters: dict[int, Manifest | None] = {}
    folded: dict[int, Manifest] = {}
    figures: dict[str, Any] = {}


class Failed(msgspec.Struct, frozen=True):
    """What Cluster or Aggregate asked for round `round` cannot be computed, and could not be by asking again."""

    round: int
    code: str
    reason: str


class Tick(msgspec.Struct, frozen=True):
    """Nothing but time has passed."""


class Restarted(msgspec.Struct, frozen=True):
    """The coordinator came back with the state that it had saved; clocks start anew."""


Event: TypeAlias = (
    Joined | Left | Seen | Offered | Stored | Spoiled | Clustered | Placed | Aggregated | Failed | Tick | Restarted
)


# --- what is to be done ---------------------------------------------------------------------------------------------


class Send(msgspec.Struct, frozen=True):
    device: str
    message: Message


class Fetch(msgspec.Struct, frozen=True):
    """Pull and check the offered update, then say Stored or Spoiled."""

    device: str
    offer: Offer


class Cluster(msgspec.Struct, frozen=True):
    """Group these devices, then say Clustered or Failed. `round` is the round that will use it; `margin`: what the last
    Clustered said."""

    round: int
    devices: dict[str, Device]
    next_cluster: int
    margin: float | None = None


class Place(msgspec.Struct, frozen=True):
    """Find the nearest cluster for a device, then say Placed."""

    device: str
    assignment: dict[str, int]


class Aggregate(msgspec.Struct, frozen=True):
    """Aggregate the updates of a closed round, then say Aggregated or Failed.

    `last`: nobody goes on training what comes out, so it shall be one whole adapter with nothing folded away.
    """

    round: Round
    last: bool
    root_folded: Manifest | None
    clusters: dict[int, Manifest | None]
    folded: dict[int, Manifest]


class Report(msgspec.Struct, frozen=True):
    """Something worth telling people: a name and plain values."""

    event: str
    values: dict[str, Any]


Action: TypeAlias = Send | Fetch | Cluster | Place | Aggregate | Report


# --- the machine ----------------------------------------------------------------------------------------------------


def step(rules: Rules, state: State, event: Event, now: float) -> tuple[State, list[Action]]:
    """One step. Never raises for anything that a device can cause; what it refuses, it refuses by name."""
    turn = _Turn(rules, state, now)
    turn.take(event)
    turn.settle()
    return turn.state, turn.actions


def next_wake(rules: Rules, state: State, now: float) -> float | None:
    """When a Tick is due, if nothing else happens before."""
    if state.phase != "training" or not state.current:
        return None
    away = (state.devices[name].offline_since for name in state.current.cohort)
    given_up = (since + rules.grace for since in away if since is not None)
    return min([state.current.deadline, *(time for time in given_up if time > now)])


def all_served(rules: Rules, state: State, now: float) -> bool:
    """Whether the last round is closed and every device has said goodbye or been away for too long."""
    return state.phase == "finished" and not any(_present(rules, device, now) for device in state.devices.values())


def wants(state: State, device: str, offer: Offer) -> bool:
    """Whether an offered update is worth pulling: it would count if it came now, and its device has not left."""
    current = state.current
    return (
        state.phase == "training"
        and current is not None
        and offer.round == current.number
        and device in current.cohort
        and device not in current.updates
        and device not in current.spoiled
        and not state.devices[device].left
    )


def _present(rules: Rules, device: Device, now: float) -> bool:
    return not device.left and (device.offline_since is None or now - device.offline_since < rules.grace)


class _Turn:
    """One step in the making: the state so far and the actions so far."""

    def __init__(self, rules: Rules, state: State, now: float) -> None:
        self.rules = rules
        self.state = state
        self.now = now
        self.actions: list[Action] = []

    def take(self, event: Event) -> None:
        match event:
            case Joined():
                self._joined(event)
            case Left():
                self._left(event)
            case Seen():
                self._seen(event)
            case Offered():
                self._offered(event)
            case Stored():
                self._stored(event)
            case Spoiled():
                self._spoiled(event)
            case Clustered():
                self._clustered(event)
            case Placed():
                self._placed(event)
            case Aggregated():
                self._aggregated(event)
            case Failed():
                self._failed(event)
            case Restarted():
                self._restarted()
            case Tick():
                pass

    def settle(self) -> None:
        """Do what has become possible by the event or by time alone: open a round, close one, extend it."""
        if self.state.phase == "training":
            self._settle_training()
        if self.state.phase == "gathering":
            self._settle_gathering()

    # devices --------------------------------------------------------------------------------------------------------

    def _joined(self, event: Joined) -> None:
        name, profile = event.device, event.profile
        if problem := self._problem_of(profile):
            self._refuse(name, *problem, about="join")
            return
        known = self.state.devices.get(name, Device(max_rank=profile.max_rank))
        new = name not in self.state.devices or known.left
        self._put_device(name, replace(known, max_rank=profile.max_rank, left=False, offline_since=None))
        if self.state.code_size is None:
            self._set(code_size=len(profile.prompt_code))
        if new:
            self._report("device_joined", device=name, pictures=profile.pictures)
        self._send(name, Welcome(round=self.state.round, rounds=self.rules.rounds))
        current = self.state.current
        if self.state.phase == "finished":
            self._hand_back(name)
        elif self.state.phase == "training" and current and name in current.cohort and name not in current.updates:
            self._send_start(name)

    def _problem_of(self, profile: DeviceProfile) -> tuple[str, str] | None:
        """The name of the reason why such a device cannot take part, and the reason in words."""
        rules, size = self.rules, self.state.code_size
        if profile.base_id != rules.base_id:
            return "BaseModelMismatch", (
                f"This federation is of base model {rules.base_id[:12]}…, the device has {profile.base_id[:12]}…: "
                "load the bundle of this federation, or join another one."
            )
        if profile.max_rank < rules.min_rank:
            return "RankTooSmall", f"This federation's method needs rank {rules.min_rank}; raise max_rank to it."
        if size is not None and len(profile.prompt_code) != size:
            return "PromptCodeMismatch", (
                f"The prompt code has {len(profile.prompt_code)} bytes, those of this federation have {size}: "
                "encode with the text encoder of the bundle."
            )
        return None

    def _left(self, event: Left) -> None:
        known = self.state.devices.get(event.device)
        if known and not known.left:
            self._put_device(event.device, replace(known, left=True))
            self._report("device_left", device=event.device, reason=event.reason)

    def _seen(self, event: Seen) -> None:
        known = self.state.devices.get(event.device)
        if known is None or event.epoch < known.epoch:
            return  # never joined, or the late death of an older session
        was_online = known.offline_since is None
        since = None if event.online else (self.now if was_online else known.offline_since)
        self._put_device(event.device, replace(known, epoch=event.epoch, offline_since=since))
        if was_online != event.online and not known.left:
            self._report("device_online" if event.online else "device_offline", device=event.device)

    # updates --------------------------------------------------------------------------------------------------------

    def _offered(self, event: Offered) -> None:
        name, offer = event.device, event.offer
        if self._counted_before(name, offer):
            self._send(name, Committed(sha256=offer.manifest.sha256))
        elif problem := self._problem_with(name, offer):
            self._refuse(name, *problem, about=offer.manifest.sha256)
        else:
            self.actions.append(Fetch(name, offer))

    def _stored(self, event: Stored) -> None:
        name, offer = event.device, event.offer
        if self._counted_before(name, offer):
            self._send(name, Committed(sha256=offer.manifest.sha256))
            return
        if problem := self._problem_with(name, offer):  # the round may have closed while the update was on its way
            self._refuse(name, *problem, about=offer.manifest.sha256)
            return
        current = self._open_round()
        update = Update(offer.manifest, offer.pictures, offer.first_loss, offer.last_loss, offer.train_seconds)
        self._set(current=replace(current, updates={**current.updates, name: update}))
        self._send(name, Committed(sha256=offer.manifest.sha256))
        self._report(
            "update_counted",
            round=current.number,
            device=name,
            cluster=current.cohort[name].cluster,
            pictures=update.pictures,
            first_loss=update.first_loss,
            last_loss=update.last_loss,
            train_seconds=update.train_seconds,
            size=update.manifest.size,
        )

    def _spoiled(self, event: Spoiled) -> None:
        name, offer, current = event.device, event.offer, self.state.current
        self._refuse(name, event.code, event.reason, about=offer.manifest.sha256)
        if event.final and current and offer.round == current.number and name in current.cohort:
            self._set(current=replace(current, spoiled=current.spoiled | {name}))

    def _counted_before(self, name: str, offer: Offer) -> bool:
        """Whether this very update counts already: its acknowledgement was lost, or it was sent twice."""
        sha256, current = offer.manifest.sha256, self.state.current
        if current and offer.round == current.number:
            counted = current.updates.get(name)
            return counted is not None and counted.manifest.sha256 == sha256
        known = self.state.devices.get(name)
        return bool(known and known.trace and known.trace.update == sha256 and offer.round <= self.state.round)

    def _problem_with(self, name: str, offer: Offer) -> tuple[str, str] | None:
        """The name of the reason why an offer cannot be counted now, and the reason in words."""
        current = self.state.current
        if name not in self.state.devices:
            return "UnknownDevice", "Say Join before offering an update."
        if not math.isfinite(offer.first_loss) or not math.isfinite(offer.last_loss):
            return "OfferInvalid", "The losses are not finite numbers."
        if offer.manifest.role != "update":
            return "OfferInvalid", f"An offer brings an update, not a {offer.manifest.role} adapter."
        if offer.manifest.size > self.rules.max_update:
            return "UpdateTooLarge", (
                f"{offer.manifest.size} bytes, but an update of rank {self.rules.rank} has at most "
                f"{self.rules.max_update}: send float32 factors of the announced rank."
            )
        open_number = current.number if current else self.state.round + 1
        if offer.round > open_number:
            return "FutureUpdate", f"Round {offer.round} has not begun; wait for its RoundStart."
        if offer.round < open_number or current is None or self.state.phase != "training":
            return "StaleUpdate", f"Round {offer.round} is closed; wait for the next RoundStart."
        if name not in current.cohort:
            return "NotInCohort", f"The device is not in the cohort of round {offer.round}; wait for a RoundStart."
        if name in current.updates:
            return "DuplicateUpdate", f"Another update of this device already counts in round {offer.round}."
        if name in current.spoiled:
            return "DuplicateUpdate", f"An update of this device was already refused in round {offer.round}."
        return None

    # rounds ---------------------------------------------------------------------------------------------------------

    def _settle_gathering(self) -> None:
        needed = self.rules.min_devices
        if self.state.round:  # a federation under way goes on with fewer than it started with
            needed = max(1, math.ceil(self.rules.quorum * needed))
        present = [name for name, device in self.state.devices.items() if _present(self.rules, device, self.now)]
        if len(present) >= needed:
            self._set(phase="clustering")
            self._ask_for_clusters()

    def _ask_for_clusters(self) -> None:
        state = self.state
        self.actions.append(Cluster(state.round + 1, state.devices, state.next_cluster, state.margin))

    def _clustered(self, event: Clustered) -> None:
        if self.state.phase != "clustering":
            return
        devices = {
            name: replace(device, cluster=event.assignment.get(name, device.cluster), placed=name in event.placed)
            for name, device in self.state.devices.items()
        }
        alive = sorted({device.cluster for device in devices.values() if device.cluster is not None})
        adapters = self.state.clusters
        clusters = {c: adapters.get(c, adapters.get(event.parents.get(c, -1))) for c in alive}
        under = self.state.folded
        folded = {c: under[origin] for c in alive if (origin := c if c in adapters else event.parents.get(c)) in under}
        self._set(
            devices=devices,
            clusters=clusters,
            folded=folded,
            next_cluster=max([self.state.next_cluster, *(c + 1 for c in alive)]),
            margin=event.margin,
        )
        assignment = dict(sorted(event.assignment.items()))
        self._report("clusters", round=self.state.round + 1, assignment=assignment, **event.figures)
        self._open()

    def _open(self) -> None:
        number = self.state.round + 1
        stage: Stage = "root" if number <= self.rules.root_rounds else "cluster"
        cohort = {}
        for name, device in self.state.devices.items():
            if not _present(self.rules, device, self.now) or device.cluster is None:
                continue
            cluster = device.cluster if stage == "cluster" else None
            start = self.state.root if cluster is None else self.state.clusters[cluster]
            rank = min(self.rules.rank, device.max_rank)
            cohort[name] = Member(cluster, rank, start, self._seed(number), self._share(number, start))
        if not cohort:  # everybody left while the clusters were being computed
            self._set(phase="gathering")
            return
        current = Round(number=number, stage=stage, deadline=self.now + self.rules.deadline, cohort=cohort)
        self._set(phase="training", current=current)
        self._report("round_started", round=number, rounds=self.rules.rounds, stage=stage, cohort=sorted(cohort))
        for name in cohort:
            self._send_start(name)

    def _seed(self, number: int) -> int:
        """One initialisation for all clusters, so that their factors can be compared; another one in the root's rounds,
        and in every round of a method that starts each of them afresh."""
        in_root = number <= self.rules.root_rounds
        under = self.state.root_folded if in_root else self.state.folded
        return self.rules.seed + (not in_root) + (2 * number if under else 0)

    def _share(self, number: int, start: Manifest | None) -> Share:
        shares = self.rules.shares
        turn = number - 1 if number <= self.rules.root_rounds else number - self.rules.root_rounds - 1
        return shares[min(turn, len(shares) - 1)] if start else shares[0]

    def _send_start(self, name: str) -> None:
        current, rules = self._open_round(), self.rules
        member = current.cohort[name]
        if member.cluster is None:
            frozen = [self.state.root_folded]
        else:
            frozen = [self.state.root, self.state.root_folded, self.state.folded.get(member.cluster)]
        message = RoundStart(
            round=current.number,
            rounds=rules.rounds,
            stage=current.stage,
            cluster=member.cluster,
            frozen=[manifest for manifest in frozen if manifest],
            start=member.start,
            share=member.share,
            rank=member.rank,
            seed=member.seed,
            steps=rules.steps,
            batch_size=rules.batch_size,
            learning_rate=rules.learning_rate,
            deadline=max(0.0, current.deadline - self.now),
        )
        self._send(name, message)

    def _settle_training(self) -> None:
        current, rules = self._open_round(), self.rules
        staying = [name for name in current.cohort if not self.state.devices[name].left or name in current.updates]
        awaited = [
            name
            for name in staying
            if name not in current.updates
            and name not in current.spoiled
            and _present(rules, self.state.devices[name], self.now)
        ]
        enough = len(current.updates) >= max(1, math.ceil(rules.quorum * len(staying)))
        late = self.now >= current.deadline
        if enough and (late or not awaited):
            self._close()
        elif late and awaited and current.extended < rules.extensions:
            self._extend(awaited)
        elif late and current.updates:
            self._close()
        elif late or not staying:
            self._report("round_abandoned", round=current.number, reason="no device delivered an update")
            self._set(phase="gathering", current=None)

    def _extend(self, awaited: Iterable[str]) -> None:
        current = self._open_round()
        extended = replace(current, extended=current.extended + 1, deadline=self.now + self.rules.deadline)
        self._set(current=extended)
        awaited = sorted(awaited)
        self._report("round_extended", round=current.number, awaited=awaited, updates=len(current.updates))
        for name in awaited:
            self._send_start(name)

    def _close(self) -> None:
        self._set(phase="aggregating")
        self._ask_for_aggregation()

    def _ask_for_aggregation(self) -> None:
        current, state = self._open_round(), self.state
        last = current.number in (self.rules.root_rounds, self.rules.rounds)
        self.actions.append(Aggregate(current, last, state.root_folded, state.clusters, state.folded))

    def _aggregated(self, event: Aggregated) -> None:
        current = self.state.current
        if self.state.phase != "aggregating" or not current or event.round != current.number:
            return
        devices = dict(self.state.devices)
        for name, update in current.updates.items():
            devices[name] = replace(devices[name], trace=Trace(update.manifest.sha256, current.cohort[name]))
        self._set(
            phase="gathering" if current.number < self.rules.rounds else "finished",
            round=current.number,
            devices=devices,
            current=None,
            root=event.root if current.stage == "root" else self.state.root,
            root_folded=event.root_folded if current.stage == "root" else self.state.root_folded,
            clusters={**self.state.clusters, **event.clusters},
            folded={c: m for c, m in self.state.folded.items() if c not in event.clusters} | event.folded,
        )
        self._report_closed(current, event.figures)
        self._after(current, accepted=frozenset(current.updates))

    def _failed(self, event: Failed) -> None:
        """Go on without: devices keep their clusters, or the round ends with the adapters as they were. Its number is
        used up: the same devices with the same updates would fail again for ever."""
        current, phase = self.state.current, self.state.phase
        if phase == "clustering" and event.round == self.state.round + 1:
            self._report("clustering_failed", round=event.round, code=event.code, reason=event.reason)
            known = [device.cluster for device in self.state.devices.values() if device.cluster is not None]
            common = min(known, default=self.state.next_cluster)
            devices = self.state.devices.items()
            self._clustered(Clustered({n: common if d.cluster is None else d.cluster for n, d in devices}))
        elif phase == "aggregating" and current and event.round == current.number:
            self._report("round_failed", round=event.round, code=event.code, reason=event.reason)
            done = current.number >= self.rules.rounds
            self._set(phase="finished" if done else "gathering", round=current.number, current=None)
            self._after(current, accepted=frozenset())

    def _after(self, closed: Round, *, accepted: frozenset[str]) -> None:
        """Tell the cohort that its round is over, and everybody if it was the last one."""
        for name in closed.cohort:
            self._send(name, RoundDone(round=closed.number, accepted=name in accepted, updates=len(accepted)))
        if self.state.phase == "finished":
            self._report("finished", rounds=self.rules.rounds, clusters=sorted(self.state.clusters))
            for name in self.state.devices:
                self._hand_back(name)

    def _report_closed(self, closed: Round, figures: dict[str, Any]) -> None:
        updates = closed.updates.values()
        pictures = sum(update.pictures for update in updates)
        self._report(
            "round_closed",
            round=closed.number,
            stage=closed.stage,
            updates=len(closed.updates),
            missing=sorted(set(closed.cohort) - set(closed.updates)),
            first_loss=sum(update.first_loss * update.pictures for update in updates) / pictures,
            last_loss=sum(update.last_loss * update.pictures for update in updates) / pictures,
            **figures,
        )

    # after the last round -------------------------------------------------------------------------------------------

    def _hand_back(self, name: str) -> None:
        """Send a device the adapters to keep; find its cluster first if it has none."""
        device = self.state.devices[name]
        if device.left:
            return
        if device.cluster is None:
            assignment = {n: d.cluster for n, d in self.state.devices.items() if d.cluster is not None}
            self.actions.append(Place(name, assignment))
            return
        clusters = [device.cluster, *(number for number in sorted(self.state.clusters) if number != device.cluster)]
        # Nothing is folded away any more, unless the last round failed.
        pairs = [(self.state.root, self.state.root_folded)]
        pairs += [(self.state.clusters.get(number), self.state.folded.get(number)) for number in clusters]
        adapters = [manifest for pair in pairs for manifest in pair if manifest][:MAX_ADAPTERS]
        self._send(name, Finished(rounds=self.state.round, cluster=device.cluster, adapters=adapters))

    def _placed(self, event: Placed) -> None:
        device = self.state.devices.get(event.device)
        if device and device.cluster is None and self.state.phase == "finished":
            self._put_device(event.device, replace(device, cluster=event.cluster))
            self._report("device_placed", device=event.device, cluster=event.cluster)
            self._hand_back(event.device)

    # restart --------------------------------------------------------------------------------------------------------

    def _restarted(self) -> None:
        """Start all clocks anew, and ask again for what was being computed. Devices say Join when they see us."""
        devices = {
            name: replace(device, offline_since=None if device.offline_since is None else self.now)
            for name, device in self.state.devices.items()
        }
        self._set(devices=devices)
        if self.state.current:
            self._set(current=replace(self.state.current, deadline=self.now + self.rules.deadline))
        if self.state.phase == "clustering":
            self._ask_for_clusters()
        elif self.state.phase == "aggregating":
            self._ask_for_aggregation()

    # helpers --------------------------------------------------------------------------------------------------------

    def _open_round(self) -> Round:
        assert self.state.current is not None, f"no round is open in phase {self.state.phase}"
        return self.state.current

    def _set(self, **changes: Any) -> None:
        self.state = replace(self.state, **changes)

    def _put_device(self, name: str, device: Device) -> None:
        if self.state.devices.get(name) != device:  # what changes nothing need not be saved
            self._set(devices={**self.state.devices, name: device})

    def _send(self, name: str, message: Message) -> None:
        self.actions.append(Send(name, message))

    def _refuse(self, name: str, code: str, reason: str, *, about: str) -> None:
        self._send(name, Refused(code=code, reason=reason, about=about))
        self._report("refused", device=name, code=code, reason=reason)

    def _report(self, event: str, **values: Any) -> None:
        self.actions.append(Report(event, values))
