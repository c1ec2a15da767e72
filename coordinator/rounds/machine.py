"""The rounds of a federation as a pure state machine: `step(rules, state, event, now) -> (state, actions)`.

No clock, no socket, no disk: `coordinator.server` feeds it events and carries out its actions; tests and simulations do
the same without a network. The state can be saved at any point, see `records`, and continued with `Restarted`.

An event of one device costs the same among a hundred and among ten thousand devices: the state is immutable, but its
tables share what does not change (`table`), and devices are counted, not looked through (`crowd`). Only what concerns
all devices takes time in proportion: a round that opens, closes or is extended, a restart, a loss.

    gathering ──enough devices──> clustering ──Clustered──> training ──quorum or deadline──> aggregating
        ^                                                      │ nobody delivered                │ Aggregated, Failed
        └──────────────────────────────────────────────────────┴─────────────<──────────────────┤
                                                                              after the last round v
                                                                                             finished

Cascade: rounds 1 to `root_rounds` train the root adapter with all devices; the others train every cluster's adapter on
top of the frozen root. Guarantees, tested by tests/coordinator/test_rounds_properties.py:

- An update that was acknowledged with Committed counts exactly once, unless its round fails (Failed), or the update
  turns out to be an outlier or is lost; its device is told of each.
- No update counts for another cluster, or from another start, than it was trained for, although an abandoned round is
  opened again under its number.
- Round numbers never fall, and a round in which anybody delivered ends at the latest (1 + extensions) deadlines after
  it started.

On a broker without access rules, others may send presence in a device's name. So presence never does more than end the
waiting for a device: a device taken for gone is told so, and takes part again with one message. See `patience` for the
rules of waiting.

`now` is in seconds of any clock that does not jump back; times in the state are of that clock.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from typing import Any

from msgspec.structs import replace

from coordinator.rounds.actions import Action, Aggregate, Cluster, Fetch, Place, Report, Send
from coordinator.rounds.events import (
    Aggregated,
    Clustered,
    Event,
    Failed,
    Forgotten,
    Greeted,
    Heard,
    Joined,
    Left,
    Lost,
    Offered,
    Placed,
    Reconnected,
    Restarted,
    Seen,
    Served,
    Spoiled,
    Stored,
    Tick,
)
from coordinator.rounds.greetings import owes_update
from coordinator.rounds.losses import (
    ADAPTERS_LOST,
    UPDATE_LOST,
    lost_lineages,
    lost_updates,
    round_is_lost,
    without,
)
from coordinator.rounds.moves import is_legal
from coordinator.rounds.offers import counted_before, may_count_later, member_for, problem_with
from coordinator.rounds.opening import opened, round_start
from coordinator.rounds.outliers import UPDATE_OUTLIER, outliers
from coordinator.rounds.patience import (
    LEAVING,
    awaited,
    enough_to_begin,
    has_members,
    has_quorum,
    is_vain,
    is_waiting,
    present,
    sets_pace,
)
from coordinator.rounds.places import is_at_work
from coordinator.rounds.profiles import problem_with_code
from coordinator.rounds.questions import HAS_LEFT, PRESENCE_LOST, Questioned
from coordinator.rounds.sessions import born, is_death, is_doubled
from coordinator.rounds.state import Device, Lineage, Past, Round, Rules, State, Trace, Update
from coordinator.rounds.table import Table
from edge_sdk.wire import (
    MAX_ADAPTERS,
    Committed,
    DeviceProfile,
    Finished,
    Message,
    Offer,
    Refused,
    RoundDone,
    Welcome,
)


def step(rules: Rules, state: State, event: Event, now: float) -> tuple[State, list[Action]]:
    """Return the state after one event, and the actions. Never raises for a device's fault: that is refused by name."""
    turn = _Turn(rules, _at(state, now), now)
    turn.take(event)
    turn.settle()
    return turn.state, turn.actions


def _at(state: State, now: float) -> State:
    """Return the state with its devices counted at that time."""
    crowd = state.at(now)
    return state if crowd is state.crowd else replace(state, crowd=crowd)


