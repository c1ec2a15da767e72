"""The present wait of a federation, read from its state."""

from __future__ import annotations

from typing import Literal

import msgspec

from coordinator.rounds.decisions import waiting
from coordinator.rounds.state import Round, Rules, State


class Awaited(msgspec.Struct, frozen=True):
    """A wait of the federation.

    Attributes:
        what: "devices" for a round to begin; "updates" of the open round; "sums": answers of devices in its masked
            sums; "goodbyes" of devices that have not yet acknowledged their adapters.
        there: number that has arrived.
        needed: number that ends the wait: at once, or for updates and sums when their time is up.
        names: the devices that are waited for by name, sorted.
        until: time on the machine's clock at which the wait ends by itself; None: never.
    """

    what: Literal["devices", "updates", "sums", "goodbyes"]
    there: int
    needed: int
    names: tuple[str, ...] = ()
    until: float | None = None


def awaited(rules: Rules, state: State, now: float, *, named: bool = True) -> Awaited | None:
    """Return what the federation waits for from outside; None if nothing.

    Args:
        rules: the rules.
        state: the state.
        now: the time.
        named: False leaves the names out, and looks through no devices.
    """
    if state.phase == "gathering":
        return Awaited("devices", waiting.present(state, now), waiting.enough_to_begin(rules, state))
    if state.phase == "training" and state.current and state.current.exchanges and not state.current.is_gathering:
        return _answers(state.current, named=named)
    if state.phase == "training" and state.current and state.current.question:
        return _company(rules, state, state.current, now, named=named)
    if state.phase == "training" and state.current:
        names = tuple(sorted(waiting.awaited_members(rules, state, now))) if named else ()
        enough = waiting.enough_updates(rules, state, now)
        return Awaited("updates", state.current.delivered, enough, names, state.current.deadline)
    if state.phase == "finished":
        unserved = sum(n for kind, n in state.kinds(now) if waiting.is_present(kind) and not kind.served)
        devices = state.devices
        if unserved:
            here = (name for name, device in devices.items() if device.is_present(now) and not device.served)
            names = tuple(sorted(here)) if named else ()
            return Awaited("goodbyes", len(devices) - unserved, len(devices), names, state.ends)
    return None


def _company(rules: Rules, state: State, current: Round, now: float, *, named: bool) -> Awaited:
    """Return the wait of a question for the devices that it is for."""
    names = tuple(sorted(waiting.awaited_members(rules, state, now))) if named else ()
    return Awaited("sums", current.delivered, len(current.cohort), names, current.deadline)


def _answers(current: Round, *, named: bool) -> Awaited:
    """Return the wait of a round for the present exchanges of its masked sums."""
    sums = [current.sums[number] for number in current.exchanges]
    return Awaited(
        "sums",
        sum(masked.answered for masked in sums),
        sum(masked.enough for masked in sums),
        tuple(sorted(name for masked in sums for name in masked.awaited)) if named else (),
        max(exchange.until for exchange in current.exchanges.values()),
    )
