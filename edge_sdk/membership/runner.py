"""The running membership: feeds the device's machine with what arrives, and carries out its actions.

One loop, in the owner's thread. It takes all that has arrived before it begins a training, so that a newer step makes
an older one's work void. The journal is written before anything that follows from it is said.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from edge_sdk.adapter import Adapter, Share, beginning, from_bytes, to_bytes
from edge_sdk.errors import (
    AccessDenied,
    AdapterMismatch,
    ImpastoError,
    JournalError,
    MembershipStopped,
    MessageInvalid,
    PayloadTooLarge,
    PrivacyRefused,
    TransferError,
)
from edge_sdk.membership import rounds
from edge_sdk.membership.giving_up import Circumstances, error_of
from edge_sdk.membership.home import Home
from edge_sdk.membership.journal import Journal
from edge_sdk.membership.line import Connection, Heard, Link, Trouble
from edge_sdk.membership.participant import Participant
from edge_sdk.membership.trust import Acquaintance
from edge_sdk.membership.work import FOLDED, make_plan, pack_update, to_keep
from edge_sdk.privacy import (
    MOST_CLUSTERINGS,
    Question,
    answer,
    counts_question,
    noisy_answer,
    part_of_noise,
    read_question,
)
from edge_sdk.secure_aggregation import (
    RANDOM_BYTES,
    FromCoordinator,
    decode,
    is_count,
    layout_of,
    sizes_of,
    slots_of,
    terms_of,
    vector_of,
)
from edge_sdk.secure_aggregation import to_bytes as to_words
from edge_sdk.transport import Reminder
from edge_sdk.wire import (
    ClusterStart,
    CoordinatorState,
    Delivered,
    Failed,
    Finished,
    Leave,
    Manifest,
    Offer,
    Received,
    Refused,
    RoundDone,
    RoundStart,
    Step,
    Sum,
    Welcome,
    make_manifest,
    refitted,
)

# Seconds of silence before an event says what the device waits for.
SILENCE = 10.0
# Messages that are taken before anything else has its turn.
_AT_ONCE = 100


@dataclass(frozen=True)
class MembershipResult:
    """Result of a membership.

    Attributes:
        finished: True if the federation closed its last round; False if the device left before, or was stopped.
        updates: number of its updates that were committed in this session.
        cluster: its cluster; None if it never had one.
        adapters: "root", "cluster" (its own) and "cluster-<n>" (all) -> file in the home folder, as far as this
            session has put them there: none if it was stopped.
        bytes_up, bytes_down: payload bytes of this session.
    """

    finished: bool
    updates: int
    cluster: int | None
    adapters: dict[str, Path] = field(default_factory=dict)
    bytes_up: int = 0
    bytes_down: int = 0


class Runner:
    """Runs the machine of one session. See `Membership.run` for what is raised, and for `on_turn`."""

    def __init__(
        self,
        rules: rounds.Rules,
        device: Participant,
        link: Link,
        journal: Journal,
        home: Home,
        coordinator: Acquaintance,
        on_turn: Callable[[], None],
    ) -> None:
        self._rules = rules
        self._device = device
        self._link = link
        self._journal = journal
        self._home = home
        self._coordinator = coordinator
        self._tell = device.tell
        self._on_turn = on_turn
        self._state = rounds.State(
            outbox=journal.outbox, sum=journal.masked_sum, answered_last=journal.answered, spent=journal.spent
        )
        self._reminder = Reminder(SILENCE)
        self._to_train: rounds.Train | None = None
        # The update that the journal could not take, as (plan, content), and the reason.
        self._unkept: tuple[str, bytes] | None = None
        self._unkept_for: JournalError | None = None
        self._paths: dict[str, Path] = {}

    def run(self) -> MembershipResult:
        """Take part until the device is home, or is stopped."""
        self._feed(rounds.Opened())
        while not self._is_home:
            self._on_turn()
            more = self._take_some()
            if self._device.stop.is_set():
                self._feed(rounds.Stop())
            elif not self._is_home and not (more and self._to_train):
                self._go_on()
        return self._result()

    def leave(self) -> MembershipResult:
        """End a membership that was stopped before it could begin."""
        self._feed(rounds.Stop())
        return self._result()

    def settle(self, ending: Finished) -> MembershipResult:
        """Put the adapters of a federation in place that has ended before this session."""
        self._feed(rounds.Alone(ending))
        return self._result()

    def ending(self) -> Finished | None:
        """The step that has ended the federation in an earlier session, if all of its adapters came."""
        try:
            ending = self._journal.ending
            if ending is None or any(
                self._journal.content_of(manifest.sha256) is None for manifest in ending.manifests
            ):
                return None
        except JournalError:  # closed meanwhile, or damaged: the error of the line says more
            return None
        return ending

    @property
    def _is_home(self) -> bool:
        return self._state.phase == "home"

    # the loop -------------------------------------------------------------------------------------------------------

    def _take_some(self) -> bool:
        """Take what has arrived; True if there may be more. A flood of messages does not stop the machine's clock."""
        for _ in range(_AT_ONCE):
            heard = self._link.hear(0)
            if heard is None:
                return False
            self._take(heard)
            if self._is_home or self._device.stop.is_set():
                return False
        return True

    def _go_on(self) -> None:
        """Do what is due: train, let the machine look at the time, or wait for what comes."""
        if self._to_train is not None and self._state.phase == "training":
            self._train(self._to_train)
            return
        self._remind()
        now, wake = time.monotonic(), rounds.next_wake(self._state)
        if now >= wake:
            self._feed(rounds.Tick())
        elif (heard := self._link.hear(min(wake - now, SILENCE))) is not None:
            self._take(heard)

    def _take(self, heard: Heard) -> None:
        event = self._event(heard)
        if event is not None:
            self._feed(event)

    def _feed(self, event: rounds.Event) -> None:
        events = deque([event])
        while events:
            self._state, actions = rounds.step(self._rules, self._state, events.popleft(), time.monotonic())
            for action in actions:
                if (following := self._act(action)) is not None:
                    events.append(following)
        if self._unkept_for is not None and self._state.phase != "handing_in":
            raise self._unkept_for

    def _event(self, heard: Heard) -> rounds.Event | None:
        """The machine's event for what was heard; None if it is none, or is refused. An adapter is stored first."""
        if isinstance(heard, Connection | Trouble):
            return self._note_line(heard)
        accepted = self._coordinator.accepted(heard)
        match accepted:
            case Received(manifest, data):
                self._journal.receive(manifest, data)
                self._link.commit(manifest.sha256)
                self._tell("adapter_received", name=manifest.name, size=manifest.size)
                return rounds.Stored(manifest.sha256)
            case Delivered(manifest):
                return rounds.Delivered(manifest.sha256)
            case Failed(manifest, error):
                return rounds.Failed(manifest.sha256, error)
            case Sum(content=content):
                return self._sum_heard(content)
            case Refused(about=""):
                self._link.trouble = f"the coordinator refused a message ({accepted.code}): {accepted.reason}"
                return accepted
            case CoordinatorState(online=True):
                self._agree(accepted)
                return accepted
            case RoundStart(masking=None) if self._device.masked_only or self._device.chooses_alone:
                raise PrivacyRefused(
                    f"Federation {self._rules.federation!r} asks for the update of round {accepted.round} by itself, "
                    "and the owner of this device allows it in masked sums only: nothing of it was sent. To allow it, "
                    "join without masked_only=True (`impasto join` without --masked-only), and another level than "
                    "'local'."
                )
            case RoundStart() | ClusterStart() | Finished():
                return accepted if self._is_of_level(accepted) else None
            case CoordinatorState() | Welcome() | RoundDone() | Refused():
                return accepted
        return None

    def _agree(self, shown: CoordinatorState) -> None:
        noise = None if isinstance(shown.noise, msgspec.UnsetType) else shown.noise
        self._device.agree(self._rules.federation, shown.level, masked=shown.masked is True, noise=noise)

    def _is_of_level(self, step: Step) -> bool:
        """True if a step asks for what the federation's level allows; another one is told, and nothing comes of it."""
        alone = self._device.chooses_alone
        if alone and isinstance(step, RoundStart | Finished) and step.cluster is not None:
            reason = (
                f"A {type(step).__name__} names cluster {step.cluster} for this device, and at this federation's level "
                "the device chooses its cluster alone: nobody else can know it."
            )
        elif not alone and (isinstance(step, ClusterStart) or step.centroids):
            reason = (
                f"A {type(step).__name__} lets this device choose its cluster, and this federation's level is another: "
                "nothing comes of it. Tell the operator of the federation."
            )
        elif isinstance(step, ClusterStart) and step.noise != self._device.noise:
            reason = (
                "A question asks for an answer with other noise than the federation's state says: nothing is sent. "
                "Tell the operator of the federation."
            )
        elif not isinstance(step, ClusterStart) and not self._may_choose(step.centroids):
            reason = (
                f"A {type(step).__name__} has other clusters to choose from than the {MOST_CLUSTERINGS} sets that this "
                "device has chosen among: its choices would tell its taste. Nothing is sent. Tell the operator of the "
                "federation."
            )
        else:
            return True
        self._tell("step_refused", code=PrivacyRefused.__name__, reason=reason)
        return False

    def _may_choose(self, centroids: bytes) -> bool:
        return not centroids or self._journal.choose_among(centroids, MOST_CLUSTERINGS)

    def _sum_heard(self, content: bytes) -> rounds.Event | None:
        try:
            message = decode(content)
        except MessageInvalid as error:
            self._tell("sum_refused", code=type(error).__name__, reason=str(error))
            return None
        return rounds.SumHeard(message) if isinstance(message, FromCoordinator) else None

    def _note_line(self, of_the_line: Connection | Trouble) -> rounds.Event | None:
        """Tell of a change of the connection to the broker.

        Raises:
            PayloadTooLarge, AccessDenied: the broker refused a message that must pass, and would refuse it again.
        """
        match of_the_line:
            case Connection(online=True):
                self._tell("broker_back")
                return rounds.Line(online=True)
            case Connection(reason=reason):
                self._tell("broker_lost", reason=reason)
                return rounds.Line(online=False)
            case Trouble(error) if self._link.away:
                self._tell("broker_unreachable", reason=str(error))
            case Trouble(error):
                self._tell("broker_refused", code=type(error).__name__, reason=str(error))
                if isinstance(error, PayloadTooLarge | AccessDenied):
                    raise error
        return None

    def _remind(self) -> None:
        """Tell from time to time what the device waits for."""
        now, away, waits_for = time.monotonic(), self._link.away, rounds.awaited(self._rules, self._state)
        what = "the broker to be back" if away else waits_for
        if (waited := self._reminder.due((what, waits_for), now)) is not None:
            trouble = self._link.trouble
            if not away and (silent := rounds.unanswered(self._state, now)):
                trouble = f"the coordinator has not answered for {silent:.0f} s, it may have ended without a word"
            left = max(0.0, self._state.until - now)
            self._tell("waiting", what=what, seconds=waited, left=left, trouble=trouble)

    # actions --------------------------------------------------------------------------------------------------------

    def _act(self, action: rounds.Action) -> rounds.Event | None:
        match action:
            case rounds.SayJoin():
                self._link.send(self._device.greeting)
            case rounds.SayHello(number):
                device = self._device
                self._link.send(device.greeter.hello(device.greeting.profile, device.epoch, number))
            case rounds.SayOffer(offer):
                self._link.send(self._fitted(offer))
            case rounds.SayLeave(reason):
                if not self._link.away:  # sending would wait for the connection
                    self._link.send(Leave(reason=reason))
            case rounds.SaySum(message):
                self._link.send(message)
            case rounds.HandIn(plan, offer):
                return self._hand_in(plan, offer)
            case rounds.HandInVector(data, offer):
                self._hand_over(data, offer)
            case rounds.Withdraw(sha256):
                self._link.withdraw(sha256)
            case rounds.Bring(manifest, seconds):
                return self._bring(manifest, seconds)
            case rounds.Prepare(step):
                self._journal.note_ending(step if isinstance(step, Finished) else None)
                self._journal.forget_transfers({manifest.sha256 for manifest in step.manifests})
            case rounds.Begin(plan, number):
                self._journal.begin(plan, number)
                self._home.forget_checkpoints(keep=self._home.checkpoint(plan))
            case rounds.Note(plan, progress):
                self._journalled(lambda: self._journal.note(plan, progress))
            case rounds.Restate(plan, offer):
                self._journalled(lambda: self._journal.restate(plan, offer))
            case rounds.KeepSum(state, vector, answered, spent):
                self._journal.keep_sum(state, vector=vector, answered=answered, spent=spent)
            case rounds.Train():
                self._to_train = action
            case rounds.Draw(plan, start):
                return self._draw(plan, start)
            case rounds.MakeVector(plan, start):
                return self._make_vector(plan, start)
            case rounds.PutInPlace(step):
                return self._put_in_place(step.manifests, finished=isinstance(step, Finished))
            case rounds.Tell(event, values):
                self._tell(event, **values)
            case rounds.NobodyThere() | rounds.Silent() | rounds.TurnedAway() | rounds.Stuck():
                return self._give_up(action)
        return None

    def _fitted(self, offer: Offer) -> Offer:
        return msgspec.structs.replace(offer, manifest=refitted(offer.manifest, self._link.chunk_size))

    def _hand_in(self, plan: str, offer: Offer) -> rounds.Event | None:
        data = self._content(plan)
        if data is None:
            return rounds.Vanished(plan)
        self._hand_over(data, offer)
        return None

    def _hand_over(self, data: bytes, offer: Offer) -> None:
        fitted = self._fitted(offer)
        self._link.offer(data, fitted.manifest)
        self._link.send(fitted)

    def _content(self, plan: str) -> bytes | None:
        """The update of a plan; None if it is missing or damaged."""
        if self._unkept is not None and self._unkept[0] == plan:
            return self._unkept[1]
        kept = self._journal.update(plan)
        return None if kept is None else kept[1]

    def _bring(self, manifest: Manifest, seconds: float) -> rounds.Event | None:
        if self._journal.content_of(manifest.sha256) is None:
            self._link.fetch(manifest, seconds)
            return None
        self._link.commit(manifest.sha256)
        return rounds.Stored(manifest.sha256, anew=False)

    def _journalled(self, write: Callable[[], None]) -> None:
        try:
            write()
        except JournalError:
            if self._unkept is None:  # otherwise the journal lacks this plan, and `run` ends soon
                raise

    def _give_up(self, why: rounds.GiveUp) -> rounds.Event:
        """Raise the error, unless nobody is there and the federation has ended before this session."""
        error = self._error(why)
        left_over = isinstance(why, rounds.NobodyThere | rounds.Silent) and self._coordinator.untrusted is not error
        ending = self.ending() if left_over and self._state.phase in ("seeking", "joining") else None
        if ending is None:
            raise error
        self._tell("federation_ended", reason=str(error))
        return rounds.Alone(ending)

    def _error(self, why: rounds.GiveUp) -> ImpastoError:
        return error_of(
            why,
            Circumstances(
                self._rules.federation,
                self._link.away,
                self._link.trouble,
                self._coordinator.state,
                self._coordinator.untrusted,
                self._state.answered,
                rounds.unanswered(self._state, time.monotonic()),
            ),
        )

    # training -------------------------------------------------------------------------------------------------------

    def _train(self, order: rounds.Train) -> None:
        """Train, keep the update in the journal, and only then feed it."""
        self._to_train = None
        start, checkpoint = order.start.of_cluster(self._state.cluster), self._home.checkpoint(order.plan)
        adapters = {manifest.sha256: self._adapter(manifest) for manifest in start.manifests}
        asked = replace(make_plan(start, adapters, self._own()), checkpoint=checkpoint)
        try:
            trained = self._device.train(asked)
        except MembershipStopped:
            if not self._device.stop.is_set():
                raise
            return  # the checkpoint stays for the next session
        base_id, masked = self._device.greeting.profile.base_id, start.masking is not None
        data = pack_update(asked, trained, base_id, masked=masked)
        manifest = make_manifest(data, role="update", name=f"update-{start.round}")
        offer = Offer.of(start, manifest, trained.stats)
        own = to_bytes(trained.adapter) if asked.share is Share.A_ONLY else None
        try:
            self._journal.keep_update(order.plan, offer, data, own)
        except JournalError as error:  # the update is sent at least, before `run` raises this
            self._unkept, self._unkept_for = (order.plan, data), error
            self._tell("update_unkept", round=start.round, reason=str(error))
        else:
            with suppress(OSError):
                checkpoint.unlink()
        self._feed(rounds.Trained(order.plan, offer))

    # masked sums ----------------------------------------------------------------------------------------------------

    def _draw(self, plan: str, start: RoundStart | ClusterStart) -> rounds.Event:
        """Draw the random numbers for a masked sum of this update's numbers, or of answers to a question."""
        question = _question(start)
        if question is not None:
            words = question.words
        else:
            data = self._content(plan)
            if data is None or not isinstance(start, RoundStart) or start.masking is None:
                return rounds.Vanished(plan)
            words = layout_of(sizes_of(from_bytes(data)), start.masking, start.share, slots_of(start)).words
        return rounds.Drawn(plan, terms_of(self._rules.federation, start, words), os.urandom(RANDOM_BYTES))

    def _make_vector(self, plan: str, start: RoundStart | ClusterStart) -> rounds.Event:
        """Make the vector of what training has changed, with its figures, or of the answer to a question."""
        question = _question(start)
        if question is not None and isinstance(start, ClusterStart) and start.noise is not None:
            variance = part_of_noise(question, start.noise, self._state.sum.honest)
            return rounds.VectorMade(plan, to_words(noisy_answer(question, self._rules.code, variance)))
        if question is not None:
            return rounds.VectorMade(plan, to_words(answer(question, self._rules.code)))
        data, work = self._content(plan), self._state.outbox
        assert isinstance(start, RoundStart), "others ask questions"
        if data is None or start.masking is None or work is None or work.offer is None:
            return rounds.Vanished(plan)
        cluster = self._state.cluster
        slot = start.slots[cluster] if start.slots and cluster is not None else 0
        slots, own = slots_of(start), start.of_cluster(cluster)
        update = from_bytes(data)
        begin = [own.start] if own.start else []
        asked = make_plan(
            msgspec.structs.replace(own, frozen=[]), {manifest.sha256: self._adapter(manifest) for manifest in begin}
        )
        shapes = {name: factors.shape for name, factors in update.layers.items()}
        before = beginning(asked.start, shapes, asked.rank, asked.seed, asked.share)
        vector = vector_of(update, before, work.offer.stats, start.masking, start.share, slot, slots)
        return rounds.VectorMade(plan, vector)

    def _own(self) -> Adapter | None:
        data = self._journal.own()
        return from_bytes(data) if data is not None else None

    def _adapter(self, manifest: Manifest) -> Adapter:
        """A fetched adapter, checked to be of this base model."""
        data, base_id = self._journal.content_of(manifest.sha256), self._device.greeting.profile.base_id
        if data is None:
            raise TransferError(f"{manifest.name!r} has vanished from the home folder, or is damaged: run again.")
        adapter = from_bytes(data)
        if adapter.base_id != base_id:
            raise AdapterMismatch(
                f"The coordinator sent an adapter of base model {str(adapter.base_id)[:12]}…, this device has "
                f"{base_id[:12]}…. Tell the operator of federation {self._rules.federation!r}."
            )
        return adapter

    # the end --------------------------------------------------------------------------------------------------------

    def _put_in_place(self, manifests: list[Manifest], *, finished: bool) -> rounds.Event:
        """Put the fetched adapters where drawing finds them."""
        together: dict[str, list[Manifest]] = {}
        for manifest in manifests:
            together.setdefault(manifest.name.removesuffix(FOLDED), []).append(manifest)
        own, cluster = self._own(), self._state.cluster
        pairs = (
            (manifest, to_bytes(adapter))
            for parts in together.values()  # one at a time, as all of them may not fit into memory
            for manifest, adapter in to_keep([(part, self._adapter(part)) for part in parts], cluster, own)
        )
        self._paths = self._home.settle(pairs, cluster, all_there_are=finished)
        self._journal.note_ending(None)
        self._journal.forget_transfers()
        self._home.forget_checkpoints()
        return rounds.InPlace()

    def _result(self) -> MembershipResult:
        state, link = self._state, self._link
        updates = len(state.committed)
        result = MembershipResult(state.finished, updates, state.cluster, self._paths, link.up, link.down)
        self._tell("finished", cluster=state.cluster, updates=updates, adapters=sorted(self._paths))
        return result


def _question(start: RoundStart | ClusterStart) -> Question | None:
    """The question that a step asks; None if it asks for an update."""
    if isinstance(start, ClusterStart):
        return read_question(start.question)
    return counts_question(start.centroids) if is_count(start) else None
