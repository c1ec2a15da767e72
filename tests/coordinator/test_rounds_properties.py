"""Any order of joins, leaves, crashes, offers and time, driven by hypothesis, and what must hold whatever happens."""

from __future__ import annotations

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from coordinator.rounds import (
    Aggregate,
    Aggregated,
    Cluster,
    Clustered,
    Event,
    Failed,
    Joined,
    Left,
    Offered,
    Place,
    Placed,
    Restarted,
    Seen,
    Send,
    Spoiled,
    State,
    Stored,
    Tick,
    next_wake,
    step,
)
from edge_sdk.wire.messages import Committed, Finished, Offer, Refused, RoundDone, RoundStart
from tests.coordinator.federations import aggregate_by_name, cluster_by_name, offer, profile, rules, stored

DEVICES = st.sampled_from(["a1", "a2", "b1", "b2", "c1"])


class Rounds(RuleBasedStateMachine):
    """The coordinator may die after any step, and in it, when its state is saved but nothing has been said or asked
    yet: what it had saved is all that is left, its questions are lost."""

    late = 0

    def __init__(self) -> None:
        super().__init__()
        self.rules = rules(min_devices=2, rounds=4, root_rounds=2, late=self.late)
        self.state = State()
        self.now = 0.0
        self.questions: list[Cluster | Aggregate | Place] = []
        self.starts: dict[str, RoundStart] = {}
        self.finished: set[str] = set()
        self.highest_start = 0
        self.committed: set[tuple[str, str]] = set()
        self.aggregated: dict[int, dict[str, str]] = {}
        self.failed: set[int] = set()
        self.epochs = 0
        self.dying = False

    def feed(self, event: Event) -> None:
        before = self.state
        self.state, actions = step(self.rules, self.state, event, self.now)
        assert self.state.round >= before.round
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

    def note_aggregation(self, action: Aggregate) -> None:
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
        elif isinstance(action.message, RoundDone):
            made = action.message.round not in self.failed
            assert action.message.accepted == (made and action.device in self.aggregated[action.message.round])
        elif isinstance(action.message, Finished):
            self.finished.add(action.device)

    def note_unsaid(self, before: State) -> None:
        """What would have been said of updates. Devices learn it later: they repeat offers, and rounds are done."""
        old, new = before.current, self.state.current
        saved = {(name, update.manifest.sha256) for name, update in new.updates.items()} if new else set()
        self.committed |= saved
        if old and new and old.number == new.number:
            self.committed -= {(name, update.manifest.sha256) for name, update in old.updates.items()} - saved

    def answer(self, question: Cluster | Aggregate | Place) -> Clustered | Aggregated | Placed:
        if isinstance(question, Cluster):
            return cluster_by_name(question)
        if isinstance(question, Aggregate):
            return aggregate_by_name(question)
        return Placed(question.device, 0)

    @initialize()
    def begin(self) -> None:
        for name in ("a1", "a2", "b1", "b2"):
            self.feed(Joined(name, profile()))
            self.answer_a_question()

    @rule(device=DEVICES, norm=st.sampled_from([1.0, 1.0, 1.0, 1e6]))
    def deliver(self, device: str, norm: float = 1.0) -> None:
        """A device does what it was told to do last; what follows from it is computed at once."""
        if device in self.starts:
            self.feed(stored(device, self.starts[device].round, norm=norm))
            self.answer_a_question()

    @rule(devices=st.lists(DEVICES, min_size=2, unique=True))
    def deliver_several(self, devices: list[str]) -> None:
        for device in devices:
            self.deliver(device)

    @rule(device=DEVICES)
    def join(self, device: str) -> None:
        self.feed(Joined(device, profile()))

    @rule(device=DEVICES)
    def leave(self, device: str) -> None:
        self.feed(Left(device))

    @rule(device=DEVICES, online=st.booleans(), late=st.booleans())
    def presence(self, device: str, online: bool, late: bool) -> None:
        self.epochs += 1
        self.feed(Seen(device, online, self.epochs - 2 * late if self.epochs > 1 else 1))

    @rule(device=DEVICES, shift=st.sampled_from([0, 0, 0, -1, 1]), attempt=st.integers(0, 1), fetched=st.booleans())
    def send_update(self, device: str, shift: int, attempt: int, fetched: bool) -> None:
        """Right or late or early, first or other content, with its transfer finished or cut off."""
        number = max(1, self.starts[device].round + shift if device in self.starts else 1)
        given = offer(device, number, attempt)
        self.feed(Stored(device, given, 1.0) if fetched else Offered(device, given))

    @rule(device=DEVICES, final=st.booleans())
    def spoil(self, device: str, final: bool) -> None:
        self.feed(Spoiled(device, offer(device, max(1, self.state.round + 1)), "AdapterValueError", "NaN", final))

    @rule()
    def answer_a_question(self) -> None:
        if self.questions:
            self.feed(self.answer(self.questions.pop(0)))

    @rule()
    def fail_at_a_question(self) -> None:
        """What was asked for cannot be computed. Only the first answer of a round is heard."""
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

    @rule()
    def crash(self) -> None:
        self.questions = []
        self.now = 0.0
        self.state = msgspec.msgpack.decode(msgspec.msgpack.encode(self.state), type=State)
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
    def a_wake_is_in_the_future(self) -> None:
        wake = next_wake(self.rules, self.state, self.now)
        assert wake is None or wake > self.now

    def teardown(self) -> None:
        """From wherever it stands, devices that behave get to the end: nobody waits for ever."""
        self.dying = False
        for name in ("a1", "b1"):
            self.feed(Joined(name, profile()))
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
        return offer(name, start.round if start else 1, attempt=2)


class LateRounds(Rounds):
    """The same where updates may come late."""

    late = 2


TestRounds = Rounds.TestCase
TestRounds.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)
TestLateRounds = LateRounds.TestCase
TestLateRounds.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)