class _Turn:
    """One step in progress: the state so far and the actions so far."""

    def __init__(self, rules: Rules, state: State, now: float) -> None:
        self.rules = rules
        self.state = state
        self.now = now
        self.actions: list[Action] = []

    def take(self, event: Event) -> None:
        match event:
            case Joined():
                self._joined(event)
            case Greeted():
                self._greeted(event)
            case Left():
                self._left(event)
            case Forgotten():
                self._forgotten(event)
            case Heard():
                self._heard(event)
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
            case Lost():
                self._lost(event)
            case Served():
                self._served(event)
            case Restarted():
                self._restarted()
            case Reconnected():
                self._reconnected(event)
            case Tick():
                pass

    def settle(self) -> None:
        """Make the transitions that the event or the time has made possible: open a round, close it, extend it."""
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
        known = self.state.devices.get(name, Device(max_rank=profile.max_rank, until=self.now))
        new = name not in self.state.devices or known.left
        known = replace(known, max_rank=profile.max_rank, left=False)
        if event.presence and event.presence.online:
            known = replace(born(known, event.presence.epoch), until=None, away=False)
        elif known.until is not None:
            known = replace(known, until=self.now + self.rules.grace, away=False)
        self._put_device(name, known)
        if new:
            self._report("device_joined", device=name, pictures=profile.pictures)
        self._send(name, Welcome(round=self.state.round, rounds=self.rules.rounds))
        if known.seen and known.until is not None:
            self._question(name, PRESENCE_LOST)
        current = self.state.current
        if self.state.phase == "finished":
            self._hand_back(name)
        elif self.state.phase == "training" and current and name in current.cohort and name not in current.updates:
            self._send_start(name)

    def _greeted(self, event: Greeted) -> None:
        """Answer as `_joined`, but tell only what the device may have missed."""
        name, known = event.device, self.state.devices.get(event.device)
        if known is None or known.left:
            return
        if known.until is not None:
            self._put_device(name, replace(known, until=self.now + self.rules.grace, away=False))
        self._send(name, Welcome(round=self.state.round, rounds=self.rules.rounds))
        if known.seen and known.until is not None:
            self._question(name, PRESENCE_LOST)
        if self.state.phase == "finished" and not known.served:
            self._hand_back(name)
        elif self.state.phase == "training" and owes_update(self.state, name):
            self._send_start(name)

    def _problem_of(self, profile: DeviceProfile) -> tuple[str, str] | None:
        """Return the reason why a device with this profile cannot take part, as its name and in words, or None."""
        rules = self.rules
        if profile.base_id != rules.base_id:
            return "BaseModelMismatch", (
                f"This federation is of base model {rules.base_id[:12]}…, the device has {profile.base_id[:12]}…: "
                "load the bundle of this federation, or join another one."
            )
        if profile.max_rank < rules.min_rank:
            return "RankTooSmall", f"This federation's method needs rank {rules.min_rank}; raise max_rank to it."
        return problem_with_code(rules, profile)

    def _left(self, event: Left) -> None:
        name, known = event.device, self.state.devices.get(event.device)
        if known is None:
            return
        if event.shut_out:
            self._put_device(name, replace(known, left=True, until=self.now))
        elif not known.left:
            self._put_device(name, replace(known, left=True, until=self.now + min(LEAVING, self.rules.grace)))
            if self.state.phase != "finished":
                self._question(name, HAS_LEFT)
        if not known.left:
            self._report("device_left", device=name, reason=event.reason)

    def _forgotten(self, event: Forgotten) -> None:
        state, name = self.state, event.device
        current = state.current
        if name not in state.devices or is_at_work(self.rules, state, name, self.now):
            return
        if current and name in current.cohort:  # nothing comes of that round
            self._abandon()
        past = {
            number: replace(closed, absent=Table(closed.absent).drop(name))
            for number, closed in self.state.past.items()
        }
        self._change([name], devices=self.state.table.drop(name), past=past)
        self._report("device_forgotten", device=name)

    def _heard(self, event: Heard) -> None:
        """Mark a device as present for `grace` seconds; after that its presence decides."""
        name, known = event.device, self.state.devices.get(event.device)
        if known is None or known.until is None or (known.left and not event.offers):
            return
        self._put_device(name, replace(known, left=False, until=self.now + self.rules.grace, away=False))
        if known.left:
            self._report("device_back", device=name)

    def _seen(self, event: Seen) -> None:
        """Take in a birth or a death. A birth is believed whatever its epoch, as the device's clock may be wrong."""
        name, known = event.device, self.state.devices.get(event.device)
        if known is None:
            return
        if event.online:
            if is_doubled(known, event.epoch):
                self._report("device_doubled", device=name)
            until = known.until if known.left else None
            self._put_device(name, replace(born(known, event.epoch), until=until, away=False))
            if known.until is not None and not known.left:
                self._report("device_online", device=name)
        elif known.until is None and is_death(known, event.epoch):
            self._put_device(name, replace(known, until=self.now + self.rules.grace, away=True))
            self._report("device_offline", device=name)
            if self.state.phase != "finished":
                self._question(name, PRESENCE_LOST)

    # updates --------------------------------------------------------------------------------------------------------

    def _offered(self, event: Offered) -> None:
        if self._can_count(event.device, event.offer):
            self.actions.append(Fetch(event.device, event.offer))

    def _stored(self, event: Stored) -> None:
        name, offer = event.device, event.offer
        if not self._can_count(name, offer):  # the round may have closed while the update was on its way
            return
        current, member = self._open_round(), member_for(self.rules, self.state, name, offer)
        assert member is not None, "it can count"
        update = Update(
            manifest=offer.manifest,
            member=member,
            pictures=offer.pictures,
            first_loss=offer.first_loss,
            last_loss=offer.last_loss,
            train_seconds=offer.train_seconds,
            norm=event.norm,
            late=current.number - offer.round,
        )
        pace = self.now - current.opened if not update.late and sets_pace(self.state, name, self.now) else current.pace
        counted = replace(current, updates=Table(current.updates).put(name, update), pace=pace)
        self._change([name], current=counted)
        self._send(name, Committed(sha256=offer.manifest.sha256))
        self._report(
            "update_counted",
            round=current.number,
            device=name,
            cluster=member.cluster,
            late=update.late,
            pictures=update.pictures,
            first_loss=update.first_loss,
            last_loss=update.last_loss,
            train_seconds=update.train_seconds,
            size=update.manifest.size,
        )

    def _can_count(self, name: str, offer: Offer) -> bool:
        """Return True if an update would count now; otherwise tell its device why not."""
        if counted_before(self.state, name, offer):
            self._send(name, Committed(sha256=offer.manifest.sha256))
        elif may_count_later(self.rules, self.state, name, offer):
            pass  # the device repeats its offer
        elif problem := problem_with(self.rules, self.state, name, offer):
            self._refuse(name, *problem, about=offer.manifest.sha256)
        else:
            return True
        return False

    def _spoiled(self, event: Spoiled) -> None:
        name, offer = event.device, event.offer
        self._refuse(name, event.code, event.reason, about=offer.manifest.sha256)
        if event.final and member_for(self.rules, self.state, name, offer):
            current = self._open_round()
            refused = Table(current.refused).put(name, event.code)
            self._change([name], current=replace(current, refused=refused))

    # rounds ---------------------------------------------------------------------------------------------------------

    def _settle_gathering(self) -> None:
        if present(self.state, self.now) >= enough_to_begin(self.rules, self.state):
            self._set(phase="clustering")
            self._ask_for_clusters()

    def _ask_for_clusters(self) -> None:
        """Ask for clusters of the present devices, and of absent ones with a counted update."""
        state = self.state
        devices = {n: device for n, device in state.devices.items() if device.proven or device.is_present(self.now)}
        self.actions.append(Cluster(state.round + 1, devices, state.next_cluster, state.margin, state.clusters))

    def _clustered(self, event: Clustered) -> None:
        if self.state.phase != "clustering":
            return
        devices = {}
        for name, device in self.state.devices.items():
            assigned, placed = event.assignment.get(name, device.cluster), name in event.placed
            same = (assigned, placed) == (device.cluster, device.placed)
            devices[name] = device if same else replace(device, cluster=assigned, placed=placed)
        alive = sorted({device.cluster for device in devices.values() if device.cluster is not None})
        known = self.state.clusters
        inherited = {c: known.get(event.parents.get(c, -1), Lineage()) for c in alive}
        self._set(
            devices=devices,
            clusters={c: known.get(c) or event.begin.get(c) or inherited[c] for c in alive},
            next_cluster=max([self.state.next_cluster, *(c + 1 for c in alive)]),
            margin=event.margin,
        )
        assignment = dict(sorted(event.assignment.items()))
        self._report("clusters", round=self.state.round + 1, assignment=assignment, **event.figures)
        self._open()

    def _open(self) -> None:
        current = opened(self.rules, self.state, self.now)
        if current is None:  # everybody left while the clusters were being computed
            self._set(phase="gathering")
            return
        self._set(phase="training", current=current, attempt=current.attempt)
        self._report(
            "round_started",
            round=current.number,
            rounds=self.rules.rounds,
            stage=current.stage,
            cohort=sorted(current.cohort),
        )
        for name in current.cohort:
            self._send_start(name)

    def _send_start(self, name: str) -> None:
        self._send(name, round_start(self.rules, self.state, name, self.now))

    def _settle_training(self) -> None:
        current, rules, now = self._open_round(), self.rules, self.now
        missing, late = is_waiting(rules, self.state, now), now >= current.deadline
        if has_quorum(rules, self.state, now) and (late or not missing):
            self._close()
        elif late and missing and current.extended < rules.extensions:
            self._extend(awaited(rules, self.state, now))
        elif late and current.updates:
            self._close()
        elif late or not has_members(self.state, now) or is_vain(rules, self.state, now):
            self._abandon()

    def _abandon(self, reason: str = "no device delivered an update") -> None:
        """End the open round, in which no update counts; it is opened anew under its number."""
        current = self._open_round()
        if UPDATE_LOST in current.refused.values():
            self._fail_training(UPDATE_LOST, "all of its updates were lost")
            return
        self._report("round_abandoned", round=current.number, reason=reason)
        self._set(phase="gathering", current=None)

    def _fail_training(self, code: str, reason: str) -> None:
        """End the open round in which updates have counted: each counts under one number, once."""
        current = self._open_round()
        self._report("round_failed", round=current.number, code=code, reason=reason)
        self._end(current)
        self._after(current, accepted=frozenset())

    def _extend(self, awaited: Iterable[str]) -> None:
        current = self._open_round()
        deadline = self.now + self.rules.deadline
        trial = deadline if current.probation >= current.deadline and not current.updates else current.probation
        self._set(current=replace(current, extended=current.extended + 1, deadline=deadline, probation=trial))
        awaited = sorted(awaited)
        self._report("round_extended", round=current.number, awaited=awaited, updates=len(current.updates))
        for name in awaited:
            self._send_start(name)

    def _close(self) -> None:
        self._refuse_outliers()
        self._set(phase="aggregating")
        self._ask_for_aggregation()

    def _refuse_outliers(self) -> None:
        current = self._open_round()
        found = outliers(current.number, current.updates)
        if not found:
            return
        self._set(
            current=replace(
                current,
                updates={name: update for name, update in current.updates.items() if name not in found},
                refused={**current.refused, **dict.fromkeys(found, UPDATE_OUTLIER)},
            )
        )
        for name, reason in found.items():
            self._refuse(name, UPDATE_OUTLIER, reason, about=current.updates[name].manifest.sha256)

    def _ask_for_aggregation(self) -> None:
        current, state = self._open_round(), self.state
        last = current.number in (self.rules.root_rounds, self.rules.rounds)
        self.actions.append(Aggregate(current, last, state.root, state.clusters))

    def _aggregated(self, event: Aggregated) -> None:
        current = self.state.current
        if self.state.phase != "aggregating" or not current or event.round != current.number:
            return
        devices = dict(self.state.devices)
        for name, update in current.updates.items():
            devices[name] = replace(devices[name], trace=Trace(update.manifest.sha256, update.member))
        self._set(
            devices=devices, root=event.root or self.state.root, clusters={**self.state.clusters, **event.clusters}
        )
        self._end(current)
        self._report_closed(current, event.figures)
        self._after(current, accepted=frozenset(current.updates))

    def _end(self, current: Round) -> None:
        """Close the round and its number. Members that have not delivered may do so for `late` more rounds."""
        number, late = current.number, self.rules.late
        past = {**self.state.past, number: Past(current.attempt, current.absent)} if late else {}
        self._set(
            phase="gathering" if number < self.rules.rounds else "finished",
            round=number,
            current=None,
            past={n: closed for n, closed in past.items() if n > number - late},
            pace=self.state.pace if current.pace is None else current.pace,
            ends=self.now + self.rules.deadline if number >= self.rules.rounds else None,
        )

    def _failed(self, event: Failed) -> None:
        """Continue without the answer: devices keep their clusters, or the round ends with the adapters as they were.

        The round's number is used up, because the same devices with the same updates would fail again without end.
        """
        current, phase = self.state.current, self.state.phase
        if phase == "clustering" and event.round == self.state.round + 1:
            self._report("clustering_failed", round=event.round, code=event.code, reason=event.reason)
            known = [device.cluster for device in self.state.devices.values() if device.cluster is not None]
            common = min(known, default=self.state.next_cluster)
            devices = self.state.devices.items()
            self._clustered(Clustered({n: common if d.cluster is None else d.cluster for n, d in devices}))
        elif phase == "aggregating" and current and event.round == current.number:
            self._report("round_failed", round=event.round, code=event.code, reason=event.reason)
            self._end(current)
            self._after(current, accepted=frozenset())

    def _after(self, closed: Round, *, accepted: frozenset[str]) -> None:
        """Tell the members that their round is over, and all devices if it was the last one."""
        for name in sorted(closed.cohort.keys() | closed.updates.keys()):
            self._send(name, RoundDone(round=closed.number, accepted=name in accepted, updates=len(accepted)))
        if self.state.phase == "finished":
            self._report("finished", rounds=self.rules.rounds, clusters=sorted(self.state.clusters))
            for name in sorted(self.state.devices):
                self._hand_back(name)

    def _report_closed(self, closed: Round, figures: dict[str, Any]) -> None:
        updates = closed.updates.values()
        self._report(
            "round_closed",
            round=closed.number,
            stage=closed.stage,
            updates=len(closed.updates),
            late={name: update.late for name, update in closed.updates.items() if update.late},
            missing=sorted(set(closed.cohort) - set(closed.updates)),
            refused=dict(sorted(closed.refused.items())),
            first_loss=statistics.median(update.first_loss for update in updates),
            last_loss=statistics.median(update.last_loss for update in updates),
            **figures,
        )

    # after the last round -------------------------------------------------------------------------------------------

    def _hand_back(self, name: str) -> None:
        """Send a device the adapters to keep; if it has no cluster, ask for one first."""
        device = self.state.devices[name]
        if device.left:
            return
        if device.cluster is None:
            assignment = {n: d.cluster for n, d in self.state.devices.items() if d.cluster is not None}
            self.actions.append(Place(name, assignment))
            return
        others = [number for number in sorted(self.state.clusters) if number != device.cluster]
        lineages = [self.state.root, *(self.state.clusters.get(n, Lineage()) for n in (device.cluster, *others))]
        # Nothing is folded any more, unless the last round failed.
        adapters = [manifest for lineage in lineages for manifest in lineage.adapters][:MAX_ADAPTERS]
        self._put_device(name, replace(device, served=False))  # true if it was served before rounds were added
        self._send(name, Finished(rounds=self.state.round, cluster=device.cluster, adapters=adapters))

    def _placed(self, event: Placed) -> None:
        device = self.state.devices.get(event.device)
        if device and device.cluster is None and self.state.phase == "finished":
            self._put_device(event.device, replace(device, cluster=event.cluster))
            self._report("device_placed", device=event.device, cluster=event.cluster)
            self._hand_back(event.device)

    def _served(self, event: Served) -> None:
        known = self.state.devices.get(event.device)
        if known and self.state.phase == "finished":
            self._put_device(event.device, replace(known, served=True))

    # loss -----------------------------------------------------------------------------------------------------------

    def _lost(self, event: Lost) -> None:
        """Continue without the lost blobs. After the last round the state is kept: a backup can restore them."""
        lost = event.blobs & self.state.blobs()
        if not lost:
            if self.state.phase == "clustering":  # this was the answer, about blobs that nobody needs any more
                self._ask_for_clusters()
            return
        names = lost_lineages(self.state, lost)
        finished, over = self.state.phase == "finished", round_is_lost(self.state, lost)
        if names:
            self._report("adapters_lost", names=names, anew=not finished)
        if finished:
            return
        gone = lost_updates(self.state, lost)
        self.state = without(self.state, lost)
        if self.state.phase == "clustering":
            self._ask_for_clusters()
        if self.state.phase == "training" and over:
            self._give_up_round()
            self.state = without(self.state, lost)  # again, as the closed round is now among those with late updates
        elif self.state.phase == "training":
            self._forget_updates(gone)

    def _give_up_round(self) -> None:
        """End the open round, whose adapters are lost."""
        reason = "adapters that it needs are lost"
        if self._open_round().updates:
            self._fail_training(ADAPTERS_LOST, reason)
        else:
            self._abandon(reason)

    def _forget_updates(self, devices: Iterable[str]) -> None:
        """Discard lost updates, and tell their devices."""
        for name in devices:
            current = self._open_round()
            update = current.updates[name]
            kept = {other: counted for other, counted in current.updates.items() if other != name}
            self._set(current=replace(current, updates=kept, refused={**current.refused, name: UPDATE_LOST}))
            reason = f"The coordinator has lost this update of round {current.number}: it does not count."
            self._refuse(name, UPDATE_LOST, reason, about=update.manifest.sha256)

    # restart --------------------------------------------------------------------------------------------------------

    def _restarted(self) -> None:
        """Start all clocks anew, and ask again for the answer that was being computed.

        Present devices will be heard: they send Join when they see the coordinator, and the broker has retained
        presence.
        """
        until = self.now + self.rules.grace
        devices = {
            name: replace(device, until=self.now if device.left else until)
            for name, device in self.state.devices.items()
        }
        self._set(devices=devices)
        deadline = self.now + self.rules.deadline
        if self.state.current:
            self._set(current=replace(self.state.current, opened=self.now, deadline=deadline, probation=deadline))
        if self.state.phase == "finished":
            self._set(ends=deadline)
        if self.state.phase == "clustering":
            self._ask_for_clusters()
        elif self.state.phase == "aggregating":
            self._ask_for_aggregation()

    def _reconnected(self, event: Reconnected) -> None:
        """Give devices without presence since the reconnection `grace` seconds.

        A device that is alive shows presence again as soon as the broker is back, or the broker has retained it. The
        others may have died while nobody could report it.
        """
        until = self.now + self.rules.grace
        devices = {
            name: replace(device, until=until) if device.until is None and name not in event.shown else device
            for name, device in self.state.devices.items()
        }
        self._set(devices=devices)

    # helpers --------------------------------------------------------------------------------------------------------

    def _open_round(self) -> Round:
        assert self.state.current is not None, f"no round is open in phase {self.state.phase}"
        return self.state.current

    def _set(self, **changes: Any) -> None:
        """Change the state. New devices, or another open round, are counted anew: for changes of many devices."""
        assert is_legal(self.state.phase, phase := changes.get("phase", self.state.phase)), f"moves to {phase}"
        self.state = _at(replace(self.state, **changes), self.now)

    def _change(self, names: Iterable[str], **changes: Any) -> None:
        """Change the devices, or their parts in the open round, of these names only."""
        state = self.state
        devices, current = changes.get("devices", state.devices), changes.get("current", state.current)
        assert isinstance(devices, Table)
        self.state = replace(state, crowd=state.at(self.now).after(devices, current, names), **changes)

    def _put_device(self, name: str, device: Device) -> None:
        if self.state.devices.get(name) != device:  # an unchanged device need not be saved
            self._change([name], devices=self.state.table.put(name, device))

    def _send(self, name: str, message: Message) -> None:
        self.actions.append(Send(name, message))

    def _refuse(self, name: str, code: str, reason: str, *, about: str) -> None:
        self._send(name, Refused(code=code, reason=reason, about=about))
        self._report("refused", device=name, code=code, reason=reason)

    def _question(self, name: str, said: Questioned) -> None:
        """Tell a device that it is taken for gone; if somebody else caused that, the device contradicts."""
        self._send(name, Refused(code=said.code, reason=said.reason, about=said.about))

    def _report(self, event: str, **values: Any) -> None:
        self.actions.append(Report(event, values))
