"""Parts of an adapter that are sent, and the adapter that the receiver makes of them."""

from __future__ import annotations

import numpy as np
import pytest

from edge_sdk.adapter import (
    Adapter,
    Factors,
    Share,
    beginning,
    complete,
    core,
    distance,
    fit,
    frames,
    initial_adapter,
    norm,
    orthonormal,
    pack,
    truncate,
)
from edge_sdk.errors import AdapterFormatError, AdapterMismatch, AdapterValueError
from tests.coordinator.adapters import BASE_ID, SLOTS, random_adapter

PARTS = (Share.A, Share.B, Share.A_ONLY, Share.CORE)


def trained(share: Share, start: Adapter) -> Adapter:
    """An adapter whose frozen factors are those of `start`."""
    free = random_adapter(7)
    layers = {}
    for name, s in start.layers.items():
        f = free.layers[name]
        if share is Share.CORE:
            q_b, q_a = frames(s)
            layers[name] = Factors(q_a, q_b @ np.random.default_rng(1).normal(size=(s.rank, s.rank)))
        else:
            layers[name] = Factors(s.a if share is Share.B else f.a, s.b if share is Share.A else f.b)
    return Adapter(layers, BASE_ID)


@pytest.mark.parametrize("share", [Share.BOTH, Share.A, Share.B, Share.CORE])
def test_arrives_as_it_was_trained(share: Share) -> None:
    start = beginning(orthonormal(random_adapter(1)), SLOTS, 4, 0, share)
    update = trained(share, start)
    arrived = complete(pack(update, start, share), start, share)
    assert distance(arrived, update) < 1e-5 * norm(update)
    assert arrived.base_id == BASE_ID


def test_what_stays_at_home_arrives_as_zero() -> None:
    start = beginning(None, SLOTS, 4, 0)
    update = trained(Share.A_ONLY, start)
    arrived = complete(pack(update, start, Share.A_ONLY), start, Share.A_ONLY)
    for name in SLOTS:
        np.testing.assert_array_equal(arrived.layers[name].a, update.layers[name].a)
        assert not arrived.layers[name].b.any()


@pytest.mark.parametrize("share", PARTS)
def test_equal_parts_give_equal_bytes(share: Share) -> None:
    start = beginning(random_adapter(1), SLOTS, 4, 0, share)
    assert pack(trained(share, start), start, share) == pack(trained(share, start), start, share)


@pytest.mark.parametrize("share", PARTS)
def test_refuses_what_was_not_asked_for(share: Share) -> None:
    start = beginning(random_adapter(1), SLOTS, 4, 0, share)
    data = pack(trained(share, start), start, share)
    narrow = beginning(random_adapter(1, 3), SLOTS, 3, 0, share)
    with pytest.raises(AdapterMismatch, match="this round asks for"):
        complete(data, narrow, share)
    for other in PARTS:
        if {share, other} != {Share.A, Share.A_ONLY} and other is not share:
            with pytest.raises(AdapterFormatError, match="keys end in"):
                complete(data, start, other)
    first = next(iter(SLOTS))
    only_first = Adapter({first: start.layers[first]}, BASE_ID)
    with pytest.raises(AdapterMismatch, match="no LoRA slot"):
        complete(data, only_first, share)
    part = pack(Adapter({first: trained(share, start).layers[first]}, BASE_ID), start, share)
    with pytest.raises(AdapterFormatError, match="lacks layer"):
        complete(part, start, share)
    with pytest.raises(AdapterFormatError):
        complete(data[: len(data) // 2], start, share)
    poisoned = Adapter({n: Factors(f.a * np.float32("nan"), f.b) for n, f in trained(share, start).layers.items()})
    with pytest.raises(AdapterValueError):
        pack(poisoned, start, share)


def test_beginnings() -> None:
    fresh = beginning(None, SLOTS, 4, 3)
    assert all(np.array_equal(fresh.layers[n].a, initial_adapter(SLOTS, 4, 3).layers[n].a) for n in SLOTS)
    given = random_adapter(1, 2)
    filled = beginning(given, SLOTS, 4, 3)
    assert filled.rank == 4
    assert distance(filled, given) < 1e-5 * norm(given)
    framed = beginning(given, SLOTS, 2, 3, Share.CORE)
    assert distance(framed, given) < 1e-5 * norm(given)
    for f in framed.layers.values():
        np.testing.assert_allclose(f.a @ f.a.T, np.eye(2), atol=1e-6)
    with pytest.raises(AdapterMismatch, match="a start with all layers"):
        beginning(None, SLOTS, 4, 3, Share.CORE)


def test_a_device_of_smaller_rank_takes_what_it_can() -> None:
    whole = random_adapter(1)
    nearest = fit(whole, 2, Share.BOTH)
    assert distance(nearest, truncate(whole, 2)[0]) < 1e-5 * norm(whole)
    shared = fit(whole, 2, Share.B)
    for name in SLOTS:
        np.testing.assert_array_equal(shared.layers[name].a, whole.layers[name].a[:2])
    assert fit(whole, 8, Share.BOTH) is whole


def test_frames_do_not_depend_on_signs() -> None:
    factors = random_adapter(1, double=True).layers["unet.mid.attn.to_q"]
    q_b, q_a = frames(factors)
    np.testing.assert_allclose(q_b.T @ q_b, np.eye(4), atol=1e-12)
    np.testing.assert_allclose(q_b @ core(factors, factors) @ q_a, factors.b @ factors.a, atol=1e-9)
    assert (np.diag(q_b.T @ factors.b) > 0).all()
