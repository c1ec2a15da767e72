from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_sdk.adapter.decomposition import svd

# The core of what fedex found left over of one layer, in a study. Whether it converges depends on LAPACK's build.
STUBBORN: NDArray[np.float64] = np.load(Path(__file__).parent / "data" / "does_not_converge.npy")
SHAPES = [(1, 1), (5, 5), (8, 3), (3, 8), (40, 40)]


def _check(matrix: NDArray[np.float64]) -> None:
    u, s, v = svd(matrix)
    k = min(matrix.shape)
    assert (u.shape, s.shape, v.shape) == ((len(matrix), k), (k,), (k, matrix.shape[1]))
    assert (np.diff(s) <= 0).all()
    assert (s >= 0).all()
    size = np.linalg.norm(matrix)
    np.testing.assert_allclose((u * s) @ v, matrix, atol=1e-14 * k * size)
    for basis in (u.T @ u, v @ v.T):
        np.testing.assert_allclose(basis, np.eye(k), atol=1e-13 * k)


@pytest.mark.parametrize("shape", SHAPES)
def test_it_is_the_decomposition(shape: tuple[int, int]) -> None:
    _check(np.random.default_rng(0).normal(size=shape))


def test_of_zeros() -> None:
    _check(np.zeros((4, 6)))


def test_of_a_matrix_on_which_numpy_gave_up() -> None:
    _check(STUBBORN)


def _giving_up(times: int) -> Callable[..., Any]:
    real, left = np.linalg.svd, [times]

    def decompose(*arguments: Any, **options: Any) -> Any:
        if left[0]:
            left[0] -= 1
            raise np.linalg.LinAlgError("SVD did not converge")
        return real(*arguments, **options)

    return decompose


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("times", [1, 3])
def test_whatever_numpy_gives_up_on_is_turned(
    shape: tuple[int, int], times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(np.linalg, "svd", _giving_up(times))
    _check(np.random.default_rng(1).normal(size=shape))


def test_numbers_that_are_none_are_an_error() -> None:
    with pytest.raises(np.linalg.LinAlgError):
        svd(np.full((3, 3), np.nan))


def test_it_does_not_try_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(np.linalg, "svd", _giving_up(1000))
    with pytest.raises(np.linalg.LinAlgError, match="however it was turned"):
        svd(np.eye(3))
