"""Small groups, merged before anything of them is summed: the sum of a single device would be its code."""

from __future__ import annotations

from collections.abc import Sequence

from edge_sdk.privacy import Integers


def merged(counts: Integers | Sequence[int], centroids: Integers, smallest: int) -> list[int]:
    """Return the slot of each group, numbered by first appearance.

    The smallest group that is too small, the first of equal ones, shares the slot of the nearest other one, until none
    is too small or all share one.

    Args:
        counts: (k,) number of devices in each group; it may be zero.
        centroids: (k, DIMENSIONS) the groups' centroids.
        smallest: least number of devices in a slot.
    """
    sizes = {group: int(count) for group, count in enumerate(counts)}
    members = {group: [group] for group in sizes}
    while len(members) > 1:
        small = min(sizes, key=lambda group: (sizes[group], group))
        if sizes[small] >= smallest:
            break
        own = members.pop(small)
        distance = ((centroids[own, None] - centroids[None]) ** 2).sum(axis=2).min(axis=0)
        target = min(members, key=lambda group: (min(distance[members[group]]), group))
        members[target] += own
        sizes[target] += sizes.pop(small)
    slot_of = {group: min(slot) for slot in members.values() for group in slot}
    numbers = {first: number for number, first in enumerate(sorted(set(slot_of.values())))}
    return [numbers[slot_of[group]] for group in range(len(counts))]
