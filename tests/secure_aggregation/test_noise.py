"""Masks that are left in a sum make it noise, which is known by its name."""

from __future__ import annotations

import numpy as np
import pytest

from edge_sdk.errors import (
    MasksLeft,
)
from edge_sdk.secure_aggregation import (
    Layout,
    Roster,
    Scaled,
    decoded,
    encoded,
    mask,
    roster_hash,
)
from edge_sdk.secure_aggregation.keys import split_randomness
from tests.secure_aggregation.hostile import NAMES, VICTIM
from tests.secure_aggregation.world import World, random_bytes, terms

LAYOUT = Layout(slots=2, tensors=(Scaled(name="a", size=100, scale=1.0),))


def test_a_mask_that_is_left_makes_the_sum_noise_by_name() -> None:
    total = sum(encoded(LAYOUT, 0, 1.0, {"a": np.full(100, 0.5)}) for _ in range(3))
    assert isinstance(total, np.ndarray)
    assert decoded(LAYOUT, total, 3).slots[0].tensors["a"] == pytest.approx(np.full(100, 0.5), abs=1e-6)
    with pytest.raises(MasksLeft, match="Nothing is learnt"):
        decoded(LAYOUT, total + mask(bytes(32), LAYOUT.words), 3)
    with pytest.raises(MasksLeft):
        decoded(LAYOUT, total, 4)


def test_a_device_that_was_shown_another_step_leaves_noise() -> None:
    """A coordinator that gets past the signatures has masks that do not cancel: HKDF's info holds the step's hash."""
    world = World(NAMES, terms(LAYOUT.words))
    world.tamper = lambda _, message: None if isinstance(message, Roster) else message
    world.begin()
    roster = Roster(epoch=7, round=3, attempt=1, neighbours=5, threshold=4, devices=list(world.state.roster))
    total = np.zeros(LAYOUT.words, np.uint32)
    for name in NAMES:
        shown = terms(LAYOUT.words, step=bytes(32)) if name == VICTIM else world.terms
        total += masked_alone(name, shown, roster)
    with pytest.raises(MasksLeft):
        decoded(LAYOUT, total, len(NAMES))


def masked_alone(name: str, shown: object, roster: Roster) -> np.ndarray:  # type: ignore[type-arg]
    """The vector of a device under pairwise masks alone, all checks left out."""
    from edge_sdk.secure_aggregation import Parameters, add_masks, mask_private_key, pair_mask_key

    secrets = split_randomness(random_bytes(name))
    digest = roster_hash(shown, Parameters(5, 4), roster.devices)  # type: ignore[arg-type]
    private = mask_private_key(terms(), name, secrets.mask_seed)
    total = encoded(LAYOUT, 0, 1.0, {"a": np.zeros(100)})
    for other in roster.devices:
        if other.device != name:
            first, second = sorted((name, other.device))
            key = pair_mask_key(shown, digest, private, other.mask_key, first, second)  # type: ignore[arg-type]
            add_masks(total, [(key, 1 if name < other.device else -1)])
    return total


def test_the_same_steps_leave_no_noise() -> None:
    world = World(NAMES, terms(LAYOUT.words))
    world.tamper = lambda _, message: None
    world.begin()
    roster = Roster(epoch=7, round=3, attempt=1, neighbours=5, threshold=4, devices=list(world.state.roster))
    total = np.sum([masked_alone(name, world.terms, roster) for name in NAMES], axis=0, dtype=np.uint32)
    assert decoded(LAYOUT, total, len(NAMES)).slots[0].weight == pytest.approx(6)
