"""Idle devices: after the answer to Join nothing is said but a short hello, now and then."""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter
from pathlib import Path

import pytest

from edge_sdk.errors import JournalDamaged
from edge_sdk.membership.home import Home
from edge_sdk.membership.rounds import (
    Action,
    Event,
    HandIn,
    Line,
    Opened,
    Rules,
    SayHello,
    SayJoin,
    SayOffer,
    State,
    Tick,
    Train,
    Trained,
    awaited,
    next_wake,
    step,
    unanswered,
)
from edge_sdk.membership.rounds.machine.intervals import JITTER, LONGEST, REPEAT
from edge_sdk.wire import CoordinatorState, Greeter, Offer, Refused, RoundDone, Welcome, encode, make_manifest
from tests.integration.devices import profile
from tests.membership.stage import start

DAY = 86_400.0


class Machine:
    """A device's machine with a clock."""

    def __init__(self, spread: float = 0.0) -> None:
        self.rules = Rules(federation="tastes", deadline=2 * DAY, spread=spread)
        self.state = State()
        self.now = 0.0

    def __call__(self, event: Event) -> list[Action]:
        self.state, actions = step(self.rules, self.state, event, self.now)
        return actions

    def wake(self) -> list[Action]:
        """Let time pass until something is due."""
        self.now = next_wake(self.state)
        assert self.now < math.inf
        return self(Tick())

    def joined(self) -> Machine:
        for event in (Opened(), shown(), Welcome(round=0, rounds=3)):
            self(event)
        assert self.state.phase == "waiting"
        return self


def shown(epoch: int = 1, *, online: bool = True) -> CoordinatorState:
    return CoordinatorState(
        online=online, epoch=epoch, federation="tastes", base_id="b", level="plain", key=bytes(32), signature=bytes(64)
    )


def hand_in(machine: Machine) -> Offer:
    """Train for the first round, and begin to hand the update in."""
    (*_, order) = machine(start(1, late=1))
    assert isinstance(order, Train)
    made = make_manifest(b"update", "update", "update-1")
    offer = Offer(round=1, attempt=1, manifest=made, pictures=3, first_loss=1.0, last_loss=0.5, train_seconds=1.0)
    assert machine(Trained(order.plan, offer))[-1] == HandIn(order.plan, offer)
    return offer


@pytest.mark.parametrize("spread", [0.0, 0.5, 0.999])
def test_an_idle_day_takes_a_few_kilobytes(spread: float) -> None:
    machine = Machine(spread).joined()
    moments, began = [machine.now], machine.now
    while machine.now < began + DAY:
        assert machine.wake() == [SayHello(len(moments))]
        moments.append(machine.now)
        machine.now += 0.1
        assert machine(Welcome(round=0, rounds=3)) == []
    pauses = [later - earlier for earlier, later in itertools.pairwise(moments)]
    for number, pause in enumerate(pauses):
        longest = min(REPEAT * 2**number, LONGEST)
        assert longest / 2 <= pause <= longest + 0.2
    greeter = Greeter(bytes(32), "tastes", "me")
    assert len(moments) * len(encode(greeter.hello(profile("apples", 0), 2**40, 2**20))) < 20_000


def test_many_devices_do_not_speak_at_once() -> None:
    """A thousand that were welcomed together, an hour later."""
    heard: dict[int, int] = {}
    for number in range(1000):
        machine = Machine(number / 1000).joined()
        while machine.now < 3600.0:
            machine.wake()
            machine(Welcome(round=0, rounds=3))
        heard[int(machine.now)] = heard.get(int(machine.now), 0) + 1
    assert max(heard.values()) < 20


def test_unanswered_ones_are_repeated_less_and_less_and_count_as_silence() -> None:
    machine = Machine().joined()
    machine.wake()
    first = machine.now
    pauses = []
    for number in range(2, 12):
        before = machine.now
        assert machine.wake() == [SayHello(number)]
        pauses.append(machine.now - before)
    assert REPEAT / 2 <= pauses[0] <= REPEAT
    assert LONGEST / 2 <= pauses[-1] <= LONGEST
    assert unanswered(machine.state, machine.now) == machine.now - first
    machine(Welcome(round=0, rounds=3))
    assert unanswered(machine.state, machine.now) == 0.0


def test_no_answer_is_asked_for_while_the_broker_is_away_and_soon_after() -> None:
    machine = Machine().joined()
    machine(Line(online=False))
    for _ in range(5):
        assert machine.wake() == []
    assert unanswered(machine.state, machine.now) == 0.0
    machine(Line(online=True))
    before = machine.now
    assert machine.wake() == [SayHello(1)]
    assert machine.now - before <= REPEAT


def test_a_coordinator_that_starts_again_hears_a_join_and_one_that_comes_back_a_hello() -> None:
    machine = Machine().joined()
    for _ in range(9):
        machine.wake()
        machine(Welcome(round=0, rounds=3))
    assert next_wake(machine.state) - machine.now > REPEAT
    machine(shown(online=False))
    assert machine(shown()) == []
    assert next_wake(machine.state) - machine.now <= REPEAT
    assert machine.wake() == [SayHello(10)]
    machine(Welcome(round=0, rounds=3))
    assert machine(shown(2)) == []
    assert next_wake(machine.state) - machine.now <= JITTER
    assert machine.wake() == [SayJoin()]
    machine(Welcome(round=0, rounds=3))
    assert next_wake(machine.state) - machine.now <= REPEAT
    assert machine(shown(2)) == [], "it shows itself again"


