"""Decisions about offered updates, from the state alone.

An update counts in the round that it was trained for, and in the same opening of it: an abandoned opening may have had
other clusters. With `late`, an update that misses its round counts in the open round instead, if that is at most so
many rounds later and trains the same adapter in the same way: it takes the place of the update that its device would
have sent. The aggregation gives it less weight.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from coordinator.rounds.decisions.opening import share_of, stage_of
from coordinator.rounds.decisions.sums import problem_with_vector
from coordinator.rounds.state import Member, Past, Rules, State
from edge_sdk.wire import Offer


def member_for(rules: Rules, state: State, device: str, offer: Offer) -> Member | None:
    """Return the role in its round that an update was trained for; None if it cannot count in the open round."""
    current = state.current
    if current is None or state.phase != "training":
        return None
    if offer.round == current.number:
        return current.cohort.get(device) if offer.attempt == current.attempt else None
    member = _absent(state.past, offer).get(device)
    if member is None or (member.cluster is None) != (current.stage == "root"):
        return None
    if member.cluster is not None and member.cluster not in state.clusters:
        return None
    same_work = member.share is share_of(rules, current.number, state.lineage(member.cluster).start)
    return member if same_work else None


def wants(rules: Rules, state: State, device: str, offer: Offer) -> bool:
    """Return True if an offered update is worth pulling: it would count now, and its device has not left."""
    current = state.current
    return (
        current is not None
        and member_for(rules, state, device, offer) is not None
        and device not in current.updates
        and device not in current.refused
        and ((masked := current.sum_of(device)) is None or problem_with_vector(masked, device, offer) is None)
        and not state.devices[device].left
    )


def counted_before(state: State, device: str, offer: Offer) -> bool:
    """Return True if this very update counts already: its acknowledgement was lost, or it was sent twice."""
    sha256, current = offer.manifest.sha256, state.current
    if current and (masked := current.sum_of(device)):
        return offer.attempt == current.attempt and masked.upload_of(device) == sha256
    counted = current.updates.get(device) if current else None
    if current and counted and offer.round == current.number - counted.late:
        return counted.manifest.sha256 == sha256
    known = state.devices.get(device)
    return bool(known and known.trace and known.trace.update == sha256 and offer.round <= state.round)


def may_count_later(rules: Rules, state: State, device: str, offer: Offer) -> bool:
    """Return True if no round is open and the update can count in the next one; its device repeats the offer."""
    current = state.current
    if state.phase not in ("aggregating", "clustering", "gathering"):
        return False
    upcoming = (current.number if current else state.round) + 1
    return (
        upcoming <= rules.rounds
        and upcoming - offer.round <= rules.late
        and stage_of(rules, upcoming) == stage_of(rules, offer.round)
        and _is_absent(state, device, offer)
    )


def problem_with(rules: Rules, state: State, device: str, offer: Offer) -> tuple[str, str] | None:
    """Return the name of the reason why an offer cannot count now, and the reason in words, or None."""
    current = state.current
    if device not in state.devices:
        return "UnknownDevice", "Say Join before offering an update."
    if not math.isfinite(offer.first_loss) or not math.isfinite(offer.last_loss):
        return "OfferInvalid", "The losses are not finite numbers."
    if offer.manifest.role != "update":
        return "OfferInvalid", f"An offer brings an update, not a {offer.manifest.role} adapter."
    if offer.manifest.size > rules.max_update:
        return "UpdateTooLarge", (
            f"{offer.manifest.size} bytes, but an update of rank {rules.rank} has at most "
            f"{rules.max_update}: send float32 factors of the announced rank."
        )
    open_number = current.number if current else state.round + 1
    if offer.round > open_number:
        return "FutureUpdate", f"Round {offer.round} has not begun; wait for its RoundStart."
    if offer.attempt != _attempt(state, offer):
        return "OtherAttempt", (
            f"Round {offer.round} was abandoned and is opened anew: an update of attempt {offer.attempt} counts no "
            "more. Wait for the next RoundStart."
        )
    if current is None or state.phase != "training":
        return "StaleUpdate", f"Round {offer.round} is closed; wait for the next RoundStart."
    if member_for(rules, state, device, offer) is None:
        if offer.round == open_number:
            return "NotInCohort", f"The device is not in the cohort of round {offer.round}; wait for a RoundStart."
        return "StaleUpdate", f"Round {offer.round} is closed; wait for the next RoundStart."
    if device in current.updates:
        return "DuplicateUpdate", (
            f"Another update of this device already counts in round {current.number}. If this device has not begun "
            "anew, another one has its name (a copied card or home folder): give each a home and a name of its own."
        )
    if device in current.refused:
        return "DuplicateUpdate", f"An update of this device was already refused in round {current.number}."
    masked = current.sum_of(device)
    return problem_with_vector(masked, device, offer) if masked else None


def _absent(past: Mapping[int, Past], offer: Offer) -> Mapping[str, Member]:
    """Return the members that have not delivered in the opening of a closed round that the update was trained for."""
    closed = past.get(offer.round)
    return closed.absent if closed and closed.attempt == offer.attempt else {}


def _is_absent(state: State, device: str, offer: Offer) -> bool:
    """Return True for a member that has not delivered, in the round that the update was trained for."""
    current = state.current
    if current and offer.round == current.number:
        return offer.attempt == current.attempt and current.is_absent(device)
    return device in _absent(state.past, offer)


def _attempt(state: State, offer: Offer) -> int | None:
    """Return the opening of the offer's round that counts.

    None if it is still to come, and the offer's own if it is no longer known.
    """
    if state.current and offer.round == state.current.number:
        return state.current.attempt
    if offer.round > state.round and state.phase != "finished":
        return None
    closed = state.past.get(offer.round)
    return closed.attempt if closed else offer.attempt
