"""Masked sums of the open round: their exchanges with devices, from the first keys to a sum that can be unmasked.

A device says that it is trained by its advertisement, which counts as an update does: the same rules decide how long a
round waits for it. When the round closes, or all of a sum have advertised themselves, the roster is fixed. From then on
devices answer at once, and each exchange waits `patience` seconds for them, an upload a whole deadline; a device that
is gone is not waited for. Those that have not answered are asked again meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from coordinator import secure_aggregation
from coordinator.rounds.decisions import cluster_of, fewest_in_sum, sets_pace
from coordinator.rounds.machine.actions import Report
from coordinator.rounds.machine.events import Said, Stored
from coordinator.rounds.machine.turn import Turn
from coordinator.rounds.state import Exchange, Round
from edge_sdk.secure_aggregation import encode
from edge_sdk.wire import Committed, Sum

# Exchanges in which devices are asked again, of those that a sum's patience holds.
_AGAIN = 3
_OVER = ("summing", "done", "abandoned")


def said(turn: Turn, event: Said) -> None:
    """Take in a device's message of a masked sum."""
    current = turn.state.current
    member = current.cohort.get(event.device) if current else None
    if current is not None and _is_over(current, event):
        return  # it repeats itself until it hears that the round is done
    if current is None or member is None or member.sum is None or turn.state.phase != "training":
        reason = "No masked sum of this device is open: its message came late. It takes part again in the next round."
        turn.refuse(event.device, "AttemptMismatch", reason, about="sum")
        return
    before, told = current.sums[member.sum], len(turn.actions)
    _feed(turn, member.sum, secure_aggregation.Heard(event.device, event.message))
    current = turn.open_round()
    if not before.has(event.device) and current.sums[member.sum].has(event.device):
        pace = turn.now - current.opened if sets_pace(turn.state, event.device, turn.now) else current.pace
        turn.change([event.device], current=replace(current, pace=pace))
        ready = {"round": current.number, "device": event.device, "cluster": member.cluster}
        turn.actions.insert(told, Report("device_ready", ready))


def stored(turn: Turn, event: Stored) -> None:
    """Take in a masked vector that is stored, and acknowledge it."""
    manifest = event.offer.manifest
    number = turn.open_round().cohort[event.device].sum
    assert number is not None, "its device takes part in a sum"
    turn.send(event.device, Committed(sha256=manifest.sha256))
    _feed(turn, number, secure_aggregation.Uploaded(event.device, manifest.sha256, manifest.size))


def restarted(turn: Turn) -> None:
    """Let all exchanges begin anew: what was said last may be lost."""
    current = turn.open_round()
    for number, masked in current.sums.items():
        if masked.phase not in ("advertising", *_OVER):
            _expect(turn, number, masked)
            _feed(turn, number, secure_aggregation.Restarted())


def note_silent(turn: Turn, names: Iterable[str], agreed: frozenset[str] = frozenset()) -> None:
    """Note that these devices have not answered a question, and those that may have agreed to its sum."""
    alone = turn.state.alone
    assert alone.asking is not None, "there is a question"
    asking = replace(alone.asking, silent=alone.asking.silent | frozenset(names))
    turn.change([], alone=replace(alone, asking=asking, last=agreed or alone.last))


def are_over(current: Round) -> bool:
    """Return True if every sum of the open round can be unmasked, or is abandoned."""
    return all(masked.phase in _OVER for masked in current.sums.values())


def may_be_spent(current: Round) -> bool:
    """Return True if devices may have helped to unmask a sum of the open round: they do so once in a round."""
    return current.spent or any(masked.phase in ("unmasking", "summing") for masked in current.sums.values())


def close(turn: Turn) -> None:
    """Fix the rosters of all sums that still wait for devices to be trained."""
    for number, masked in turn.open_round().sums.items():
        if masked.phase == "advertising":
            _feed(turn, number, secure_aggregation.TimeUp())


