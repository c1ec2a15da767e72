"""Seconds of the machine: between a message and its repetition, and until a wait is given up.

All but the first interval of an offer are shortened by up to half, by `Rules.spread`, so that many devices do not speak
at once.
"""

from __future__ import annotations

import math

from edge_sdk.membership.rounds.machine.turn import Turn

# Seconds after which an unanswered Join or Offer is said again, any number of times; the first hello comes as soon.
REPEAT = 10.0
# Seconds in which the devices of a federation say Join when its coordinator has started.
JITTER = 1.0
# Longest time in seconds between two hellos, or two offers of the same update.
LONGEST = 1200.0
# Unanswered repetitions before the coordinator counts as silent: some are lost, and a coordinator may be busy.
PATIENCE = 3
# Seconds to wait for the answer that says whether this very update counts.
CONFIRM = 12.0
_GOLDEN = 0.6180339887498949  # multiples of it, modulo 1, are spread evenly


def growing(vain: int) -> float:
    """Return the seconds to wait after so many messages without an answer."""
    return min(REPEAT * 2.0 ** min(vain, 64), LONGEST)


def doubled(pause: float) -> float:
    """Return the pause after this one."""
    return min(2 * pause, LONGEST)


def spread(turn: Turn, seconds: float) -> float:
    """Return the seconds, shortened by up to half."""
    return seconds * (0.5 + 0.5 * _fraction(turn))


def moment(turn: Turn, longest: float = math.inf) -> float:
    """Return the seconds to a moment of this device's own, soon after the coordinator has shown itself."""
    window = min(longest, JITTER * 2.0 ** min(turn.state.joins, 64), turn.rules.answer / 4, REPEAT)
    return window * _fraction(turn)


def _fraction(turn: Turn) -> float:
    """Return a number from 0 to 1 of this device's own, another one after each Hello and Join."""
    return (turn.rules.spread + (turn.state.hellos + turn.state.joins) * _GOLDEN) % 1.0
