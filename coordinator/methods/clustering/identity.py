"""Identities of clusters that survive re-clustering."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np


def match_identities(
    groups: Sequence[set[str]], before: Mapping[str, int], next_identity: int
) -> tuple[dict[str, int], dict[int, int]]:
    """Give new groups the identities of old clusters, so that most devices stay in theirs (Hungarian matching).

    Args:
        groups: the new groups.
        before: each device's old cluster.
        next_identity: the first number never used.

    Returns:
        Each device's cluster; and for every new cluster the old one that most of its devices come from.
    """
    old = sorted(set(before.values()))
    overlap = np.array([[sum(before.get(d) == o for d in group) for o in old] for group in groups], dtype=np.int64)
    identities: dict[int, int] = {}
    if old:
        from scipy.optimize import linear_sum_assignment

        rows, columns = linear_sum_assignment(overlap, maximize=True)
        identities = {int(r): old[c] for r, c in zip(rows, columns, strict=True) if overlap[r, c] > 0}
    assignment: dict[str, int] = {}
    parents: dict[int, int] = {}
    for row, group in enumerate(groups):
        if row not in identities:
            identities[row] = next_identity
            next_identity += 1
            origins = Counter(before[device] for device in sorted(group) if device in before)
            if origins:
                parents[identities[row]] = origins.most_common(1)[0][0]
        assignment.update(dict.fromkeys(group, identities[row]))
    return assignment, parents
