"""Devices of a simulation that choose their clusters alone: k-means by the plain sums of their answers.

Masks would change none of these sums. So federations of the levels "local" and "local+dp" are simulated without them.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from coordinator import rounds
from coordinator.config import Federation
from coordinator.methods.aggregation import MaskableSettings
from coordinator.methods.clustering import BySums, by_noisy_sums, by_sums
from edge_sdk.errors import TooFewDevices
from edge_sdk.privacy import Guarantee, answer, nearest_centroid
from edge_sdk.secure_aggregation import policy_of


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


def found_groups(
    federation: Federation, codes: Mapping[str, bytes]
) -> tuple[by_sums.Groups | by_noisy_sums.Groups, int, int]:
    """Return the groups of devices with these codes, and the bytes that each device has sent and been sent for them.

    Raises:
        TooFewDevices: they do not make a group of the smallest size.
        PromptError: a code is none of this level.
    """
    clustering = federation.clustering
    assert isinstance(clustering, BySums), "devices choose alone"
    if federation.noise is not None:
        return _found_with_noise(federation, clustering, federation.noise, list(codes.values()))
    found: by_sums.State | by_sums.Groups = by_sums.begin(clustering.plan(0, 1, federation.name, federation.seed))
    up = down = 0
    while isinstance(found, by_sums.State):
        question = found.question
        up, down = up + 4 * question.words, down + len(msgspec.msgpack.encode(question))
        answers = np.array([answer(question, code) for code in codes.values()])
        total: npt.NDArray[np.uint32] = answers.sum(axis=0, dtype=np.uint32)
        found = by_sums.step(found, len(codes), total)
    return found, up, down


def _found_with_noise(
    federation: Federation, clustering: BySums, noise: Guarantee, codes: Sequence[bytes]
) -> tuple[by_noisy_sums.Groups, int, int]:
    """Return the same, with the noise that devices would add: its parts are drawn as one."""
    masking, devices = federation.masking, len(codes)
    assert masking is not None, "its answers are summed"
    if devices < federation.min_devices:
        raise TooFewDevices(
            f"{devices} devices, and with epsilon = {noise.epsilon:g} clusters take min_devices = "
            f"{federation.min_devices}: give more folders, or a larger epsilon."
        )
    policy = policy_of(masking)
    honest = policy.honest(devices, policy.fewest(devices, policy.parameters(devices)))
    below = random.Random(f"{federation.name} {federation.seed}").randrange
    found: by_noisy_sums.State | by_noisy_sums.Groups = by_noisy_sums.begin(clustering.noisy_plan(0, 1))
    up = down = 0
    while isinstance(found, by_noisy_sums.State):
        question = found.question
        up, down = up + 4 * question.words, down + len(msgspec.msgpack.encode(question))
        found = by_noisy_sums.step(found, by_noisy_sums.summed_with_noise(question, codes, noise, honest, below))
    return found, up, down


def chosen(found: by_sums.Groups | by_noisy_sums.Groups, codes: Mapping[str, bytes]) -> rounds.Clustered:
    """Return the clusters that devices choose."""
    centroids = np.array(found.centroids, dtype=np.int64)
    assignment = {name: nearest_centroid(code, centroids) for name, code in codes.items()}
    clear = {"silhouette": found.silhouette} if isinstance(found, by_sums.Groups) else {}
    return rounds.Clustered(assignment, figures={**clear, "questions": found.questions})
