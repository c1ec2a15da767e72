"""Checks of an adapter, and of its base model."""

from __future__ import annotations

import numpy as np
import pytest

from edge_sdk.adapter import MAX_LAYERS, MAX_RANK, Adapter, Factors, Shape, check
from edge_sdk.errors import AdapterFormatError, AdapterMismatch, AdapterValueError

A = np.ones((2, 5), np.float32)
B = np.ones((3, 2), np.float32)
LAYER = "unet.mid_block.attentions.0.to_q"
SLOTS = {LAYER: Shape(5, 3), "unet.other.to_k": Shape(4, 4)}


def test_shapes() -> None:
    factors = Factors(A, B)
    assert (factors.rank, factors.in_features, factors.out_features) == (2, 5, 3)
    adapter = Adapter({LAYER: factors, "unet.other.to_k": Factors(np.ones((4, 4)), np.ones((4, 4)))})
    assert (adapter.rank, adapter.parameters) == (4, 16 + 32)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (A, B.T),
        (A[0], B),
        (A.astype(np.float16), B),
        (A.astype(np.int64), B),
        (A.tolist(), B),
        (A[:0], B[:, :0]),
        (A[:, :0], B),
        (np.ones((MAX_RANK + 1, 5)), np.ones((3, MAX_RANK + 1))),
    ],
)
def test_what_is_no_pair_of_factors_is_refused(a: np.ndarray, b: np.ndarray) -> None:
    with pytest.raises(AdapterFormatError):
        Factors(a, b)


@pytest.mark.parametrize("name", ["", "unet", "unet.", ".to_q", "unet..to_q", "unet.to q", "unet/to_q", "unet.to_q\n"])
def test_what_is_no_layer_path_is_refused(name: str) -> None:
    with pytest.raises(AdapterFormatError):
        Adapter({name: Factors(A, B)})


def test_nothing_and_too_much_are_refused() -> None:
    with pytest.raises(AdapterFormatError):
        Adapter({})
    with pytest.raises(AdapterFormatError):
        Adapter({f"unet.layer_{i}.to_q": Factors(A, B) for i in range(MAX_LAYERS + 1)})
    layers = {LAYER: Factors(A, B)}
    for notes in ({"a b": ""}, {"a": "x" * 5000}, {str(i): "" for i in range(65)}):
        with pytest.raises(AdapterFormatError):
            Adapter(layers, notes=notes)
    with pytest.raises(AdapterFormatError):
        Adapter(layers, base_id="")


def test_check_accepts_what_fits() -> None:
    check(Adapter({LAYER: Factors(A, B)}, base_id="base"), SLOTS, "base")
    check(Adapter({LAYER: Factors(A, B)}), SLOTS, "base")


def test_convolutions_are_matrices_with_a_kernel() -> None:
    factors = Factors(np.ones((2, 4 * 9)), np.ones((3, 2)), (3, 3))
    assert factors.shape == Shape(36, 3, (3, 3))
    for kernel in ((3, 3, 3), (0, 3), (5, 5), (-1, -36), ()):
        with pytest.raises(AdapterFormatError, match="kernel"):
            Factors(factors.a, factors.b, kernel)  # type: ignore[arg-type]


def test_a_1x1_convolution_fits_a_linear_slot_and_the_reverse() -> None:
    for ours, theirs in ((None, (1, 1)), ((1, 1), None), ((1, 1), (1, 1))):
        check(Adapter({LAYER: Factors(A, B, ours)}), {LAYER: Shape(5, 3, theirs)}, "base")
    wide = Factors(np.ones((2, 18)), np.ones((3, 2)), (3, 3))
    check(Adapter({LAYER: wide}), {LAYER: Shape(18, 3, (3, 3))}, "base")
    for kernel in (None, (1, 1), (2, 3)):
        with pytest.raises(AdapterMismatch, match=r"3x18 \(kernel 3x3\) in the adapter and 3x18.* in the slot"):
            check(Adapter({LAYER: wide}), {LAYER: Shape(18, 3, kernel)}, "base")


def test_check_refuses_by_name() -> None:
    with pytest.raises(AdapterMismatch, match="base model"):
        check(Adapter({LAYER: Factors(A, B)}, base_id="other"), SLOTS, "base")
    with pytest.raises(AdapterMismatch, match="no LoRA slot"):
        check(Adapter({"unet.nowhere.to_q": Factors(A, B)}), SLOTS, "base")
    with pytest.raises(AdapterMismatch, match="slot"):
        check(Adapter({LAYER: Factors(B.T.copy(), A.T.copy())}), SLOTS, "base")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 2e4, -2e4])
@pytest.mark.parametrize("letter", ["a", "b"])
def test_check_refuses_what_is_no_sensible_number(value: float, letter: str) -> None:
    a, b = A.copy(), B.copy()
    (a if letter == "a" else b)[1, 1] = value
    with pytest.raises(AdapterValueError, match=LAYER):
        check(Adapter({LAYER: Factors(a, b)}), SLOTS, "base")
