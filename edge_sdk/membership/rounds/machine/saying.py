"""Join, Hello and Offer: said, and said again.

This is the one place that decides what is said, and when something is said again; `intervals` has the seconds:

    joining                Join, then again after `REPEAT` seconds, any number of times
    handing_in             the offer again after `REPEAT` seconds, then each time twice as late as before
    waiting, bringing      a Hello after `REPEAT` seconds; after each answer twice as late as before. It shows what
                           repetition shows: whether the coordinator is there and knows the device, whether a step was
                           lost, and whether what others have said in either's name is true

Unanswered hellos are repeated at a growing interval as well. No interval is longer than `LONGEST`.

A coordinator that starts is heard by all devices in the same instant. So Join, and the offer after it, is said at a
moment of each device's own in the next `JITTER` seconds; in twice as many after each Join in vain, as a coordinator may
have fallen under the load of them. A device that finds the coordinator there on its own arrival says Join at once.
"""

from __future__ import annotations

import math

from edge_sdk.membership.rounds.actions import SayHello, SayJoin, SayOffer
from edge_sdk.membership.rounds.events import Line
from edge_sdk.membership.rounds.machine import intervals, masked
from edge_sdk.membership.rounds.machine.turn import Turn


def say_join(turn: Turn) -> None:
    """Say Join."""
    turn.actions.append(SayJoin())
    _note_question(turn)
    turn.set(rejoin=False, joins=turn.state.joins + 1, pause=intervals.REPEAT)
    if turn.state.phase != "handing_in":  # there the offer is said next
        turn.set(say_at=turn.now + intervals.spread(turn, intervals.REPEAT))


def join_soon(turn: Turn, longest: float = math.inf) -> None:
    """Say Join at a moment of this device's own, within `longest` seconds at most; an offer follows it.

    In training at once, as nothing is said before its end.
    """
    if longest <= 0 or turn.state.phase == "training":
        say_join(turn)
    else:
        turn.set(rejoin=True, say_at=min(turn.state.say_at, turn.now + intervals.moment(turn, longest)))


def join_first(turn: Turn) -> None:
    """Say Join now if it is to be said: a coordinator that has lost its memory takes no offer of a stranger."""
    if turn.state.rejoin:
        say_join(turn)


def say_offer(turn: Turn, *, again: bool = False) -> None:
    """Say the offer.

    Args:
        turn: the turn.
        again: true if nothing has changed since it was said last; while no round is open, it may get no answer.
    """
    join_first(turn)
    turn.actions.append(SayOffer(turn.offered()[1]))
    vain = turn.state.vain + 1 if again else 0
    pause = intervals.spread(turn, intervals.growing(vain)) if again else intervals.REPEAT
    turn.set(vain=vain, say_at=turn.now + pause)


def offer_soon(turn: Turn) -> None:
    """Say the offer at a moment of this device's own."""
    turn.set(vain=0, say_at=min(turn.state.say_at, turn.now + intervals.moment(turn)))


def hello_soon(turn: Turn) -> None:
    """Say Hello after the shortest pause."""
    turn.set(say_at=_hello_at(turn, intervals.REPEAT), pause=intervals.doubled(intervals.REPEAT), vain=0)


def ask(turn: Turn) -> None:
    """Say Hello now, in the middle of a sum; what was said last is said again after a pause, each longer."""
    number = turn.state.hellos + 1
    turn.actions.append(SayHello(number))
    turn.set(hellos=number, say_at=turn.now + intervals.spread(turn, turn.state.pause))
    turn.set(pause=intervals.doubled(turn.state.pause))


def answered(turn: Turn) -> None:
    """Note that the coordinator is there; if that was asked for, the next hello comes later than this one."""
    state = turn.state
    turn.set(answered=True, vain=0, joins=0, asked_at=None)
    if state.asked_at is not None and state.phase in ("waiting", "bringing"):
        turn.set(say_at=_hello_at(turn, state.pause), pause=intervals.doubled(state.pause))


def line_changed(turn: Turn, line: Line) -> None:
    """After a lost connection, say again soon what waits for an answer: it may have been lost with it."""
    turn.set(away=not line.online)
    if not line.online:
        turn.set(asked_at=None)
    elif turn.state.phase in ("waiting", "bringing"):
        hello_soon(turn)
    elif turn.state.phase in ("joining", "handing_in", "summing"):
        turn.set(say_at=min(turn.state.say_at, turn.now + intervals.spread(turn, intervals.REPEAT)))


def time_passed(turn: Turn) -> None:
    """Say what is due."""
    state = turn.state
    if turn.now < state.say_at:
        return
    if state.away:  # saying would wait for the connection; `line_changed` sees to it when it is back
        turn.set(say_at=turn.now + intervals.REPEAT)
    elif state.phase == "joining":
        say_join(turn)
    elif state.rejoin:
        say_join(turn)
        if state.phase == "handing_in":
            say_offer(turn)
        elif state.phase == "summing":
            masked.say_again(turn)
    elif state.phase == "handing_in":
        say_offer(turn, again=True)
    elif state.phase == "summing":
        masked.say_again(turn)
    elif state.phase in ("waiting", "bringing"):
        _say_hello(turn)


def _say_hello(turn: Turn) -> None:
    number = turn.state.hellos + 1
    turn.actions.append(SayHello(number))
    pause = intervals.growing(turn.state.vain)
    turn.set(hellos=number, vain=turn.state.vain + 1)
    _note_question(turn)
    turn.set(say_at=turn.now + intervals.spread(turn, pause))


def _hello_at(turn: Turn, pause: float) -> float:
    """Return the time of the next hello after a pause, or of the Join that is to be said before it."""
    at = turn.now + intervals.spread(turn, pause)
    return min(at, turn.state.say_at) if turn.state.rejoin else at


def _note_question(turn: Turn) -> None:
    """Note the time of a Join or Hello, unless an earlier one is still without an answer."""
    if turn.state.asked_at is None:
        turn.set(asked_at=turn.now)
