"""Masked sums of a round: which there are, and what a device may still give to one."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

import msgspec

from coordinator import secure_aggregation
from coordinator.rounds.state import Round, State
from edge_sdk.errors import ConfigurationError
from edge_sdk.secure_aggregation import FEWEST_DEVICES, policy_of, shards
from edge_sdk.wire import Masking, Offer

LARGEST_SUM = 400
"""Devices of the largest sum, whose roster fits into one message. A larger cluster is several sums."""
NOT_IN_SUM = "NotInSum"


@lru_cache(maxsize=8)
def fewest_in_sum(masking: Masking) -> int:
    """Return the number of devices of the smallest sum under these terms.

    Raises:
        ConfigurationError: no number of devices keeps their bounds.
    """
    for devices in range(FEWEST_DEVICES, LARGEST_SUM + 1):
        if allows(masking, devices):
            return devices
    raise ConfigurationError(
        f"No masked sum of up to {LARGEST_SUM} devices is both safe from a share of {masking.colluding:g} that collude "
        f"and sure to survive the loss of {masking.dropping:g}: lower `colluding` or `dropping`."
    )


@lru_cache(maxsize=LARGEST_SUM)
def allows(masking: Masking, devices: int) -> bool:
    """Return True if so many devices can be summed under these terms."""
    try:
        policy_of(masking).parameters(devices)
    except ConfigurationError:
        return False
    return True


def divided(names: Iterable[str]) -> list[list[str]]:
    """Return the devices of each sum of a cluster: as few sums as possible, as equal as possible."""
    ordered = sorted(names)
    count = len(shards(len(ordered), LARGEST_SUM))
    return [ordered[number::count] for number in range(count)]


class SumProgress(msgspec.Struct, frozen=True):
    """The progress of a masked sum of the open round.

    Attributes:
        cluster: its cluster; None for the root.
        phase: its phase, see `coordinator.secure_aggregation`.
        devices: number of devices that are asked in this phase, or are in the sum once nobody is asked any more.
        answered: number of these that have answered.
        reason: the reason why it was abandoned.
        question: true if it is of answers to a question, not of updates.
    """

    cluster: int | None
    phase: secure_aggregation.Phase
    devices: int
    answered: int
    reason: str = ""
    question: bool = False


def sums_of(state: State) -> list[SumProgress]:
    """Return the progress of the masked sums of the open round, in the order of their numbers."""
    current = state.current
    if current is None:
        return []
    return [_progress(current, number, masked) for number, masked in sorted(current.sums.items())]


def cluster_of(current: Round, number: int) -> int | None:
    """Return the cluster of a masked sum of a round; None for the root."""
    return next(member.cluster for member in current.cohort.values() if member.sum == number)


def takes_part(masked: secure_aggregation.State, device: str) -> bool:
    """Return True if a sum may still ask something of a device."""
    if masked.phase in ("summing", "done", "abandoned"):
        return False
    return masked.phase == "advertising" or masked.has(device)


def problem_with_vector(masked: secure_aggregation.State, device: str, offer: Offer) -> tuple[str, str] | None:
    """Return the name of the reason why a masked vector is not wanted, and the reason in words, or None."""
    if offer.manifest.size != 4 * masked.terms.words:
        return "OfferInvalid", (
            f"A masked vector of {offer.manifest.size} bytes; those of this round have {4 * masked.terms.words}. "
            "Updates of this federation are summed under masks, and never sent by themselves."
        )
    if not masked.wants_upload(device):
        return NOT_IN_SUM, (
            f"The masked vector is not in the sum of round {offer.round}: it came too late, or this device takes no "
            "part in it. It takes part again in the next round."
        )
    return None


def _progress(current: Round, number: int, masked: secure_aggregation.State) -> SumProgress:
    answered = masked.answered
    devices = answered + len(masked.awaited) or len(masked.survivors)
    question = bool(current.question)
    return SumProgress(cluster_of(current, number), masked.phase, devices, answered, masked.reason, question)
