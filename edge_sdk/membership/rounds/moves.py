"""The legal moves of a device between the phases of its membership, as one table; a turn asserts every move.

    seeking ──its state──> joining ──Welcome──> waiting <─────────────────────────────────────┐
                                                  │ ^                                         │ settled, or its
                             RoundStart, Finished │ │ a transfer failed                       │ time is over
                                                  v │                                         │
                                                bringing ──all there──> training ──kept──> handing_in
                                                  │ ^                      │                  │
                                                  │ └─────a newer step─────┴──its file lost───┘
                Finished, or enough rounds: all there
                                                  v
                                              going_home ──in place──> home

    seeking     the coordinator has not shown itself
    joining     it has not answered Join
    waiting     nothing to do until the next step
    bringing    the adapters of a step are fetched, one by one; a newer step begins anew
    training    a round's work is to be done, or is being done
    handing_in  an update is offered, until the coordinator has taken or refused it, or its time is over
    summing     under masks, in place of handing_in: a masked sum is made, until its round is over
    going_home  the last adapters are put in place
    home        the end

Three moves skip a phase: an update that was trained before is handed in from `waiting` (of an earlier round) or from
`bringing` (of this one); a question of a clustering, for which nothing is fetched or trained, leads to `summing` at
once; and a device that finds nobody, but has all adapters of a federation that has ended, goes home
from `seeking` or `joining`. A membership that its owner stops is at its end at once, from any phase.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Literal, TypeAlias

Phase: TypeAlias = Literal[
    "seeking", "joining", "waiting", "bringing", "training", "handing_in", "summing", "going_home", "home"
]  # fmt: skip

LEGAL: Mapping[Phase, Set[Phase]] = {
    "seeking": {"joining", "going_home", "home"},
    "joining": {"waiting", "going_home", "home"},
    "waiting": {"bringing", "handing_in", "summing", "home"},
    "bringing": {"waiting", "training", "handing_in", "summing", "going_home", "home"},
    "training": {"bringing", "handing_in", "summing", "home"},
    "handing_in": {"waiting", "bringing", "home"},
    "summing": {"waiting", "bringing", "home"},
    "going_home": {"home"},
    "home": set(),
}


def is_legal(before: Phase, after: Phase) -> bool:
    """Return True if a device may move from one phase to the other; it may always stay."""
    return after == before or after in LEGAL[before]
