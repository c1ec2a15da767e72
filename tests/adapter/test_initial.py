"""The common initialisation is the same everywhere, for ever."""

from __future__ import annotations

import numpy as np
import pytest

from edge_sdk.adapter import Factors, Shape, filled_up, initial_factors


def test_common_initialisation() -> None:
    small, large = (initial_factors("unet.a.to_q", Shape(64, 32), rank, seed=7) for rank in (2, 8))
    assert np.array_equal(small.a, large.a[:2])
    assert not small.b.any()
    assert 0.9 / 8 < np.abs(large.a).max() <= 1 / 8
    assert not np.array_equal(small.a, initial_factors("unet.a.to_k", Shape(64, 32), 2, seed=7).a)
    assert not np.array_equal(small.a, initial_factors("unet.a.to_q", Shape(64, 32), 2, seed=8).a)


def test_the_common_initialisation_never_changes() -> None:
    """Devices with other versions of Impasto or numpy must draw the same numbers: a federation depends on it."""
    a = initial_factors("unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q", Shape(4, 4), 1, seed=0).a
    assert a.tolist() == [pytest.approx([0.04630505, -0.02635035, -0.08957766, -0.42056489])]


def test_filling_up_changes_no_product() -> None:
    rng = np.random.default_rng(0)
    small = Factors(rng.normal(size=(2, 64)).astype(np.float32), rng.normal(size=(32, 2)).astype(np.float32))
    large = filled_up(small, 5, "unet.a.to_q", seed=7)
    assert large.rank == 5
    np.testing.assert_allclose(large.b @ large.a, small.b @ small.a, atol=1e-6)
    np.testing.assert_array_equal(large.a[2:], initial_factors("unet.a.to_q", Shape(64, 32), 5, seed=7).a[2:])
    assert filled_up(large, 3, "unet.a.to_q", seed=7).rank == 5


def test_convolutions_start_within_the_bound_of_their_whole_kernel() -> None:
    shape = Shape(4 * 9, 8, (3, 3))
    factors = initial_factors("unet.a.conv1", shape, 16, seed=0)
    assert factors.shape == filled_up(factors, 20, "unet.a.conv1", seed=0).shape == shape
    assert 0.9 / 6 < np.abs(factors.a).max() <= 1 / 6