def settle(turn: Turn) -> None:
    """Go on with exchanges whose time is over, or that wait for nobody who is there; repeat what was not answered."""
    for number in list(turn.open_round().sums):
        while (exchange := turn.open_round().exchanges.get(number)) is not None:
            masked = turn.open_round().sums[number]
            if turn.now < exchange.until and any(_is_near(turn, name) for name in masked.awaited):
                if turn.now >= exchange.again:
                    _ask_again(turn, number, exchange)
                break
            _feed(turn, number, secure_aggregation.TimeUp())


def _is_over(current: Round, event: Said) -> bool:
    """Return True for a message of a sum of the open round from which nothing more is wanted."""
    masked, said = current.sum_of(event.device), event.message
    return (
        masked is not None and masked.phase in _OVER and (said.epoch, said.round, said.attempt) == masked.terms.numbers
    )


def _feed(turn: Turn, number: int, event: secure_aggregation.Event) -> None:
    current = turn.open_round()
    before = current.sums[number]
    after, actions = secure_aggregation.step(before, event)
    if after is not before:
        names = secure_aggregation.touched(before, after)
        turn.change(names, current=replace(current, sums={**current.sums, number: after}))
    if after.phase != before.phase:
        _expect(turn, number, after)
        _tell(turn, number, before, after)
    for action in actions:
        match action:
            case secure_aggregation.Send(devices, message):
                for name in devices:
                    turn.send(name, Sum(content=encode(message)))
            case secure_aggregation.Refuse(device, error):
                turn.refuse(device, type(error).__name__, str(error)[:1000], about="sum")
            case secure_aggregation.Abandon(error, spent):
                _abandoned(turn, number, before, type(error).__name__, str(error), spent=spent)
            # The cleanup after the round discards vectors; the learning thread unmasks when all sums are over.


def _expect(turn: Turn, number: int, masked: secure_aggregation.State) -> None:
    """Note the time of a sum's new exchange."""
    current = turn.open_round()
    exchanges = {n: exchange for n, exchange in current.exchanges.items() if n != number}
    if masked.phase not in ("advertising", *_OVER):
        patience = turn.rules.patience
        longest = max(patience, turn.rules.deadline) if masked.phase == "uploading" else patience
        exchanges[number] = Exchange(turn.now + longest, turn.now + patience / _AGAIN)
    turn.change([], current=replace(current, exchanges=exchanges))


def _ask_again(turn: Turn, number: int, exchange: Exchange) -> None:
    current, again = turn.open_round(), turn.now + turn.rules.patience / _AGAIN
    turn.change([], current=replace(current, exchanges={**current.exchanges, number: replace(exchange, again=again)}))
    _feed(turn, number, secure_aggregation.Restarted())


def _is_near(turn: Turn, name: str) -> bool:
    device = turn.state.devices.get(name)
    return device is not None and device.is_near(turn.now)


def _tell(turn: Turn, number: int, before: secure_aggregation.State, after: secure_aggregation.State) -> None:
    current = turn.open_round()
    of = {"round": current.number, "cluster": cluster_of(current, number)}
    if before.phase == "advertising" and after.roster:
        missing = sorted(after.cohort - {entry.device for entry in after.roster})
        neighbours, threshold = after.given
        turn.report(
            "sum_begun", **of, devices=len(after.roster), missing=missing, neighbours=neighbours, threshold=threshold
        )
    elif before.phase == "uploading" and after.survivors:
        dropped = sorted(entry.device for entry in after.roster if entry.device not in after.summed)
        turn.report("sum_complete", **of, devices=len(after.survivors), dropped=dropped)


def _abandoned(
    turn: Turn, number: int, before: secure_aggregation.State, code: str, reason: str, *, spent: bool
) -> None:
    current = turn.open_round()
    if spent:
        turn.change([], current=replace(current, spent=True))
    if current.question:
        note_silent(turn, before.awaited, before.summed)
    masking = current.masking
    assert masking is not None, "it has sums"
    needed = fewest_in_sum(masking)
    if before.roster:
        needed = before.terms.fewest(len(before.roster), before.given)
    turn.report(
        "sum_abandoned",
        round=current.number,
        cluster=cluster_of(current, number),
        code=code,
        reason=reason,
        devices=before.there,
        needed=needed,
    )
