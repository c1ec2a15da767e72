"""Prompt codes as clustering sees them: one device decides nothing for the others."""

from __future__ import annotations

import numpy as np
import pytest

from coordinator.learning.codes import Standing, directions
from coordinator.methods.clustering import CLUSTERERS, Evidence, compare, partition
from tests.integration.devices import code


def groups(codes: list[bytes]) -> list[int]:
    """The labels of what clustering by these codes alone finds."""
    evidence = Evidence(directions(codes, [Standing.SEEN] * len(codes)), (), 0)
    crowd = compare(evidence, CLUSTERERS["prompt"]()(evidence))
    return partition(crowd, clusters=0, choose="significant", smallest=2, present=0).tolist()


@pytest.mark.parametrize("devices", [4, 6, 10, 40])
@pytest.mark.parametrize("stray", ["long", "opposite", "zero", "of another length", "itself times 1000", "tiny"])
def test_one_code_does_not_decide_what_becomes_of_all_others(devices: int, stray: str) -> None:
    honest = [code(("apples", "boats")[number % 2], number) for number in range(devices)]
    mean = np.mean([np.frombuffer(data, "<f4") for data in honest], axis=0)
    numbers = {
        "long": 1000 * np.random.default_rng(0).normal(size=16) / 4,
        "opposite": -mean,
        "zero": np.zeros(16),
        "of another length": np.ones(1),
        "itself times 1000": 1000 * np.frombuffer(code("apples", 99), "<f4"),
        "tiny": np.full(16, 1e-44),
    }[stray]
    assert groups(honest) == [0, 1] * (devices // 2)
    assert groups([*honest, numbers.astype("<f4").tobytes()])[:-1] == [0, 1] * (devices // 2)


def test_a_code_is_a_direction() -> None:
    codes = [np.array(numbers, "<f4").tobytes() for numbers in ([3, 4], [0.3, 0.4], [3e38, 3e38])]
    assert np.allclose(directions(codes, [Standing.SEEN] * 3), [[0.6, 0.8], [0.6, 0.8], [0.5**0.5, 0.5**0.5]])


def test_the_length_is_that_of_most_of_the_best_known() -> None:
    wide, narrow = np.ones(4, "<f4").tobytes(), np.ones(2, "<f4").tobytes()
    assert directions([narrow, wide, wide], [Standing.SEEN] * 3).shape == (3, 4)
    standings = [Standing.PROVEN, Standing.SEEN, Standing.SEEN]
    assert directions([narrow, wide, wide], standings).shape == (3, 2)
    assert directions([narrow, wide, narrow], [Standing.NAMED, Standing.SEEN, Standing.NAMED]).shape == (3, 4)
    assert directions([], []).shape[0] == 0


def test_honest_tastes_are_no_strays() -> None:
    """Three groups, the smallest of two."""
    rng = np.random.default_rng(3)
    centres = 5.0 + rng.normal(size=(3, 16))
    codes = [(centres[group] + 0.1 * rng.normal(size=16)).astype("<f4") for group in (0, 0, 0, 0, 0, 1, 1, 1, 2, 2)]
    rows = directions([row.tobytes() for row in codes], [Standing.SEEN] * 10)
    assert np.allclose(rows, [row / np.linalg.norm(row) for row in codes], atol=1e-6)
