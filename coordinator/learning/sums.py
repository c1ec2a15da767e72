"""Masked sums of a closed round, unmasked and decoded: what their devices have learnt together."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from coordinator import rounds, secure_aggregation
from coordinator.store import Blobs
from edge_sdk.adapter import Adapter, Share
from edge_sdk.errors import BlobLost, MaskedSumError, MasksLeft
from edge_sdk.secure_aggregation import Decoded, Words, decoded, figures_of, from_bytes, layout_of, mean_of, sizes_of
from edge_sdk.wire import Masking

_log = logging.getLogger(__name__)


@dataclass
class Sums:
    """The sums of one root or cluster.

    Attributes:
        decoded: the decoded sums.
        devices: number of devices of each.
    """

    decoded: list[Decoded] = field(default_factory=list)
    devices: list[int] = field(default_factory=list)

    def mean(self, start: Adapter) -> Adapter:
        """Return the weighted mean of the devices' adapters, which all started from this one."""
        return mean_of(start, self.decoded)


@dataclass(frozen=True)
class Summed:
    """The sums of a round.

    Attributes:
        by_cluster: the sums of each cluster; of the root under None. A cluster whose sums have all failed has none.
        failed: sums that could not be unmasked, by their numbers, each with the reason.
    """

    by_cluster: dict[int | None, Sums]
    failed: dict[int, str]

    def figures(self) -> dict[str, float]:
        """Return the mean figures of the training over all devices, and the share of clipped numbers."""
        groups = self.by_cluster.values()
        return figures_of([one for g in groups for one in g.decoded], [count for g in groups for count in g.devices])


def summed(closed: rounds.Round, start_of: Callable[[rounds.Member], Adapter], blobs: Blobs) -> Summed:
    """Unmask and decode the sums of a closed round.

    Args:
        closed: the round.
        start_of: returns the adapter that a member's training started from.
        blobs: the masked vectors.

    Raises:
        MaskedSumError: all of them have failed; the message has the first reason.
        StoreUnavailable: the blob store does not answer.
    """
    assert closed.masking is not None, "its updates are summed"
    by_cluster: dict[int | None, Sums] = {}
    failed: dict[int, str] = {}
    for number in sorted(set(closed.summed.values())):
        masked = closed.sums[number]
        member = next(member for member in closed.cohort.values() if member.sum == number)
        try:
            one = decoded_sum(masked, start_of(member), closed.masking, member.share, blobs)
        except (MaskedSumError, BlobLost) as error:
            _log.warning("A masked sum of round %d could not be unmasked.", closed.number, exc_info=True)
            failed[number] = f"{type(error).__name__}: {error}"
            continue
        sums = by_cluster.setdefault(member.cluster, Sums())
        sums.decoded.append(one)
        sums.devices.append(len(masked.survivors))
    if not by_cluster:
        raise MaskedSumError(f"No masked sum of round {closed.number} could be unmasked: {next(iter(failed.values()))}")
    return Summed(by_cluster, failed)


def unmasked(masked: secure_aggregation.State, blobs: Blobs) -> Words:
    """Return the sum of the devices' vectors.

    Raises:
        ShareInvalid: the masks cannot be taken off.
        BlobLost, StoreUnavailable: a masked vector cannot be read.
    """
    task = masked.task
    left = secure_aggregation.leftover(task)
    if left.liars:
        _log.warning("Shares of %s do not belong to the secrets that they are of.", ", ".join(sorted(left.liars)))
    total = np.zeros(task.terms.words, np.uint32)
    for sha256 in task.uploads.values():
        total += from_bytes(blobs.get(sha256))
    secure_aggregation.unmask(total, left)
    return total


def decoded_sum(
    masked: secure_aggregation.State, start: Adapter, masking: Masking, share: Share, blobs: Blobs, slots: int = 1
) -> Decoded:
    """Unmask and decode a sum of updates.

    Args:
        masked: the sum.
        start: an adapter of the shapes that the updates have.
        masking, share: as of the round.
        blobs: the masked vectors.
        slots: number of slots.

    Raises:
        MaskedSumError, BlobLost: it is no sum of so many updates.
        StoreUnavailable: the blob store does not answer.
    """
    devices = len(masked.survivors)
    found = decoded(layout_of(sizes_of(start), masking, share, slots), unmasked(masked, blobs), devices)
    if not all(slot.weight for slot in found.slots):
        raise MasksLeft(
            f"The {devices} devices of the sum have no weight together in a slot, and each has pictures: a device's "
            "vector was none. Nothing is learnt from it."
        )
    return found
