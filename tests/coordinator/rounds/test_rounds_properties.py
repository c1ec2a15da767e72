"""Any order of joins, leaves, erasures, crashes, offers and time, driven by hypothesis, and what must hold always."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from msgspec.structs import replace

from coordinator.rounds import (
    Aggregate,
    Aggregated,
    Cluster,
    Clustered,
    Erase,
    Event,
    Failed,
    Forgotten,
    Greeted,
    Heard,
    Joined,
    Left,
    Offered,
    Place,
    Placed,
    Reconnected,
    Record,
    Restarted,
    Round,
    Seen,
    Send,
    Served,
    Spoiled,
    State,
    Stored,
    Tick,
    all_served,
    has_all,
    head_of,
    next_wake,
    records_of,
    replaceable,
    restored,
    step,
    touched,
)
from edge_sdk.wire.messages import Committed, Finished, Manifest, Offer, Refused, RoundDone, RoundStart
from tests.coordinator.federations import (
    aggregate_by_name,
    cluster_by_name,
    joined,
    manifest,
    offer,
    profile,
    rules,
    saved_and_loaded,
)

DEVICES = st.sampled_from(["a1", "a2", "b1", "b2", "c1"])


class Rounds(RuleBasedStateMachine):
    """The coordinator may die after any step, and in it, when its state is saved but nothing has been said or asked
    yet: what it had saved is all that is left, its questions are lost."""

    late = 0
    root_rounds = 2

    def __init__(self) -> None:
        super().__init__()
        self.rules = rules(min_devices=2, rounds=4, root_rounds=self.root_rounds, late=self.late)
        self.state = State()
        self.now = 0.0
        self.questions: list[Cluster | Aggregate | Place] = []
        self.starts: dict[str, RoundStart] = {}
        self.told: dict[str, list[RoundStart]] = {}  # all that each device was ever told
        self.openings: dict[int, Round] = {}  # by attempt
        self.work: dict[str, tuple[int | None, Manifest | None]] = {}  # content -> for which cluster, from where
        self.tastes = 0
        self.finished: set[str] = set()
        self.highest_start = 0
        self.committed: set[tuple[str, str]] = set()
        self.aggregated: dict[int, dict[str, str]] = {}
        self.failed: set[int] = set()
        self.epochs = 0
        self.dying = False
        self.records: dict[str, Record] = {}  # as a database has them, of which only what changes is written
        self.saved = self.state

    def feed(self, event: Event) -> None:
        before = self.state
        self.state, actions = step(self.rules, self.state, event, self.now)
        assert self.state.round >= before.round
        self.note_opening()
        if self.dying:
            self.dying = False
            self.note_unsaid(before)
            self.crash()
            return
        for action in actions:
            if isinstance(action, Cluster | Aggregate | Place):
                self.questions.append(action)
            if isinstance(action, Aggregate):
                self.note_aggregation(action)
            if isinstance(action, Send):
                self.note_message(action)

    def note_opening(self) -> None:
        if current := self.state.current:
            known = self.openings.setdefault(current.attempt, current)
            assert (known.number, known.cohort) == (current.number, current.cohort), "two openings of one name"
            assert max(self.openings) == current.attempt == self.state.attempt

    def note_aggregation(self, action: Aggregate) -> None:
        for update in action.round.updates.values():
            if (work := self.work.get(update.manifest.sha256)) is not None:
                assert (update.member.cluster, update.member.start) == work, "counts for what it was not trained for"
        content = {name: update.manifest.sha256 for name, update in action.round.updates.items()}
        assert self.aggregated.setdefault(action.round.number, content) == content, "asked again for something else"
        assert content, "aggregates nothing"

    def note_message(self, action: Send) -> None:
        if isinstance(action.message, Committed):
            self.committed.add((action.device, action.message.sha256))
        elif isinstance(action.message, Refused) and action.message.code == "UpdateOutlier":
            self.committed.remove((action.device, action.message.about))
        elif isinstance(action.message, RoundStart):
            assert action.message.round >= self.highest_start, "rounds went back"
            self.highest_start = action.message.round
            self.starts[action.device] = action.message
            self.told.setdefault(action.device, []).append(action.message)
        elif isinstance(action.message, RoundDone):
            made = action.message.round not in self.failed
            assert action.message.accepted == (made and action.device in self.aggregated[action.message.round])
        elif isinstance(action.message, Finished):
            self.finished.add(action.device)

    def note_unsaid(self, before: State) -> None:
        """Note answers about updates that were lost. Devices learn them later: they repeat offers, and rounds end."""
        old, new = before.current, self.state.current
        saved = {(name, update.manifest.sha256) for name, update in new.updates.items()} if new else set()
        self.committed |= saved
        if old and new and old.number == new.number:
            self.committed -= {(name, update.manifest.sha256) for name, update in old.updates.items()} - saved

    def answer(self, question: Cluster | Aggregate | Place) -> Clustered | Aggregated | Placed:
        if isinstance(question, Cluster):
            return self.cluster(question)
        if isinstance(question, Aggregate):
            return aggregate_by_name(question)
        return Placed(question.device, 0)

    def cluster(self, question: Cluster) -> Clustered:
        """By name and by what tastes are now: devices come to other clusters."""
        by_name = cluster_by_name(question).assignment
        return Clustered({name: (cluster + self.tastes * int(name[1])) % 3 for name, cluster in by_name.items()})

    def trained(self, device: str, start: RoundStart, variant: int = 0) -> Offer:
        """The offer of a device for a RoundStart: the same for the same work, whatever the attempt."""
        work = (start.cluster, start.start)
        content = manifest(f"{device}/{start.round}/{work}/{variant}")
        self.work[content.sha256] = work
        return offer(device, start.round, attempt=start.attempt, manifest=content)

    @initialize()
    def begin(self) -> None:
        """Three that show presence, one that does not."""
        for event in (joined("a1"), joined("a2"), joined("b1"), Joined("b2", profile())):
            self.feed(event)
            self.answer_a_question()

    @rule(device=DEVICES, norm=st.sampled_from([1.0, 1.0, 1.0, 1e6]))
    def deliver(self, device: str, norm: float = 1.0) -> None:
        """A device does what it was told to do last; what follows from it is computed at once."""
        if device in self.starts:
            self.feed(Stored(device, self.trained(device, self.starts[device]), norm))
            self.answer_a_question()

    @rule(device=DEVICES, back=st.integers(1, 3), fetched=st.booleans())
    def deliver_what_was_asked_for_before(self, device: str, back: int, fetched: bool) -> None:
        told = self.told.get(device, [])
        if len(told) > back:
            given = self.trained(device, told[-1 - back])
            self.feed(Stored(device, given, 1.0) if fetched else Offered(device, given))

    @rule(tastes=st.integers(0, 2))
    def change_tastes(self, tastes: int) -> None:
        self.tastes = tastes

    @rule(tastes=st.integers(0, 2))
    def nobody_delivers(self, tastes: int) -> None:
        """A round is abandoned, unless somebody has delivered, and opened anew with other clusters."""
        self.tastes = tastes
        for _ in range(self.rules.extensions + 1):
            self.pass_time(self.rules.deadline + 1)
            while self.questions:
                self.answer_a_question()

    @rule(devices=st.lists(DEVICES, min_size=2, unique=True))
    def deliver_several(self, devices: list[str]) -> None:
        for device in devices:
            self.deliver(device)

    @rule(device=DEVICES, shows=st.booleans())
    def join(self, device: str, shows: bool) -> None:
        self.epochs += shows
        self.feed(joined(device, self.epochs) if shows else Joined(device, profile()))

    @rule(device=DEVICES, shut_out=st.booleans())
    def leave(self, device: str, shut_out: bool) -> None:
        self.feed(Left(device, shut_out=shut_out))

    @rule(revoked=st.frozensets(DEVICES))
    def make_room(self, revoked: frozenset[str]) -> None:
        """For a newcomer, once all is answered."""
        if not self.questions and (name := replaceable(self.rules, self.state, self.now, revoked)):
            assert name in revoked or not self.state.devices[name].proven
            assert not self.state.devices[name].is_present(self.now)
            self.feed(Forgotten(name))
            assert name not in self.state.devices

    @rule(device=DEVICES)
    def erase(self, device: str) -> None:
        """Its update does not count any more, and a question about a round makes earlier ones void."""
        if (current := self.state.current) is not None:
            if (update := current.updates.get(device)) is not None:
                self.committed.remove((device, update.manifest.sha256))
                if self.state.phase == "aggregating":
                    del self.aggregated[current.number][device]
                    if not self.aggregated[current.number]:
                        del self.aggregated[current.number]
            cohort = {name: member for name, member in current.cohort.items() if name != device}
            self.openings[current.attempt] = replace(current, cohort=cohort)
        self.feed(Erase(device, bytes(32)))
        places = [question for question in self.questions if isinstance(question, Place)]
        others = [question for question in self.questions if not isinstance(question, Place)]
        self.questions = [*places, *others[-1:]]
        assert device not in self.records_named_in(self.state)

    @staticmethod
    def records_named_in(state: State) -> set[str]:
        """The devices that a saved state names."""
        return {name for name, record in records_of(state, touched(None, state)).items() if record is not None}

    @rule(device=DEVICES, offers=st.booleans())
    def hear(self, device: str, offers: bool) -> None:
        self.feed(Heard(device, offers))

    @rule(device=DEVICES)
    def greet(self, device: str) -> None:
        before, has_nothing_to_hear = self.state, has_all(self.state, device) and not self.dying
        self.feed(Greeted(device))
        assert not has_nothing_to_hear or self.state == before, "a step was needed"

    @rule(device=DEVICES)
    def serve(self, device: str) -> None:
        self.feed(Served(device))

    @rule()
    def nothing_happens(self) -> None:
        """Time goes by, and somebody looks at it when he is told to: no round waits longer than its rules say."""
        current, state, now = self.state.current, self.state, self.now
        if state.phase != "training" or current is None:
            return
        members = {name: state.devices[name] for name in current.cohort}
        counting = [name for name, device in members.items() if device.seen or name in current.updates]
        latest = current.deadline + (self.rules.extensions - current.extended) * self.rules.deadline
        enough = current.updates and len(current.updates) >= self.rules.quorum * len(counting)
        if enough and not any(members[name].seen and members[name].until is None for name in current.absent):
            latest = min(latest, now + self.rules.grace)
        while state.phase == "training":
            wake = next_wake(self.rules, state, now)
            assert wake is not None, "waits for ever"
            assert now < wake <= latest
            now = wake
            state, _ = step(self.rules, state, Tick(), now)

    @rule(device=DEVICES, online=st.booleans(), late=st.booleans())
    def presence(self, device: str, online: bool, late: bool) -> None:
        self.epochs += 1
        self.feed(Seen(device, online, self.epochs - 2 * late if self.epochs > 1 else 1))

    @rule(device=DEVICES, shift=st.sampled_from([0, 0, 0, -1, 1]), again=st.integers(0, 1), fetched=st.booleans())
    def send_update(self, device: str, shift: int, again: int, fetched: bool) -> None:
        """Right or late or early, first or other content, with its transfer finished or cut off."""
        number = max(1, self.starts[device].round + shift if device in self.starts else 1)
        given = offer(device, number, again, attempt=max(1, self.state.attempt + shift))
        self.feed(Stored(device, given, 1.0) if fetched else Offered(device, given))

    @rule(device=DEVICES, final=st.booleans())
    def spoil(self, device: str, final: bool) -> None:
        given = offer(device, self.state.round + 1, attempt=max(1, self.state.attempt))
        self.feed(Spoiled(device, given, "AdapterValueError", "NaN", final))

    @rule()
    def answer_a_question(self) -> None:
        if self.questions:
            self.feed(self.answer(self.questions.pop(0)))

    @rule()
    def fail_at_a_question(self) -> None:
        """Answer a question with an error. Only the first answer of a round is heard."""
        if self.questions and isinstance(self.questions[0], Cluster | Aggregate):
            question = self.questions.pop(0)
            number = question.round if isinstance(question, Cluster) else question.round.number
            if isinstance(question, Aggregate) and self.state.round < number:
                self.failed.add(number)
            self.feed(Failed(number, "AdapterValueError", "huge numbers"))

    @rule(seconds=st.sampled_from([1.0, 11.0, 101.0]))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.feed(Tick())

    @rule(shown=st.frozensets(DEVICES))
    def lose_the_broker(self, shown: frozenset[str]) -> None:
        self.feed(Reconnected(shown))

    @rule()
    def crash(self) -> None:
        self.questions = []
        self.now = 0.0
        self.state = saved_and_loaded(self.state)
        self.feed(Restarted())

    @rule()
    def die_in_the_next_step(self) -> None:
        """After saving, before anything else."""
        self.dying = True

    @invariant()
    def committed_updates_count_exactly_once(self) -> None:
        counted = [(name, sha) for content in self.aggregated.values() for name, sha in content.items()]
        assert len(counted) == len(set(counted)), "an update counts in two rounds"
        current = self.state.current
        waiting = {(n, u.manifest.sha256) for n, u in current.updates.items()} if current else set()
        assert self.committed == set(counted) | waiting, "committed, but neither counted nor about to be"

    @invariant()
    def before_the_wake_time_changes_nothing(self) -> None:
        wake = next_wake(self.rules, self.state, self.now)
        assert wake is None or wake > self.now
        at = self.now + 0.999 * ((1e6 if wake is None else wake) - self.now)
        assert step(self.rules, self.state, Tick(), at) == (self.state, []), "nobody would have looked"
        assert all_served(self.rules, self.state, at) == all_served(self.rules, self.state, self.now)

    @invariant()
    def what_changed_is_all_that_need_be_saved(self) -> None:
        for name, record in records_of(self.state, touched(self.saved, self.state)).items():
            if record is None:
                del self.records[name]
            else:
                self.records[name] = record
        self.saved = self.state
        assert restored(head_of(self.state), self.records) == self.state == saved_and_loaded(self.state)

    @invariant()
    def counts_are_those_of_all_devices(self) -> None:
        """And the devices that are gone are found in their order."""
        devices, current = dict(self.state.devices), self.state.current
        for now in (self.now, self.now + 5.0, self.now + 1000.0):
            crowd, anew = self.state.at(now), State(devices=devices, current=current).at(now)
            assert crowd.kinds == anew.kinds
            away = [(d.until or 0.0, name) for name, d in devices.items() if not d.is_near(now) and not d.proven]
            assert list(crowd.gone()) == [name for _, name in sorted(away)] == list(anew.gone())

    def teardown(self) -> None:
        """From wherever it stands, devices that behave get to the end: nobody waits for ever."""
        self.dying = False
        for name in ("a1", "b1"):
            self.feed(joined(name, 1000))
        for name in ("a2", "b2", "c1"):
            self.feed(Left(name))
        for _ in range(60):
            while self.questions:
                self.feed(self.answer(self.questions.pop(0)))
            if {"a1", "b1"} <= self.finished:
                break
            for name in ("a1", "b1"):
                self.feed(Stored(name, self.honest_offer(name), 1.0))
            if not self.questions:
                self.now = next_wake(self.rules, self.state, self.now) or self.now
                self.feed(Tick())
        assert {"a1", "b1"} <= self.finished
        assert self.state.round == self.rules.rounds
        assert sorted(self.aggregated) == [1, 2, 3, 4]
        self.committed_updates_count_exactly_once()

    def honest_offer(self, name: str) -> Offer:
        start = self.starts.get(name)
        return self.trained(name, start, variant=2) if start else offer(name, 1, variant=2)


class LateRounds(Rounds):
    """The same where updates may come late."""

    late = 2


class ClusterRounds(Rounds):
    """The same without root rounds: in each of them another clustering may give devices other work."""

    root_rounds = 0


TestRounds = Rounds.TestCase
TestRounds.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)
TestLateRounds = LateRounds.TestCase
TestLateRounds.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)
TestClusterRounds = ClusterRounds.TestCase
TestClusterRounds.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)
