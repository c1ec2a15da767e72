"""Updates as integers: exact sums, small errors, honest rounding, and what is refused."""

from __future__ import annotations

import hashlib

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk.errors import AdapterMismatch, AdapterValueError, ConfigurationError, MasksLeft
from edge_sdk.secure_aggregation import LARGEST, Layout, Scaled, check_devices, decoded, encoded

LAYOUT = Layout(slots=2, tensors=(Scaled(name="a", size=6, scale=0.25), Scaled(name="b", size=1, scale=4.0)))


def stream(seed: int) -> object:
    """Random bytes that are the same in every run."""
    calls = iter(range(10**9))
    return lambda size: hashlib.shake_256(f"{seed} {next(calls)}".encode()).digest(size)


def test_layout() -> None:
    assert LAYOUT.slot_words == 8
    assert LAYOUT.words == 18
    plain = encoded(LAYOUT, 1, 1.0, {"a": np.full((2, 3), 0.25), "b": [-4.0]})
    assert plain.dtype == np.uint32
    signed = plain.view(np.int32)
    assert signed[:2].tolist() == [1, 0]
    assert signed[2:10].tolist() == [0] * 8
    assert signed[10:].tolist() == [LARGEST] * 7 + [-LARGEST]


def test_layouts_that_cannot_be() -> None:
    twice = (Scaled(name="a", size=1, scale=1.0), Scaled(name="a", size=2, scale=1.0))
    for wrong in ({"tensors": twice}, {"tensors": (), "common": twice}):
        with pytest.raises(ValueError, match="same name"):
            Layout(slots=1, **wrong)
    with pytest.raises(ValueError, match="too long"):
        Layout(slots=2, tensors=(Scaled(name="a", size=2**30, scale=1.0),))
    with pytest.raises(msgspec.ValidationError, match="same name"):
        msgspec.convert({"slots": 1, "tensors": [{"name": "a", "size": 1, "scale": 1.0}] * 2}, Layout)


def test_the_largest_sum_fits() -> None:
    """1,024 devices at the largest value, and one more would not be asked."""
    up, down = ({"a": np.full(6, sign * 0.25), "b": [sign * 4.0]} for sign in (1, -1))
    for values, sign in ((up, 1), (down, -1)):
        total = (encoded(LAYOUT, 0, 1.0, values).astype(np.uint64) * 1024).astype(np.uint32)
        found = decoded(LAYOUT, total, 1024).slots[0]
        assert found.weight == 1024
        assert found.tensors["a"].tolist() == [sign * 0.25] * 6
    check_devices(1024)
    with pytest.raises(ConfigurationError, match="2 sums"):
        decoded(LAYOUT, total, 1025)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 12), st.integers(0, 2**32), st.booleans())
def test_errors_of_a_mean(devices: int, seed: int, heavy: bool) -> None:
    """Less than a step of every device for each number, whatever the numbers; 1e-5 of the norm if they are normal."""
    drawn = np.random.default_rng(seed)
    values = drawn.standard_t(3, (devices, 500)) if heavy else drawn.normal(0, 1, (devices, 500))
    weights = drawn.uniform(0.2, 1, devices)
    scale = float(np.abs(values).max())
    layout = Layout(slots=1, tensors=(Scaled(name="x", size=500, scale=scale),))
    vectors = [encoded(layout, 0, weight, {"x": row}) for weight, row in zip(weights, values, strict=True)]
    found = decoded(layout, np.sum(vectors, axis=0, dtype=np.uint32), devices)
    wanted = weights @ values / weights.sum()
    error = np.abs(found.slots[0].tensors["x"] - wanted)
    assert (error <= devices * (scale + np.abs(wanted)) / LARGEST / weights.sum() * (1 + 1e-5)).all()
    if not heavy:
        assert np.linalg.norm(error) <= 1e-5 * np.linalg.norm(wanted)
    assert found.clipped == 0


