"""Devices of a simulation that choose their clusters alone: k-means by the plain sums of their answers.

Masks would change none of these sums. So a federation of level "local" is simulated without them.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from coordinator import rounds
from coordinator.config import Federation
from coordinator.methods.aggregation import MaskableSettings
from coordinator.methods.clustering import BySums, by_sums
from edge_sdk.privacy import answer, nearest_centroid


def is_alone(federation: Federation) -> bool:
    """Return True if the devices of a federation choose their clusters alone."""
    return isinstance(federation.clustering, BySums)


def unmasked(federation: Federation) -> Federation:
    """Return a federation of level "local" without masks, in which updates weigh as in its masked sums."""
    own = federation.aggregation
    assert isinstance(own, MaskableSettings), "its updates are summed"
    return replace(federation, aggregation=replace(own, masked=False, max_weight=2.0**31))


def largest_weight(federation: Federation) -> int | None:
    """Return the largest weight of a device under masks; None for a federation whose devices do not choose alone."""
    own = federation.aggregation
    return own.largest_weight if is_alone(federation) and isinstance(own, MaskableSettings) else None


def found_groups(federation: Federation, codes: Mapping[str, bytes]) -> tuple[by_sums.Groups, int, int]:
    """Return the groups of devices with these codes, and the bytes that each device has sent and been sent for them.

    Raises:
        TooFewDevices: they do not make a group of the smallest size.
        PromptError: a code is none of this level.
    """
    clustering = federation.clustering
    assert isinstance(clustering, BySums), "devices choose alone"
    found: by_sums.State | by_sums.Groups = by_sums.begin(clustering.plan(0, 1, federation.name, federation.seed))
    up = down = 0
    while isinstance(found, by_sums.State):
        question = found.question
        up, down = up + 4 * question.words, down + len(msgspec.msgpack.encode(question))
        answers = np.array([answer(question, code) for code in codes.values()])
        total: npt.NDArray[np.uint32] = answers.sum(axis=0, dtype=np.uint32)
        found = by_sums.step(found, len(codes), total)
    return found, up, down


def chosen(found: by_sums.Groups, codes: Mapping[str, bytes]) -> rounds.Clustered:
    """Return the clusters that devices choose."""
    centroids = np.array(found.centroids, dtype=np.int64)
    assignment = {name: nearest_centroid(code, centroids) for name, code in codes.items()}
    return rounds.Clustered(assignment, figures={"silhouette": found.silhouette, "questions": found.questions})
