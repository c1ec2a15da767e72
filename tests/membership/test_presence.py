"""Birth and death of a session: any order of what can happen to it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.membership.line.presence import WILL_DELAY, Session
from edge_sdk.wire.messages import Presence, decode


def test_birth_and_will_carry_the_same_epoch() -> None:
    session = Session(7)
    will = session.will("impasto/1/f/dev/x/state")
    assert session.birth == Presence(online=True, epoch=7)
    assert decode(will.payload) == session.death == Presence(online=False, epoch=7)
    assert (will.topic, will.retain, will.delay) == ("impasto/1/f/dev/x/state", True, WILL_DELAY)


def test_the_birth_is_said_once_a_connection() -> None:
    session = Session(1)
    assert session.due is None
    session.connected(10.0)
    assert session.due == 10.0
    session.said()
    assert (session.state, session.due) == ("present", None)
    session.lost()
    assert (session.state, session.due) == ("absent", None)
    session.connected(20.0)
    assert session.due == 20.0


def test_a_birth_that_cannot_be_handed_over_is_said_again_ever_more_rarely() -> None:
    session, times = Session(1), []
    session.connected(0.0)
    for _ in range(8):
        assert session.due is not None
        times.append(session.due)
        session.failed(session.due)
    assert times == [0, 1, 3, 7, 15, 31, 63, 123]
    session.said()
    assert session.due is None


def test_there_is_one_last_word_and_nothing_after_it() -> None:
    session = Session(1)
    session.connected(0.0)
    assert session.close() == session.death
    assert session.close() is None
    session.connected(1.0)  # a connection that comes back too late does not raise the dead
    assert (session.state, session.due) == ("gone", None)


@given(st.lists(st.sampled_from(["connected", "lost", "said", "failed", "close"])))
def test_whatever_happens_a_session_that_is_connected_is_announced_unless_it_has_ended(events: list[str]) -> None:
    session, connected, announced, ended = Session(1), False, False, False
    for now, event in enumerate(events):
        if event == "connected":
            session.connected(now)
            connected, announced = True, False
        elif event == "lost":
            session.lost()
            connected = False
        elif event == "said":
            session.said()
            announced = announced or connected
        elif event == "failed":
            session.failed(now)
        else:
            assert (session.close() is None) == ended
            ended = True
        assert (session.due is not None) == (connected and not announced and not ended)
