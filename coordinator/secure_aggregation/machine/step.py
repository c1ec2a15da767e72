"""The coordinator's half of a masked sum as a pure state machine: `step(state, event) -> (state, actions)`.

No clock, no socket, no disk: the caller stores the new state before it carries out any of the actions, and feeds TimeUp
when it does not want to wait any longer. A state that was saved at any point goes on with `Restarted`.

    advertising ──> revealing ──> sharing ──> uploading ──> consenting ──> unmasking ──> summing ──> done
         └──complete graph───────────^                                       (any phase ──> abandoned)

Devices may be lost in each phase, as long as enough are left (`Policy.fewest`); only the numbers of the graph's seed
must be complete. The roster is fixed at the end of the first phase, those who take part in masking at the end of the
third, and those in the sum at the end of the fourth: a vector that comes later is thrown away, as its masks are being
undone.

Each phase ends when all have answered, or by TimeUp. Either the exact sum of the survivors comes out of it, or the
attempt is abandoned with a named error, and nothing is learnt. A new attempt is a new state, with new keys of all
devices.

`phases` has a file for each phase: what it takes in, and how it ends. `hearing` hands devices' messages to them, and
`saying` has what the coordinator says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from coordinator.secure_aggregation.machine import hearing, saying
from coordinator.secure_aggregation.machine.actions import Action, Discard, Refuse, Unmask
from coordinator.secure_aggregation.machine.events import Event, Failed, Heard, Restarted, Summed, TimeUp, Uploaded
from coordinator.secure_aggregation.machine.phases import (
    advertising,
    consenting,
    revealing,
    sharing,
    unmasking,
    uploading,
)
from coordinator.secure_aggregation.machine.turn import Turn
from coordinator.secure_aggregation.state import Phase, State
from edge_sdk.errors import MaskedSumError, WireError

_END: Mapping[Phase, Callable[[Turn], None]] = {
    "advertising": advertising.end,
    "revealing": revealing.end,
    "sharing": sharing.end,
    "uploading": uploading.end,
    "consenting": consenting.end,
    "unmasking": unmasking.end,
}


def step(state: State, event: Event) -> tuple[State, list[Action]]:
    """Return the state after one event, and the actions. Never raises for a device's fault: that is refused by name."""
    turn = Turn(state)
    try:
        _take(turn, event)
    except (MaskedSumError, WireError) as error:
        assert isinstance(event, Heard | Uploaded), "only devices are at fault"
        late = isinstance(event, Uploaded) and event.sha256 not in state.uploads.values()
        return state, [Refuse(event.device, error), *([Discard(event.sha256)] if late else [])]  # type: ignore[union-attr]
    if turn.state.phase not in ("done", "abandoned") and not turn.state.awaited:
        _go_on(turn)
    return turn.state, turn.actions


def _take(turn: Turn, event: Event) -> None:
    match event:
        case Heard():
            hearing.heard(turn, event.device, event.message)
        case Uploaded():
            uploading.uploaded(turn, event)
        case TimeUp():
            _go_on(turn)
        case Summed():
            if turn.state.phase == "summing":
                turn.actions += [Discard(sha256) for sha256 in turn.state.uploads.values()]
                turn.set(phase="done", answers={}, consents={}, ready={}, shares={}, numbers={}, uploads={})
        case Failed():
            if turn.state.phase == "summing":
                turn.abandon(event.error)
        case Restarted():
            if turn.state.phase == "summing":
                turn.actions.append(Unmask(turn.state.task))
            elif turn.state.phase not in ("advertising", "done", "abandoned"):
                saying.announce(turn)


def _go_on(turn: Turn) -> None:
    """End the present phase with those who have answered."""
    end = _END.get(turn.state.phase)
    if end is not None:
        end(turn)