def crowd() -> list[Machine]:
    """A thousand devices, each with a spread of its own."""
    drawn = random.Random(0)
    return [Machine(drawn.random()) for _ in range(1000)]


def assert_spread(moments: list[float], since: float, seconds: float) -> None:
    """Check that a thousand moments lie within so many seconds, and nearly evenly: at most 3 % in each hundredth."""
    assert all(since <= moment <= since + seconds for moment in moments)
    parts = Counter(int(100 * (moment - since) / seconds) for moment in moments)
    assert len(parts) >= 95
    assert max(parts.values()) <= 30


def test_a_coordinator_that_starts_again_does_not_hear_all_devices_at_once() -> None:
    """They say Join within a second; if that was in vain, again within five, and after its next start within two."""
    devices = [machine.joined() for machine in crowd()]
    for machine in devices:
        machine.now = 1.0
        assert machine(shown(2)) == []
    assert_spread([next_wake(machine.state) for machine in devices], 1.0, JITTER)
    for machine in devices:
        assert machine.wake() == [SayJoin()]
        assert REPEAT / 2 <= next_wake(machine.state) - machine.now <= REPEAT
        machine.now = 3.0
        assert machine(shown(3)) == []
    assert_spread([next_wake(machine.state) for machine in devices], 3.0, 2 * JITTER)
    for machine in devices:
        assert machine.wake() == [SayJoin()]
        machine(Welcome(round=0, rounds=3))
        machine.now = 6.0
        machine(shown(4))
    assert_spread([next_wake(machine.state) for machine in devices], 6.0, JITTER)


def test_a_coordinator_that_comes_late_does_not_hear_all_devices_at_once() -> None:
    devices = crowd()
    for machine in devices:
        machine(Opened())
        machine.now = 20.0
        assert machine(shown()) == []
        assert machine.state.phase == "joining"
    assert_spread([next_wake(machine.state) for machine in devices], 20.0, JITTER)
    for machine in devices:
        assert machine.wake() == [SayJoin()]
    again = Counter(int(10 * next_wake(machine.state)) for machine in devices)
    assert max(again.values()) <= 50, "in a tenth of a second"


def test_a_device_that_finds_the_coordinator_there_does_not_wait() -> None:
    machine = Machine(0.999)
    machine(Opened())
    assert machine(shown()) == [SayJoin()]


def test_offers_do_not_come_at_once_either_and_after_the_join() -> None:
    devices = crowd()
    for machine in devices:
        hand_in(machine.joined())
        assert machine(shown(2)) == []
    assert_spread([next_wake(machine.state) for machine in devices], 0.0, JITTER)
    for machine in devices:
        join, offer = machine.wake()
        assert isinstance(join, SayJoin)
        assert isinstance(offer, SayOffer)
        assert machine(shown(2)) == [], "the broker is back, and shows the same state"
        assert next_wake(machine.state) <= machine.now + 2 * JITTER
        assert isinstance(machine.wake()[0], SayOffer)


@pytest.mark.parametrize("late", [0, 1])
def test_what_comes_before_the_join_does_not_delay_it_nor_overtake_it(late: int) -> None:
    """A round that starts meanwhile is trained for, or an offer said again, only after the Join."""
    machine = Machine(0.5).joined()
    if late:
        hand_in(machine)
    machine(shown(2))
    due = next_wake(machine.state)
    machine(RoundDone(round=5, accepted=False, updates=1) if not late else Line(online=True))
    assert next_wake(machine.state) == due
    said = [action for action in machine(start(2, late=late)) if isinstance(action, SayJoin | SayOffer | Train)]
    assert [type(action) for action in said] == [SayJoin, SayOffer if late else Train]


def test_a_coordinator_that_does_not_know_the_device_hears_a_join() -> None:
    machine = Machine().joined()
    machine.wake()
    assert machine(Refused(code="JoinNeeded", reason="", about="hello")) == [SayJoin()]
    assert "the next round" in awaited(machine.rules, machine.state)


def test_a_refusal_of_what_was_never_said_gets_no_answer() -> None:
    """It is forged: the coordinator has not shown itself, and nothing was said to it."""
    machine = Machine()
    machine(Opened())
    machine.now = 1.0
    assert machine(Refused(code="JoinNeeded", reason="", about="hello")) == []
    assert machine.state.phase == "seeking"
    assert next_wake(machine.state) == machine.rules.answer


def test_an_offer_that_gets_no_answer_is_said_less_and_less_until_there_is_news() -> None:
    """No round is open, for days perhaps: the update may come late in the next one."""
    machine = Machine().joined()
    offer = hand_in(machine)
    moments = [machine.now]
    for _ in range(12):
        assert machine.wake() == [SayOffer(offer)]
        moments.append(machine.now)
    pauses = [later - earlier for earlier, later in itertools.pairwise(moments)]
    assert pauses[0] == REPEAT
    assert all(LONGEST / 2 <= pause <= LONGEST for pause in pauses[-3:])
    assert machine(start(2, late=1)) == [SayOffer(offer)]
    assert next_wake(machine.state) - machine.now == REPEAT


def test_the_key_that_signs_them_stays_with_the_home(tmp_path: Path) -> None:
    keys = []
    for _ in range(2):
        journal = Home(tmp_path).journal()
        keys.append(journal.own_key())
        journal.close()
    assert len(keys[0]) == 32
    assert keys[0] == keys[1]
    journal = Home(tmp_path).journal()
    journal._sql.execute("UPDATE own_key SET private = x'00'")
    with pytest.raises(JournalDamaged, match="own key"):
        journal.own_key()
    journal.close()
