"""The rounds of a federation as a pure state machine: `step(rules, state, event, now) -> (state, actions)`.

No clock, no socket, no disk: `coordinator.server` feeds it events and carries out its actions; tests and simulations do
the same without a network. The state can be saved at any point, see `state.records`, and continued with `Restarted`.

An event of one device costs the same among a hundred and among ten thousand devices: the state is immutable, but its
tables share what does not change (`state.table`), and devices are counted, not looked through (`state.census`). Only
what concerns all devices takes time in proportion: a round that opens, closes or is extended, a restart, a loss.

`moves` draws the phases; `phases` has a file for each, and one for the questions of a clustering by sums. `devices`,
`erasing`, `updates`, `lost_blobs` and `interruptions` take in the events that may come in any phase.

Cascade: rounds 1 to `root_rounds` train the root adapter with all devices; the others train every cluster's adapter on
top of the frozen root. Guarantees, tested by tests/coordinator/rounds/test_rounds_properties.py:

- An update that was acknowledged with Committed counts exactly once, unless its round fails (Failed), or the update
  turns out to be an outlier or is lost; its device is told of each.
- No update counts for another cluster, or from another start, than it was trained for, although an abandoned round is
  opened again under its number.
- Round numbers never fall, and a round in which anybody delivered ends at the latest (1 + extensions) deadlines after
  it started.

On a broker without access rules, others may send presence in a device's name. So presence never does more than end the
waiting for a device: a device taken for gone is told so, and takes part again with one message. See `decisions.waiting`
for the rules of waiting.

`now` is in seconds of any clock that does not jump back; times in the state are of that clock.
"""

from __future__ import annotations

from coordinator.rounds.machine import devices, erasing, interruptions, lost_blobs, masks, updates
from coordinator.rounds.machine.actions import Action
from coordinator.rounds.machine.events import (
    Aggregated,
    Clustered,
    Erase,
    Event,
    Failed,
    Forgotten,
    Greeted,
    Grouped,
    Heard,
    Inquired,
    Joined,
    Left,
    Lost,
    Numbered,
    Offered,
    Placed,
    Reconnected,
    Restarted,
    Said,
    Seen,
    Served,
    Spoiled,
    Stored,
    Tick,
)
from coordinator.rounds.machine.phases import aggregating, clustering, finished, gathering, inquiry, training
from coordinator.rounds.machine.turn import Turn
from coordinator.rounds.state import Rules, State


def step(rules: Rules, state: State, event: Event, now: float) -> tuple[State, list[Action]]:
    """Return the state after one event, and the actions. Never raises for a device's fault: that is refused by name."""
    turn = Turn(rules, state, now)
    if not erasing.is_of_erased(state, event):
        _take(turn, event)
    _settle(turn, state)
    return turn.state, turn.actions


def _take(turn: Turn, event: Event) -> None:
    match event:
        case Joined():
            devices.joined(turn, event)
        case Greeted():
            devices.greeted(turn, event)
        case Left():
            devices.left(turn, event)
        case Forgotten():
            devices.forgotten(turn, event)
        case Erase():
            erasing.erase(turn, event)
        case Heard():
            devices.heard(turn, event)
        case Seen():
            devices.seen(turn, event)
        case Offered():
            updates.offered(turn, event)
        case Said():
            masks.said(turn, event)
        case Stored():
            updates.stored(turn, event)
        case Spoiled():
            updates.spoiled(turn, event)
        case Clustered():
            clustering.clustered(turn, event)
        case Inquired():
            inquiry.inquired(turn, event)
        case Grouped():
            inquiry.grouped(turn, event)
        case Numbered():
            inquiry.numbered(turn, event)
        case Aggregated():
            aggregating.aggregated(turn, event)
        case Failed() if turn.state.phase == "clustering":
            clustering.failed(turn, event)
        case Failed():
            aggregating.failed(turn, event)
        case Placed():
            finished.placed(turn, event)
        case Served():
            finished.served(turn, event)
        case Lost():
            lost_blobs.lost(turn, event)
        case Restarted():
            interruptions.restarted(turn)
        case Reconnected():
            interruptions.reconnected(turn, event)
        case Tick():
            pass


def _settle(turn: Turn, before: State) -> None:
    """Make the moves that the event or the time has made possible: open a round, close it, extend it."""
    if turn.state.phase == "training":
        training.settle(turn)
    erasing.settle(turn, before)
    if turn.state.phase == "gathering":
        gathering.settle(turn)
