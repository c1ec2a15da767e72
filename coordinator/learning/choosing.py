"""Clusters that devices choose alone: from sums of their answers to the next question, to clusters, to slots.

Reads masked vectors; of a device's answer nothing is known but the sum that it is in.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from coordinator import rounds, secure_aggregation
from coordinator.config import Federation
from coordinator.learning.sums import unmasked
from coordinator.methods.clustering import BySums, by_noisy_sums, by_sums
from coordinator.store import Blobs
from edge_sdk.errors import TooFewDevices
from edge_sdk.privacy import Guarantee, counts_question, part_of_noise, places_of, read_question


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
        if self._federation.noise is not None:
            return _inquired(by_noisy_sums.begin(clustering.noisy_plan(action.epoch, action.clustering)))
        name, seed = self._federation.name, self._federation.seed
        return _inquired(by_sums.begin(clustering.plan(action.epoch, action.clustering, name, seed)))

    def go_on(self, action: rounds.Aggregate) -> rounds.Inquired | rounds.Grouped:
        """Return what follows from the sum of the answers to a question.

        Raises:
            MaskedSumError, BlobLost: the sum is none; the question is to be asked again.
        """
        masked = _only_sum(action.round)
        if self._federation.noise is not None:
            return self._go_on_with_noise(action, masked, self._federation.noise)
        state = msgspec.msgpack.decode(action.asking, type=by_sums.State)
        outcome = by_sums.step(state, len(masked.survivors), unmasked(masked, self._blobs))
        return _inquired(outcome) if isinstance(outcome, by_sums.State) else _grouped(outcome)

    def _go_on_with_noise(
        self, action: rounds.Aggregate, masked: secure_aggregation.State, noise: Guarantee
    ) -> rounds.Inquired | rounds.Grouped:
        state = msgspec.msgpack.decode(action.asking, type=by_noisy_sums.State)
        devices = len(masked.survivors)
        honest = masked.terms.honest(len(masked.roster), masked.given)
        part = part_of_noise(read_question(action.round.question), noise, honest)
        total = unmasked(masked, self._blobs)
        found = by_noisy_sums.step(state, by_noisy_sums.Sum(devices, total, devices * part))
        if isinstance(found, by_noisy_sums.State):
            return _inquired(found)
        figures = {"counts": list(found.counts), "questions": found.questions}
        return rounds.Grouped(_encoded(found.centroids), figures)

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


def _inquired(state: by_sums.State | by_noisy_sums.State) -> rounds.Inquired:
    return rounds.Inquired(msgspec.msgpack.encode(state), msgspec.msgpack.encode(state.question))


def _grouped(found: by_sums.Groups) -> rounds.Grouped:
    figures = {"counts": list(found.counts), "silhouette": found.silhouette, "questions": found.questions}
    return rounds.Grouped(_encoded(found.centroids), figures)


def _encoded(centroids: Sequence[Sequence[int]]) -> bytes:
    return np.array(centroids, dtype="<i2").tobytes()
