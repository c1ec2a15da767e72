"""Masked sums of a round: which there are, and what a device may still give to one."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from coordinator import secure_aggregation
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
