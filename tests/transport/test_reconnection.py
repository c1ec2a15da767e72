"""Delays before reconnecting, in simulated time and against a broker that throws the client out."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.transport import connect
from edge_sdk.transport.mqtt.reconnection import Reconnection
from tests.transport.scripted import ScriptedBroker


def test_delays_double_up_to_the_largest_and_lie_between_half_and_all() -> None:
    least = Reconnection(1.0, 30.0, lambda: 0.0)
    most = Reconnection(1.0, 30.0, lambda: 1.0)
    assert [most.away(0.0) for _ in range(7)] == [1, 2, 4, 8, 16, 30, 30]
    assert [least.away(0.0) for _ in range(7)] == [0.5, 1, 2, 4, 8, 15, 15]


def test_devices_that_lost_a_broker_together_do_not_come_back_together() -> None:
    numbers = random.Random(1)
    crowd = [Reconnection(1.0, 30.0, numbers.random) for _ in range(100)]
    for member in crowd:
        member.connected(0.0)
    delays = sorted(member.away(100.0) for member in crowd)
    assert len(set(delays)) == 100
    assert delays[-1] - delays[0] > 0.45


def test_a_connection_that_lasted_starts_the_delays_anew_and_one_that_did_not_goes_on() -> None:
    attempts = Reconnection(1.0, 30.0, lambda: 1.0)
    assert [attempts.away(0.0) for _ in range(3)] == [1, 2, 4]
    attempts.connected(10.0)
    assert attempts.state == "online"
    assert attempts.away(11.0) == 8  # let in and thrown out again
    attempts.connected(20.0)
    assert attempts.away(25.0) == 1
    assert attempts.state == "connecting"


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 100)), max_size=200), st.floats(0, 1))
def test_no_delay_is_out_of_bounds(history: list[tuple[bool, float]], chance: float) -> None:
    attempts, now = Reconnection(1.0, 30.0, lambda: chance), 0.0
    for connected, lasted in history:
        if connected:
            attempts.connected(now)
        now += lasted
        delay = attempts.away(now)
        assert 0.5 <= delay <= 30.0
        now += delay


def test_a_broker_that_throws_us_out_is_asked_again_and_again_but_ever_more_rarely() -> None:
    """The delays are those of the state machine: paho's own would be at least a second, the same on every device."""
    delays: list[float] = []

    class Noted(Reconnection):
        def connected(self, now: float) -> None:
            super().connected(float("inf"))  # however long it takes this machine, it did not last

        def away(self, now: float) -> float:
            delays.append(super().away(now))
            return delays[-1]

    with ScriptedBroker() as broker:
        transport = connect(broker.url, client_id="x", reconnect_delay=(0.02, 0.2))
        transport._reconnection = Noted(0.02, 0.2, lambda: 1.0)  # type: ignore[attr-defined]
        for count in range(2, 7):
            broker.cut()
            broker.wait_for_connections(count)
        transport.abort()
    assert delays[:5] == [0.02, 0.04, 0.08, 0.16, 0.2]
