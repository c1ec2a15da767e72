"""Clusters that devices choose alone: whom the next question or round asks, so that no sum shows a single device."""

from __future__ import annotations

import hashlib
from collections.abc import Set

from coordinator.rounds.decisions.sums import LARGEST_SUM, allows, fewest_in_sum
from coordinator.rounds.state import Counted, Rules, State
from edge_sdk.privacy import hides
from edge_sdk.secure_aggregation import share_of
from edge_sdk.wire import Manifest


def asked(rules: Rules, state: State, now: float) -> frozenset[str] | None:
    """Return the devices that the next question is for; None if they would be too few.

    All that are present and may be asked, as long as those that are missing or new beside the last sum are none, or as
    many as the smallest cluster. If fewer are missing, others are left out with them; if fewer are new, they are.
    Where answers have noise, any that are present, as it hides them in any company.
    """
    assert rules.masking is not None, "questions are answered under masks"
    running, last, smallest = state.alone.asking, state.alone.last, rules.smallest
    here = frozenset(name for name, device in state.devices.items() if device.is_present(now))
    seed, devices = b"", frozenset[str]()
    if running is not None:
        seed, devices = running.question, running.devices
        here -= running.silent
    if rules.noise is not None:
        named = frozenset(in_order(here, seed)[:LARGEST_SUM])
        enough = len(here) >= enough_for_noise(rules, begun=bool(devices))
        return named if enough and allows(rules.masking, len(named)) else None
    here &= devices or here
    kept, new, gone = in_order(here & last, seed), in_order(here - last, seed), len(last - here)
    if 0 < gone < smallest:
        kept = kept[: max(0, len(kept) - (smallest - gone))]
    new = new[: LARGEST_SUM - len(kept)]
    chosen = frozenset([*kept, *(new if len(new) >= smallest or not last else ())])
    if not hides(chosen, last, smallest) or len(chosen) < max(smallest, fewest_in_sum(rules.masking)):
        return None
    return chosen if allows(rules.masking, len(chosen)) else None


def may_be_summed(rules: Rules, state: State, devices: Set[str]) -> bool:
    """Return True if a question may be answered by these devices alone."""
    assert rules.masking is not None, "questions are answered under masks"
    if rules.noise is not None:
        return len(devices) >= enough_for_noise(rules, begun=True)
    return hides(devices, state.alone.last, rules.smallest) and len(devices) >= fewest_in_sum(rules.masking)


def enough_for_noise(rules: Rules, *, begun: bool) -> int:
    """Return the devices that a question takes whose answers have noise.

    Args:
        rules: the rules.
        begun: true once a sum of the clustering has come about: some devices may be lost after that.
    """
    assert rules.masking is not None, "questions are answered under masks"
    least = max(rules.smallest, fewest_in_sum(rules.masking))
    if not begun:
        return max(least, rules.min_devices)
    most = min(rules.min_devices, LARGEST_SUM)
    return max(least, most - share_of(most, rules.masking.dropping))


def counted(state: State, now: float) -> Counted | None:
    """Return the devices that were counted for the next round, if all of them are present."""
    found = state.alone.counted
    if found is None or found.round != state.round + 1:
        return None
    there = all((known := state.devices.get(name)) and known.is_present(now) for name in found.devices)
    return found if there else None


def members(rules: Rules, state: State, now: float) -> list[str]:
    """Return the members of the next round, in the order of their names: none if they are too few for a sum."""
    assert rules.masking is not None, "its updates are summed"
    if (known := counted(state, now)) is not None:
        return sorted(known.devices)
    present = [name for name, device in state.devices.items() if device.is_present(now)]
    chosen = in_order(present, str(state.round).encode())[:LARGEST_SUM]
    return sorted(chosen) if allows(rules.masking, len(chosen)) else []


def starts(state: State) -> list[Manifest | None]:
    """Return the adapter that each cluster's devices go on from, in the order of the clusters; nothing if none has."""
    found = [state.clusters[cluster].start for cluster in sorted(state.clusters)]
    return found if any(found) else []


def in_order(names: Set[str] | list[str], seed: bytes) -> list[str]:
    """Return names in an order that says nothing about the devices, and is another one with another seed."""
    return sorted(names, key=lambda name: hashlib.sha256(seed + name.encode()).digest())
