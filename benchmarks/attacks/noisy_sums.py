"""Clusters found by sums with noise, as level "local+dp" finds them: the groups that are left, and what centroids tell.

The noise in a sum is that of devices which expect as many to be lost, and to collude, as a federation file says by
default, though none is lost here. It is drawn exactly, from a seed.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np

from benchmarks.attacks.captions import Numbers, Victim, World
from benchmarks.attacks.guesses import Guesses
from benchmarks.attacks.sums import told_of_anybody
from coordinator.methods.clustering.by_noisy_sums import Groups, Plan, State, begin, step, summed_with_noise
from coordinator.rounds import LARGEST_SUM
from edge_sdk.privacy import FARTHEST, Guarantee, nearest_centroid
from edge_sdk.secure_aggregation import Policy


def clustered_with_noise(
    codes: Sequence[bytes], clusters: int, guarantee: Guarantee, rng: np.random.Generator
) -> tuple[Groups, Numbers]:
    """Return the groups, and the group (n,) that each device chooses.

    Args:
        codes: the devices' codes of level "coarse"; of more than a sum can hold, others answer each question.
        clusters: number of groups.
        guarantee: what the answers keep.
        rng: source of the noise, and of the choice of devices.
    """
    devices, policy = min(len(codes), LARGEST_SUM), Policy()
    honest = policy.honest(devices, policy.fewest(devices, policy.parameters(devices)))
    below = random.Random(int(rng.integers(2**62))).randrange
    found: State | Groups = begin(Plan(epoch=1, clustering=1, clusters=clusters))
    while isinstance(found, State):
        there = [codes[place] for place in rng.permutation(len(codes))[:devices]]
        found = step(found, summed_with_noise(found.question, there, guarantee, honest, below))
    centroids = np.array(found.centroids)
    return found, np.array([nearest_centroid(code, centroids) for code in codes])


def told_by_centroids(
    known: World, crowd: Sequence[Victim], groups: Groups, rng: np.random.Generator
) -> dict[str, float]:
    """Shares of captions, styles and groups of any device that the centroid of the largest group tells."""
    taken = [np.array(groups.centroids[0]) / FARTHEST]
    return told_of_anybody(known, Guesses(known, known.basis.place(known.vectors)), crowd, taken, taken, rng)