def test_rounding_is_right_on_average() -> None:
    """The mean of many roundings is the number, where rounding to the nearest would always be off."""
    layout = Layout(slots=1, tensors=(Scaled(name="x", size=200_000, scale=1.0),))
    step = 1 / LARGEST
    plain = encoded(layout, 0, 1.0, {"x": np.full(200_000, 0.3 * step)}).view(np.int32)[3:]
    assert set(np.unique(plain)) == {0, 1}
    assert plain.mean() == pytest.approx(0.3, abs=0.01)


def test_clipped_values_are_counted() -> None:
    values = {"a": [0.3, -0.3, 0.25, 0.1, 0.0, -0.25], "b": [5.0]}
    plain = encoded(LAYOUT, 0, 1.0, values)
    assert plain.view(np.int32)[3:10].tolist()[:3] == [LARGEST, -LARGEST, LARGEST]
    found = decoded(LAYOUT, plain + encoded(LAYOUT, 1, 1.0, {"a": np.zeros(6), "b": [0.0]}), 2)
    assert found.clipped == pytest.approx(3 / 7 / 2, abs=1e-5)


def test_a_weight_is_part_of_the_number_so_that_it_is_clipped_after_it() -> None:
    plain = encoded(LAYOUT, 0, 0.5, {"a": [0.5] * 6, "b": [0.0]})
    found = decoded(LAYOUT, plain, 1)
    assert found.clipped == 0
    assert found.slots[0].weight == pytest.approx(0.5, abs=1e-6)
    assert found.slots[0].tensors["a"] == pytest.approx([0.5] * 6, abs=1e-5)


def test_weight_zero_and_an_empty_slot() -> None:
    plain = encoded(LAYOUT, 0, 0.0, {"a": np.ones(6), "b": [1.0]})
    found = decoded(LAYOUT, plain, 1)
    assert [slot.weight for slot in found.slots] == [0.0, 0.0]
    assert [slot.tensors for slot in found.slots] == [{}, {}]


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({"a": np.zeros(6)}, AdapterMismatch),
        ({"a": np.zeros(6), "b": [0.0], "c": [0.0]}, AdapterMismatch),
        ({"a": np.zeros(5), "b": [0.0]}, AdapterMismatch),
        ({"a": [*[0.0] * 5, float("nan")], "b": [0.0]}, AdapterValueError),
        ({"a": np.zeros(6), "b": [float("inf")]}, AdapterValueError),
    ],
)
def test_tensors_that_do_not_fit(values: dict[str, object], error: type[Exception]) -> None:
    with pytest.raises(error):
        encoded(LAYOUT, 0, 1.0, values)  # type: ignore[arg-type]


@pytest.mark.parametrize(("slot", "weight"), [(2, 1.0), (-1, 1.0), (0, 1.1), (0, -0.1), (0, float("nan"))])
def test_a_slot_or_a_weight_out_of_range(slot: int, weight: float) -> None:
    with pytest.raises(AdapterValueError):
        encoded(LAYOUT, slot, weight, {"a": np.zeros(6), "b": [0.0]})


def test_a_sum_that_is_none() -> None:
    plain = encoded(LAYOUT, 0, 1.0, {"a": np.zeros(6), "b": [0.0]})
    with pytest.raises(AdapterMismatch):
        decoded(LAYOUT, plain[:-1], 1)
    with pytest.raises(MasksLeft):
        decoded(LAYOUT, plain, 2)
    beyond = plain.copy()
    beyond[5] = LARGEST + 1
    with pytest.raises(MasksLeft):
        decoded(LAYOUT, beyond, 1)
    for slot in range(2):
        heavy = plain.copy()
        heavy[2 + 8 * slot] = 2**32 - 1
        with pytest.raises(MasksLeft):
            decoded(LAYOUT, heavy, 1)


def test_roundings_come_from_the_system_s_generator() -> None:
    values = {"a": np.linspace(-0.2, 0.2, 6), "b": [1.23456]}
    drawn = {encoded(LAYOUT, 0, 0.7, values).tobytes() for _ in range(20)}
    assert len(drawn) > 1
    same = {encoded(LAYOUT, 0, 0.7, values, random=stream(1)).tobytes() for _ in range(3)}  # type: ignore[arg-type]
    assert len(same) == 1
