"""Loss of blobs: the federation goes on without them."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from coordinator.rounds.decisions import (
    ADAPTERS_LOST,
    UPDATE_LOST,
    lost_lineages,
    lost_updates,
    round_is_lost,
    without_blobs,
)
from coordinator.rounds.machine.events import (
    Lost,
)
from coordinator.rounds.machine.phases import clustering, training
from coordinator.rounds.machine.turn import Turn


def lost(turn: Turn, event: Lost) -> None:
    """Continue without the lost blobs. After the last round the state is kept: a backup can restore them."""
    hashes = event.blobs & turn.state.blobs()
    if not hashes:
        if turn.state.phase == "clustering":  # this was the answer, about blobs that nobody needs any more
            clustering.ask(turn)
        return
    names = lost_lineages(turn.state, hashes)
    finished, over = turn.state.phase == "finished", round_is_lost(turn.state, hashes)
    if names:
        turn.report("adapters_lost", names=names, anew=not finished)
    if finished:
        return
    gone = lost_updates(turn.state, hashes)
    turn.state = without_blobs(turn.state, hashes)
    if turn.state.phase == "clustering":
        clustering.ask(turn)
    if turn.state.phase == "training" and over:
        _give_up_round(turn)
        # Again, as the closed round is now among those with late updates.
        turn.state = without_blobs(turn.state, hashes)
    elif turn.state.phase == "training":
        _forget_updates(turn, gone)


def _give_up_round(turn: Turn) -> None:
    """End the open round, whose adapters are lost."""
    reason = "adapters that it needs are lost"
    if turn.open_round().delivered:
        training.fail(turn, ADAPTERS_LOST, reason)
    else:
        training.abandon(turn, reason)


def _forget_updates(turn: Turn, devices: Iterable[str]) -> None:
    """Discard lost updates, and tell their devices."""
    for name in devices:
        current = turn.open_round()
        update = current.updates[name]
        kept = {other: counted for other, counted in current.updates.items() if other != name}
        turn.set(current=replace(current, updates=kept, refused={**current.refused, name: UPDATE_LOST}))
        reason = f"The coordinator has lost this update of round {current.number}: it does not count."
        turn.refuse(name, UPDATE_LOST, reason, about=update.manifest.sha256)
