"""Clusters that devices choose alone: from sums of their answers to the next question, to clusters, to slots.

Reads masked vectors; of a device's answer nothing is known but the sum that it is in.
"""

from __future__ import annotations

import msgspec
import numpy as np

from coordinator import rounds, secure_aggregation
from coordinator.config import Federation
from coordinator.learning.sums import unmasked
from coordinator.methods.clustering import BySums, by_sums
from coordinator.store import Blobs
from edge_sdk.errors import TooFewDevices
from edge_sdk.privacy import counts_question, places_of


class Choices:
    """The coordinator's half of a clustering by sums.

    Args:
        federation: the federation file.
        blobs: the masked vectors.
    """

    def __init__(self, federation: Federation, blobs: Blobs) -> None:
        self._federation = federation
        self._blobs = blobs

    def begin(self, action: rounds.Cluster) -> rounds.Inquired:
        """Return the first question of a clustering."""
        clustering = self._federation.clustering
        assert isinstance(clustering, BySums), "devices choose alone"
        name, seed = self._federation.name, self._federation.seed
        return _inquired(by_sums.begin(clustering.plan(action.epoch, action.clustering, name, seed)))

    def go_on(self, action: rounds.Aggregate) -> rounds.Inquired | rounds.Grouped:
        """Return what follows from the sum of the answers to a question.

        Raises:
            MaskedSumError, BlobLost: the sum is none; the question is to be asked again.
        """
        masked = _only_sum(action.round)
        state = msgspec.msgpack.decode(action.asking, type=by_sums.State)
        outcome = by_sums.step(state, len(masked.survivors), unmasked(masked, self._blobs))
        return _inquired(outcome) if isinstance(outcome, by_sums.State) else _grouped(outcome)

    def number(self, action: rounds.Aggregate) -> rounds.Numbered:
        """Return the number of devices in each cluster, and the slots in which none are too few.

        Raises:
            MaskedSumError, BlobLost: the sum is none.
        """
        closed, clustering = action.round, self._federation.clustering
        assert isinstance(clustering, BySums), "devices choose alone"
        masked = _only_sum(closed)
        (found,) = by_sums.counts(
            counts_question(closed.centroids), len(masked.survivors), unmasked(masked, self._blobs)
        )
        if found.counts.sum() < clustering.min_cluster:
            raise TooFewDevices(f"{found.counts.sum()} devices are there, and a slot takes {clustering.min_cluster}.")
        slots = by_sums.merged(found.counts, places_of(closed.centroids), clustering.min_cluster)
        return rounds.Numbered(closed.number, tuple(found.counts.tolist()), bytes(slots))


def _only_sum(closed: rounds.Round) -> secure_aggregation.State:
    (masked,) = closed.sums.values()
    return masked


def _inquired(state: by_sums.State) -> rounds.Inquired:
    return rounds.Inquired(msgspec.msgpack.encode(state), msgspec.msgpack.encode(state.question))


def _grouped(found: by_sums.Groups) -> rounds.Grouped:
    centroids = np.array(found.centroids, dtype="<i2").tobytes()
    figures = {"counts": list(found.counts), "silhouette": found.silhouette, "questions": found.questions}
    return rounds.Grouped(centroids, figures)
