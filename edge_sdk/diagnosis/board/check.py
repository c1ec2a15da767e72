"""Checks of the board itself: power, throttling, temperature, battery, memory groups. All of them are warnings."""

from __future__ import annotations

from collections.abc import Iterator

from edge_sdk.diagnosis.board.facts import BoardFacts
from edge_sdk.diagnosis.board.model import is_raspberry_pi
from edge_sdk.diagnosis.board.sensors import Supply, Temperature
from edge_sdk.diagnosis.board.throttling import Throttling
from edge_sdk.diagnosis.finding import Finding


def check_board(facts: BoardFacts) -> Iterator[Finding]:
    """Yield what should be looked at on this board, and what is in order; nothing where nothing is known."""
    if facts.throttling is not None:
        yield from _check_throttling(facts.throttling)
    if facts.temperatures:
        yield _check_temperature(facts.temperatures[0])
    yield from (_check_battery(supply) for supply in facts.supplies if supply.is_battery)
    if facts.memory_limits is not None:
        yield _check_memory_limits(facts)


def _check_throttling(found: Throttling) -> Iterator[Finding]:
    if found.bits is None:
        yield Finding(
            "board",
            "warning",
            f"The firmware did not say whether the board is slowed down: {found.trouble}.",
            "A weak power supply or heat would go unnoticed.",
            "Try `vcgencmd get_throttled` as this user; it needs the group video: `sudo usermod -aG video $USER`.",
        )
        return
    now, before = (", ".join(names) or "nothing" for names in (found.now, found.since_start))
    state = f"now: {now}; since it was switched on: {before}"
    if not found.bits:
        yield Finding("board", "ok", "Its power supply is strong enough, and nothing has slowed it down.")
    elif found.under_voltage:
        yield Finding(
            "board",
            "warning",
            f"Its power supply is too weak ({found.text}; {state}).",
            "The board slows down, and may write wrong data or stop under load.",
            "Use the power supply made for this board (27 W for a Raspberry Pi 5) with its own cable, and unplug what "
            "draws power from its USB ports.",
        )
    else:
        yield Finding(
            "board",
            "warning",
            f"It is slowed down, or was ({found.text}; {state}).",
            "Drawing and learning take longer than they could, and times that are measured now say little.",
            "Cool it: a heat sink with a fan, free air. The bits of the past vanish when it is switched off.",
        )


def _check_temperature(hottest: Temperature) -> Finding:
    what = f"{hottest.celsius:.0f} °C ({hottest.sensor})"
    if not hottest.hot:
        return Finding("board", "ok", what + (f", slowed down from {hottest.limit:.0f} °C on" if hottest.limit else ""))
    return Finding(
        "board",
        "warning",
        f"{what}: the board is slowed down from {hottest.limit:.0f} °C on.",
        "Drawing and learning take longer than they could.",
        "Cool it: a heat sink with a fan, free air.",
    )


def _check_battery(battery: Supply) -> Finding:
    charge = "charge unknown" if battery.percent is None else f"{battery.percent} %"
    what = f"Battery {battery.name}: {charge}, {battery.status.lower() or 'state unknown'}"
    if not battery.drains:
        return Finding("board", "ok", what)
    return Finding(
        "board",
        "warning",
        what,
        "Learning takes all cores for minutes, which empties it.",
        "Plug the device in before it learns or joins a federation.",
    )


def _check_memory_limits(facts: BoardFacts) -> Finding:
    if facts.memory_limits:
        return Finding("board", "ok", "Limits of memory for services and containers have an effect.")
    pi = is_raspberry_pi(facts.model)
    return Finding(
        "board",
        "warning",
        "The memory controller of control groups is off.",
        "MemoryMax of a service and limits of containers have no effect: a training that takes too much memory takes "
        "the whole board down with it.",
        "Add cgroup_enable=memory to the line in /boot/firmware/cmdline.txt, and restart."
        if pi
        else "Start the kernel with cgroup_enable=memory, and without cgroup_disable=memory.",
    )
