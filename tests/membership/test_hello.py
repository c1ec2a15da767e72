"""Idle devices: after the answer to Join nothing is said but a short hello, now and then."""

from __future__ import annotations

import itertools
import math
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
from edge_sdk.membership.rounds.machine import LONGEST, REPEAT
from edge_sdk.wire import CoordinatorState, Greeter, Offer, Refused, Welcome, encode, make_manifest
from tests.integration.devices import profile
from tests.membership.test_membership import start

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
    assert machine(shown(2)) == [SayJoin()]
    machine(Welcome(round=0, rounds=3))
    assert next_wake(machine.state) - machine.now <= REPEAT
    assert machine(shown(2)) == [], "it shows itself again"


def test_a_coordinator_that_does_not_know_the_device_hears_a_join() -> None:
    machine = Machine().joined()
    machine.wake()
    assert machine(Refused(code="JoinNeeded", reason="", about="hello")) == [SayJoin()]
    assert "the next round" in awaited(machine.rules, machine.state)


def test_an_offer_that_gets_no_answer_is_said_less_and_less_until_there_is_news() -> None:
    """No round is open, for days perhaps: the update may come late in the next one."""
    machine = Machine().joined()
    (*_, order) = machine(start(1, late=1))
    assert isinstance(order, Train)
    made = make_manifest(b"update", "update", "update-1")
    offer = Offer(round=1, attempt=1, manifest=made, pictures=3, first_loss=1.0, last_loss=0.5, train_seconds=1.0)
    assert machine(Trained(order.plan, offer))[-1] == HandIn(order.plan, offer)
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
