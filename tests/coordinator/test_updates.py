"""Distance by which training has moved an adapter."""

from __future__ import annotations

import pytest

from coordinator.learning.updates import change_norm
from edge_sdk.adapter import Adapter, Factors, concatenate, distance
from tests.coordinator.adapters import random_adapter, rotated


@pytest.mark.parametrize("rank", [1, 4, 6])
def test_it_is_their_distance(rank: int) -> None:
    update, start = random_adapter(1, 4), random_adapter(2, rank)
    assert change_norm(update, start) == pytest.approx(distance(update, start), rel=1e-5)


def test_small_changes_are_not_lost() -> None:
    start = random_adapter(1)
    layers = {name: Factors(f.a, f.b * f.b.dtype.type(1 + 1e-5)) for name, f in start.layers.items()}
    update = Adapter(layers, start.base_id)
    assert change_norm(update, start) == pytest.approx(distance(update, start), rel=1e-4)
    assert change_norm(start, start) == 0.0


def test_another_gauge_is_no_change() -> None:
    start = random_adapter(1)
    whole = distance(start, concatenate([(start, 0.0)]))
    assert change_norm(rotated(start, 3), start) < 1e-3 * whole
