"""Membership: a device takes part in a federation, from joining to the adapters at home."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

import msgspec

from edge_sdk.adapter import Adapter, Share, from_bytes, to_bytes
from edge_sdk.errors import (
    AdapterMismatch,
    BrokerUnreachable,
    ConfigurationError,
    DeadlineExceeded,
    JournalError,
    PayloadTooLarge,
    Rejected,
    TransferError,
    UnknownFederation,
)
from edge_sdk.membership.connection import Connection, Heard, Link, Trouble
from edge_sdk.membership.home import Home
from edge_sdk.membership.journal import Progress
from edge_sdk.membership.plan import Train
from edge_sdk.membership.presence import Session
from edge_sdk.membership.trust import Acquaintance
from edge_sdk.membership.work import FOLDED, make_plan, pack_update, plan_id, to_keep, without_deadline
from edge_sdk.transport import Reminder, Settings, fresh_id
from edge_sdk.wire import (
    CoordinatorState,
    Delivered,
    DeviceProfile,
    Failed,
    Finished,
    Invitation,
    Join,
    Leave,
    Manifest,
    Offer,
    Received,
    Refused,
    RoundDone,
    RoundStart,
    Step,
    Topics,
    Welcome,
    make_manifest,
    refitted,
    shown,
)

OnEvent: TypeAlias = Callable[[dict[str, Any]], None]

# Transfers of one round's adapters that may fail in a row.
_FAILURES = 5
# Seconds after which an unanswered Join or Offer is sent again, which may be any number of times.
_REPEAT = 10.0
# Unanswered Joins before the coordinator counts as silent: some are lost, and a coordinator may be busy.
_PATIENCE = 3
# Seconds to wait for the answer that says whether this very update counts.
_CONFIRM = 12.0
# Seconds of silence before an event says what the device waits for.
SILENCE = 10.0
# Codes of refusals that may come after an update was committed.
_AFTERWARDS = frozenset({"UpdateOutlier", "UpdateLost"})
_MAX_ADAPTERS = 512 << 20  # bytes of an adapter that is fetched
_SHARED = (
    "An update of this device counts, but it is not the one that was trained here: another device has its name and "
    "its home, as of a copied card. Give each a home and a name of its own: in the copy delete device_id and "
    "journal.sqlite."
)


@dataclass(frozen=True)
class MembershipResult:
    """Result of a membership.

    Attributes:
        finished: True if the federation closed its last round; False if the device left before.
        updates: number of its updates that were committed in this session.
        cluster: its cluster; None if it never had one.
        adapters: "root", "cluster" (its own) and "cluster-<n>" (all) -> file in the home folder.
        bytes_up, bytes_down: payload bytes of this session.
    """

    finished: bool
    updates: int
    cluster: int | None
    adapters: dict[str, Path] = field(default_factory=dict)
    bytes_up: int = 0
    bytes_down: int = 0


class Membership:
    """A device's part in a federation. Use it as a context manager, or call `close`.

    Args:
        broker: its URL, or the transport's settings (for TLS, user and password); the will is filled in, and a client
            id if there is none. Their callbacks are called as well.
        federation: its name.
        device_id: this device's name in it, 1 to 64 letters, digits, '.', '_' or '-'.
        profile: the device's profile, which the coordinator gets.
        home: folder for adapters and for the state that a restart needs; one per federation.
        train: called in the thread of `run` with the plan of each round; returns the trained update.
        on_event: called in the thread of `run` with a dict of plain values (always "event" and "time") for events worth
            showing; docs/devices.md lists them. Every wait of more than ten seconds makes at least one.
        trust: the coordinator's public key, 32 bytes, if it is known from elsewhere; None trusts the first one that
            shows itself in this home, and only that one from then on.
        invitation: used up by joining, for federations that take invited devices only; it holds the coordinator's key,
            so that `trust` is not needed.

    Raises:
        MessageInvalid: a name cannot be part of a topic.
        ConfigurationError: the home cannot be written or is of another federation, or the invitation is for another
            device or federation, or states another key than `trust`.
        BrokerSettingsInvalid: the broker's URL or settings make no sense, or would have no effect.
        JournalError, DeviceBusy: the journal in it cannot be used, see `Journal`.
    """

    def __init__(
        self,
        broker: str | Settings,
        federation: str,
        device_id: str,
        profile: DeviceProfile,
        home: Path | str,
        train: Train,
        on_event: OnEvent | None = None,
        trust: bytes | None = None,
        invitation: Invitation | None = None,
    ) -> None:
        self._topics = Topics(federation)
        self._federation = federation
        self._device = device_id
        self._profile = profile
        self._train = train
        self._on_event = on_event
        if invitation and (invitation.federation, invitation.device) != (federation, device_id):
            raise ConfigurationError(
                f"The invitation is for {invitation.device!r} in {invitation.federation!r}, not for {device_id!r} in "
                f"{federation!r}: join under those names, or ask for another one."
            )
        if invitation and trust not in (None, invitation.key):
            raise ConfigurationError(
                "The invitation names another key of the coordinator than the one to trust: give one of the two, after "
                "asking the federation's operator which is right."
            )
        self._greeting = Join(profile=profile, invitation=invitation.secret if invitation else b"")
        self._home = Home(home)
        self._journal = self._home.journal()
        try:
            self._journal.check_owner(federation)
            self._coordinator = Acquaintance(federation, device_id, self._journal, self._tell)
            if trust := invitation.key if invitation else trust:
                self._journal.trust(trust)
            self._settings = broker if isinstance(broker, Settings) else Settings(url=broker)
            self._link = self._make_link(self._settings)
        except BaseException:
            self._journal.close()
            raise
        self._exposed = self._settings.exposed
        self._aside: deque[Heard] = deque()
        self._reminder = Reminder(SILENCE)
        self._waiting_for = ""  # in words
        self._cluster: int | None = None
        self._committed: set[str] = set()
        self._counted: dict[str, int] = {}  # hash of each update that was committed -> its round
        self._failures = 0
        self._unkept: JournalError | None = None
        self._answered = False  # True once the coordinator has sent anything but its retained state
        self._asking_since: float | None = None  # time of the first unanswered Join

    def _make_link(self, given: Settings) -> Link:
        session = Session(self._journal.next_epoch())
        settings = replace(given, client_id=given.client_id or fresh_id(self._device))
        return Link(settings, self._topics, self._device, session, _MAX_ADAPTERS, self._journal)

    def __enter__(self) -> Membership:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End the session and disconnect. The federation goes on without the device; a new membership resumes."""
        try:
            self._link.close()
        finally:
            self._journal.close()

    def run(self, rounds: int | None = None, *, deadline: float = 3600.0, answer: float = 30.0) -> MembershipResult:
        """Take part until the federation's last round is closed, or in so many rounds. Call it once per membership.

        If the federation has ended and all of its adapters came in an earlier session, they are put in place even when
        no broker or coordinator can be reached.

        Args:
            rounds: leave after so many committed updates, with the adapters as they are then; None stays to the end.
            deadline: longest wait, in seconds, for the coordinator's next step while other devices work.
            answer: longest wait, in seconds, for the broker and for the coordinator to show themselves.

        Raises:
            BrokerUnreachable: no connection to the broker; the message has the reason. A certificate that is not valid
                yet is tried again until `answer` is over, as clocks are set late on boards without a battery.
            AccessDenied: the broker's rules do not let this device subscribe to its topics.
            PayloadTooLarge: the broker's limit is too small for a federation, or it refuses a chunk as too large.
            UnknownFederation: nobody coordinates a federation of that name on this broker.
            Rejected: the coordinator refused the device; the message has its reason.
            CoordinatorUntrusted: the coordinator shows a key that this device does not trust.
            SignatureInvalid, MessageOutdated: a state shows the trusted key without its signature, or is an old one.
            DeadlineExceeded: the coordinator was silent for longer than `deadline`.
            LineBroken: the thread that serves transfers has died of an unexpected error.
            AdapterError: an adapter from the coordinator cannot be used on this base model.
            JournalError, DeviceBusy: the journal cannot be written, see `Journal`.
            Any error that `train` raises.
        """
        if self._exposed:
            self._tell("password_exposed", broker=self._settings.address.endpoint)
        try:
            self._link.open(answer, self._greeting, lambda error: self._tell("broker_unreachable", reason=str(error)))
            self._find_coordinator(answer)
            self._join(answer)
        except (BrokerUnreachable, UnknownFederation, DeadlineExceeded) as error:
            ending = self._ending()
            if ending is None:
                raise
            self._tell("federation_ended", reason=str(error))
            return self._settle(ending)
        until = time.monotonic() + deadline
        while True:
            heard = self._next(until, deadline)
            if isinstance(heard, RoundStart) and not self._is_outdated(heard):
                self._cluster = heard.cluster if heard.cluster is not None else self._cluster
                if rounds is None or len(self._committed) < rounds:
                    self._take_part(heard, deadline)
                elif self._bring(heard, deadline):  # the adapters that the next round starts from are the newest
                    return self._settle(heard)
            elif isinstance(heard, Finished):
                self._cluster = heard.cluster
                if self._bring(heard, deadline):
                    return self._settle(heard)
            if isinstance(heard, RoundStart | RoundDone | Finished):  # only these show that rounds go on
                until = time.monotonic() + deadline

    def _ending(self) -> Finished | None:
        """The step that has ended the federation in an earlier session, if all of its adapters came."""
        try:
            ending = self._journal.ending
            if ending is None or any(self._journal.received(manifest.sha256) is None for manifest in ending.manifests):
                return None
        except JournalError:  # closed meanwhile, or damaged: the error of the line says more
            return None
        self._cluster = ending.cluster
        return ending

    def _is_outdated(self, start: RoundStart) -> bool:
        """True if a newer RoundStart or Finished came while the device was busy."""
        while (heard := self._listen(0)) is not None:
            self._aside.append(heard)
        later = [h for h in self._aside if isinstance(h, Finished | RoundStart)]
        return any(isinstance(h, Finished) or h.round >= start.round for h in later)

    # joining --------------------------------------------------------------------------------------------------------

    def _find_coordinator(self, answer: float) -> None:
        until = time.monotonic() + answer
        self._waiting_for = f"the coordinator of {self._federation!r} to show itself on this broker"
        while not self._coordinator.online:
            self._remind(until)
            heard = self._listen(min(_REPEAT, until - time.monotonic()))
            if heard is None and time.monotonic() < until:
                continue
            if heard is None and self._coordinator.untrusted:
                raise self._coordinator.untrusted
            if heard is None:
                state = "is offline" if self._coordinator.state else "does not exist"
                raise UnknownFederation(
                    f"The coordinator of federation {self._federation!r} {state} on this broker (waited {answer:g} s). "
                    "Check the federation's name, or start it with `impasto-coordinator serve`; if it runs, the "
                    "broker's rules may keep this device from hearing it: let `impasto doctor` look at them."
                    f"{self._last_trouble()}"
                )

    def _join(self, answer: float) -> None:
        self._link.send(self._greeting)
        until = time.monotonic() + answer
        self._waiting_for = "the coordinator to answer Join"
        while True:
            heard = self._hear(until, self._greeting)
            if isinstance(heard, Welcome):
                self._tell("joined", round=heard.round, rounds=heard.rounds)
                self._waiting_for = "the next round: the coordinator starts one when enough devices are there"
                return
            if heard is None:
                raise self._silence(answer, "did not answer Join")
            if not isinstance(heard, CoordinatorState):
                self._aside.append(heard)

    # rounds ---------------------------------------------------------------------------------------------------------

    def _take_part(self, start: RoundStart, deadline: float) -> None:
        """Do one round: fetch its adapters, train unless that was done before, and send the update."""
        self._tell("round_started", round=start.round, rounds=start.rounds, stage=start.stage, cluster=start.cluster)
        plan = plan_id(self._federation, start)
        last = self._journal.outbox
        if last and last.may_count_in(start) and self._resume(last.plan, start, deadline):
            return  # left over from an earlier session
        began = time.monotonic()
        if not self._bring(start, deadline):
            return  # something newer came
        self._journal.begin(plan, start.round)
        self._home.forget_checkpoints(keep=self._home.checkpoint(plan))
        if last is None or last.plan != plan or not self._resume(plan, start, deadline):
            left = max(0.0, start.deadline - (time.monotonic() - began))
            offer, data = self._work(plan, msgspec.structs.replace(start, deadline=left))
            self._hand_in(plan, offer, data, start, deadline)
            if self._unkept is not None:
                raise self._unkept

    def _work(self, plan: str, start: RoundStart) -> tuple[Offer, bytes]:
        adapters = {manifest.sha256: self._adapter(manifest) for manifest in start.manifests}
        checkpoint = self._home.checkpoint(plan)
        asked = replace(make_plan(start, adapters, self._own()), checkpoint=checkpoint)
        trained = self._train(asked)
        data = pack_update(asked, trained, self._profile.base_id)
        offer = Offer(
            round=start.round,
            attempt=start.attempt,
            manifest=make_manifest(data, role="update", name=f"update-{start.round}"),
            pictures=trained.pictures,
            first_loss=float(trained.first_loss),
            last_loss=float(trained.last_loss),
            train_seconds=max(0.0, float(trained.seconds)),
        )
        own = to_bytes(trained.adapter) if asked.share is Share.A_ONLY else None
        try:
            self._journal.keep_update(plan, offer, data, own)
        except JournalError as error:  # the update is sent at least, before `run` raises this
            self._unkept = error
            self._tell("update_unkept", round=start.round, reason=str(error))
        else:
            with suppress(OSError):
                checkpoint.unlink()
        self._tell(
            "trained",
            round=start.round,
            first_loss=offer.first_loss,
            last_loss=offer.last_loss,
            seconds=offer.train_seconds,
        )
        return offer, data

    def _resume(self, plan: str, start: RoundStart, deadline: float) -> bool:
        """Send the update that was trained before; False if it is missing or damaged."""
        kept = self._journal.update(plan)
        if kept is None:
            return False
        offer, data = kept
        self._tell("update_resumed", round=offer.round)
        if plan == plan_id(self._federation, start):
            offer = self._as_answer(plan, offer, start)
        self._hand_in(plan, offer, data, start, deadline)
        return True

    def _as_answer(self, plan: str, offer: Offer, start: RoundStart) -> Offer:
        """The offer with the attempt of `start`, as the round may have been abandoned and opened again."""
        if offer.attempt != start.attempt:
            offer = msgspec.structs.replace(offer, attempt=start.attempt)
            self._journal.restate(plan, offer)
        return offer

    def _hand_in(self, plan: str, offer: Offer, data: bytes, start: RoundStart, deadline: float) -> None:
        """Offer the update until the coordinator has committed or refused it, or the federation has moved on.

        start: the open round. It may be some rounds later than the update's, which then counts in place of a new one.
        """
        self._note(plan, "offered")
        newer = start if start.round > offer.round else None
        self._await_answer(plan, offer, data, start.late, newer, deadline)

    def _confirm(self, done: RoundDone, deadline: float) -> None:
        """Ask whether the unanswered update is the one that counts in a closed round.

        It may be another's, of a device with the same name.
        """
        last = self._journal.outbox
        if done.accepted and last and last.progress == "offered" and last.round <= done.round:
            kept = self._journal.update(last.plan)
            if kept is not None:
                self._await_answer(last.plan, *kept, 0, None, deadline, counted=True)

    def _await_answer(
        self,
        plan: str,
        offer: Offer,
        data: bytes,
        late: int,
        newer: RoundStart | None,
        deadline: float,
        *,
        counted: bool = False,
    ) -> None:
        try:
            self._offer(plan, offer, data, late, newer, deadline, counted)
        finally:  # otherwise every unanswered update would stay in memory
            self._link.withdraw(offer.manifest.sha256)

    def _offer(
        self, plan: str, offer: Offer, data: bytes, late: int, newer: RoundStart | None, deadline: float, counted: bool
    ) -> None:
        """Offer an update until it is committed or refused, or cannot count any more.

        If the coordinator asks again for a committed update, it has either lost it or sent the request before. The
        update is offered again; the coordinator pulls it in the first case only. After a new request for the same work,
        a refusal of the earlier offer may still be on its way: one such refusal is answered by another offer.

        late: number of rounds after its own in which the update may still count.
        newer: a later round that is open, if any.
        counted: True if the coordinator has said that an update of this device counts. It may be that of another device
            with the same name; only the answer to this offer tells, so it is awaited for a moment.
        """
        manifest = refitted(offer.manifest, self._link.chunk_size)
        offer = msgspec.structs.replace(offer, manifest=manifest)
        self._waiting_for = f"the coordinator to take the update of round {offer.round}"
        self._link.offer(data, offer.manifest)
        self._link.send(offer)
        until = time.monotonic() + (_CONFIRM if counted else deadline)
        sha256 = offer.manifest.sha256
        restated = False
        end: Finished | None = None
        while True:
            heard = self._hear(until, offer)
            match heard:
                case None if counted:  # without an answer, the end of its round is the best evidence
                    self._is_committed(plan, offer)
                    break
                case None:
                    raise self._silence(deadline, f"did not take the update of round {offer.round}")
                case Delivered(manifest) if manifest.sha256 == sha256:
                    self._is_committed(plan, offer)
                    if not counted:
                        return  # a newer round that came meanwhile is the one in which it counts
                    break
                case Failed(manifest) if manifest.sha256 == sha256 and restated:
                    restated = False
                    self._link.offer(data, offer.manifest)
                    self._link.send(offer)
                case Failed(manifest, error) if manifest.sha256 == sha256:
                    self._note(plan, "refused")
                    self._tell("update_refused", round=offer.round, reason=str(error))
                    if counted:
                        self._tell("identity_shared", round=offer.round, reason=_SHARED)
                    break
                case RoundDone(round=number, accepted=accepted) if number >= offer.round:
                    self._done(heard)
                    if newer and newer.round <= number:
                        newer = None
                    if accepted:
                        counted, until = True, time.monotonic() + _CONFIRM
                        self._link.send(offer)
                    elif number >= offer.round + late:
                        break
                case Finished() if counted:
                    end = heard
                case Finished():
                    self._aside.append(heard)
                    return
                case RoundStart():
                    if plan_id(self._federation, heard) == plan:
                        if heard.attempt != offer.attempt:  # lower if the coordinator began with a fresh home
                            offer, restated = self._as_answer(plan, offer, heard), True
                            self._link.send(offer)
                        continue
                    newer = heard
                    if counted:
                        continue
                    if heard.round > offer.round + late or heard.round <= offer.round:
                        break
                    self._link.send(offer)
                case CoordinatorState(online=True):  # it restarted and has forgotten the transfer
                    self._link.send(offer)
        self._aside.extend(step for step in (newer, end) if step)

    def _note(self, plan: str, progress: Progress) -> None:
        try:
            self._journal.note(plan, progress)
        except JournalError:
            if self._unkept is None:  # otherwise the journal lacks this plan, and `run` ends soon
                raise

    def _is_committed(self, plan: str, offer: Offer) -> None:
        self._note(plan, "committed")
        self._counted[offer.manifest.sha256] = offer.round
        self._waiting_for = f"the other devices of round {offer.round}, and for the next one"
        if plan not in self._committed:
            self._committed.add(plan)
            self._tell("update_committed", round=offer.round, size=offer.manifest.size)

    def _done(self, done: RoundDone) -> None:
        self._tell("round_done", round=done.round, accepted=done.accepted, updates=done.updates)

    # adapters -------------------------------------------------------------------------------------------------------

    def _own(self) -> Adapter | None:
        data = self._journal.own()
        return from_bytes(data) if data is not None else None

    def _bring(self, step: Step, deadline: float) -> bool:
        """Fetch the step's adapters into the journal, one by one, so that memory holds one at a time.

        False if the coordinator has sent something newer meanwhile, or a transfer has failed.
        """
        manifests = step.manifests
        self._journal.note_ending(step if isinstance(step, Finished) else None)
        self._journal.forget_transfers({manifest.sha256 for manifest in manifests})
        for manifest in manifests:
            if self._journal.received(manifest.sha256) is not None:
                self._link.commit(manifest.sha256)
            elif not self._fetch(manifest, step, deadline):
                return False
        self._failures = 0
        return True

    def _fetch(self, manifest: Manifest, step: Step, deadline: float) -> bool:
        self._link.fetch(manifest, deadline)
        until = time.monotonic() + deadline
        before, self._waiting_for = self._waiting_for, f"adapter {manifest.name!r} to come"
        while True:
            heard = self._hear(until, self._greeting)
            match heard:
                case None:
                    raise self._silence(deadline, "did not send its adapters")
                case Received(came, _) if came.sha256 == manifest.sha256:
                    self._waiting_for = before
                    return True
                case Failed(failed, error) if failed.sha256 == manifest.sha256:
                    # Most likely the round is over, and its adapters are gone. Join brings the present step.
                    self._failures += 1
                    if self._failures > _FAILURES:
                        raise error
                    self._tell("transfer_failed", reason=str(error))
                    self._link.send(self._greeting)
                    return False
                case Finished() | RoundStart():
                    if without_deadline(heard) != without_deadline(step):
                        self._aside.append(heard)
                        return False

    def _settle(self, step: Step) -> MembershipResult:
        """Put the fetched adapters where drawing finds them, and leave the federation."""
        finished = isinstance(step, Finished)
        together: dict[str, list[Manifest]] = {}
        for manifest in step.manifests:
            together.setdefault(manifest.name.removesuffix(FOLDED), []).append(manifest)
        own = self._own()
        pairs = (
            (manifest, to_bytes(adapter))
            for parts in together.values()  # one at a time, as all of them may not fit into memory
            for manifest, adapter in to_keep([(part, self._adapter(part)) for part in parts], self._cluster, own)
        )
        paths = self._home.settle(pairs, self._cluster, all_there_are=finished)
        self._journal.note_ending(None)
        self._journal.forget_transfers()
        self._home.forget_checkpoints()
        if not self._link.away:
            self._link.send(Leave(reason="finished" if finished else "took part in as many rounds as it wanted"))
        result = MembershipResult(finished, len(self._committed), self._cluster, paths, self._link.up, self._link.down)
        self._tell("finished", cluster=self._cluster, updates=len(self._committed), adapters=sorted(paths))
        return result

    def _adapter(self, manifest: Manifest) -> Adapter:
        """A fetched adapter, checked to be of this base model."""
        data = self._journal.received(manifest.sha256)
        if data is None:
            raise TransferError(f"{manifest.name!r} has vanished from the home folder, or is damaged: run again.")
        adapter = from_bytes(data)
        if adapter.base_id != self._profile.base_id:
            raise AdapterMismatch(
                f"The coordinator sent an adapter of base model {str(adapter.base_id)[:12]}…, this device has "
                f"{self._profile.base_id[:12]}…. Tell the operator of federation {self._federation!r}."
            )
        return adapter

    # hearing --------------------------------------------------------------------------------------------------------

    def _next(self, until: float, deadline: float) -> Heard:
        """The next message, from those put aside or new; DeadlineExceeded after `until` (`deadline` s)."""
        heard: Heard | None
        if self._aside:
            heard = self._aside.popleft()
            self._react(heard)
        else:
            heard = self._hear(until, self._greeting)
        if heard is None:
            raise self._silence(deadline, "did not go on")
        if isinstance(heard, RoundDone):
            self._done(heard)
            self._confirm(heard, deadline)
        return heard

    def _hear(self, until: float, repeat: Join | Offer) -> Heard | None:
        """The next message or event; None after `until`. Meanwhile `repeat` is sent again every few seconds.

        Raises:
            Rejected: the coordinator refuses this device.
        """
        self._remind(until)
        while (left := until - time.monotonic()) > 0:
            heard = self._listen(min(left, _REPEAT))
            if heard is not None:
                self._react(heard)
                return heard
            self._remind(until)
            if not self._link.away:  # sending would wait for the connection
                if isinstance(repeat, Join):
                    self._asking_since = self._asking_since or time.monotonic()
                self._link.send(repeat)
        return None

    def _remind(self, until: float) -> None:
        """Make a "waiting" event from time to time, which says what the device waits for."""
        now = time.monotonic()
        away = self._link.away
        what = "the broker to be back" if away else self._waiting_for
        if (waited := self._reminder.due((what, self._waiting_for), now)) is not None:
            trouble = self._link.trouble
            if not away and (silent := self._unanswered(now)):
                trouble = f"the coordinator has not answered for {silent:.0f} s, it may have ended without a word"
            self._tell("waiting", what=what, seconds=waited, left=max(0.0, until - now), trouble=trouble)

    def _unanswered(self, now: float) -> float:
        """Seconds since the first unanswered Join; 0 while that is too short to count as silence."""
        silent = 0.0 if self._asking_since is None else now - self._asking_since
        return silent if silent >= _PATIENCE * _REPEAT else 0.0

    def _listen(self, seconds: float) -> Heard | None:
        """The next message or event within `seconds`; None if there is none. Steps without a signature are dropped.

        An adapter that came is stored, even if it is late.
        """
        until = time.monotonic() + seconds
        heard: Heard | None = None
        while heard is None and (said := self._link.hear(until - time.monotonic())) is not None:
            if isinstance(said, Connection | Trouble):
                self._note_line(said)
            else:
                heard = self._coordinator.accepted(said)
                if not isinstance(heard, CoordinatorState | None):
                    self._answered, self._asking_since = True, None
        if isinstance(heard, Refused) and not heard.about:  # it does not say which message was refused
            self._link.trouble = f"the coordinator refused a message ({heard.code}): {heard.reason}"
            self._tell("message_refused", code=heard.code, reason=heard.reason)
        if isinstance(heard, Refused) and heard.code in _AFTERWARDS and heard.about in self._counted:
            self._tell("update_refused", round=self._counted.pop(heard.about), reason=f"{heard.code}: {heard.reason}")
        if isinstance(heard, Received):
            self._journal.receive(heard.manifest, heard.data)
            self._link.commit(heard.manifest.sha256)
            self._tell("adapter_received", name=heard.manifest.name, size=heard.manifest.size)
        return heard

    def _note_line(self, of_the_line: Connection | Trouble) -> None:
        """Make an event for a change of the connection to the broker.

        Raises:
            PayloadTooLarge: the broker refused a message that must pass, and would refuse it again.
        """
        match of_the_line:
            case Connection(online=True):
                self._tell("broker_back")
            case Connection(reason=reason):
                self._tell("broker_lost", reason=reason)
            case Trouble(error) if self._link.away:
                self._tell("broker_unreachable", reason=str(error))
            case Trouble(error):
                self._tell("broker_refused", code=type(error).__name__, reason=str(error))
                if isinstance(error, PayloadTooLarge):
                    raise error

    def _react(self, heard: Heard) -> None:
        """Send Join again if the coordinator has come back; raise Rejected if it refuses this device."""
        if isinstance(heard, CoordinatorState) and self._coordinator.online:
            self._link.send(self._greeting)
        if isinstance(heard, Refused) and heard.about == "join":
            raise self._rejected(heard)

    def _rejected(self, refused: Refused) -> Rejected:
        return Rejected(f"Federation {self._federation!r} refused this device ({refused.code}): {refused.reason}")

    def _silence(self, seconds: float, what: str) -> DeadlineExceeded:
        if self._link.away:
            return DeadlineExceeded(
                f"There is no connection to the broker, so that the coordinator of {self._federation!r} {what} within "
                f"{seconds:g} s.{self._last_trouble()} Run again to resume; what was trained is kept."
            )
        state = self._coordinator.state
        if state and state.online and (not self._answered or self._unanswered(time.monotonic())):
            since = f" for {silent:.0f} s" if (silent := self._unanswered(time.monotonic())) else ""
            return DeadlineExceeded(
                f"The coordinator of {self._federation!r} {what} within {seconds:g} s. Its sign on the broker says "
                f"that it is online since {shown(state.epoch)}, but nothing else was heard of it{since}: it may have "
                f"ended without a word.{self._last_trouble()} Start `impasto-coordinator serve` again, or let "
                "`impasto doctor` look at the broker's rules."
            )
        online = "online" if self._coordinator.online else "offline"
        return DeadlineExceeded(
            f"The coordinator of {self._federation!r} ({online}) {what} within {seconds:g} s.{self._last_trouble()} "
            "Run again to resume; what was trained is kept."
        )

    def _last_trouble(self) -> str:
        what_failed = str(self._coordinator.untrusted or self._link.trouble)
        return f" Last trouble: {what_failed}" if what_failed else ""

    def _tell(self, event: str, **values: Any) -> None:
        if self._on_event:
            traffic = {"up": self._link.up, "down": self._link.down}
            self._on_event({"event": event, "time": time.time(), "device": self._device, **values, "bytes": traffic})
