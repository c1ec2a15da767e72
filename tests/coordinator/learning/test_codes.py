"""Prompt codes as clustering sees them: one device decides nothing for the others."""

from __future__ import annotations

import numpy as np
import pytest

from coordinator.learning.codes import Standing, comparable
from coordinator.methods.clustering import CLUSTERERS, Evidence, compare, partition
from edge_sdk.privacy import LEVELS
from edge_sdk.privacy.coarse import STEPS
from tests.integration.devices import code

PLAIN, COARSE = LEVELS["plain"], LEVELS["coarse"]


def groups(codes: list[bytes]) -> list[int]:
    """The labels of what clustering by these codes alone finds."""
    evidence = Evidence(comparable(codes, [Standing.SEEN] * len(codes), PLAIN), (), 0)
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
    assert np.allclose(comparable(codes, [Standing.SEEN] * 3, PLAIN), [[0.6, 0.8], [0.6, 0.8], [0.5**0.5, 0.5**0.5]])


def test_the_length_is_that_of_most_of_the_best_known() -> None:
    wide, narrow = np.ones(4, "<f4").tobytes(), np.ones(2, "<f4").tobytes()
    assert comparable([narrow, wide, wide], [Standing.SEEN] * 3, PLAIN).shape == (3, 4)
    standings = [Standing.PROVEN, Standing.SEEN, Standing.SEEN]
    assert comparable([narrow, wide, wide], standings, PLAIN).shape == (3, 2)
    standings = [Standing.NAMED, Standing.SEEN, Standing.NAMED]
    assert comparable([narrow, wide, narrow], standings, PLAIN).shape == (3, 4)
    assert comparable([], [], PLAIN).shape[0] == 0
    assert comparable([b"", b""], [Standing.SEEN] * 2, PLAIN).shape == (2, 1)


def test_honest_tastes_are_no_strays() -> None:
    """Three groups, the smallest of two."""
    rng = np.random.default_rng(3)
    centres = 5.0 + rng.normal(size=(3, 16))
    codes = [(centres[group] + 0.1 * rng.normal(size=16)).astype("<f4") for group in (0, 0, 0, 0, 0, 1, 1, 1, 2, 2)]
    rows = comparable([row.tobytes() for row in codes], [Standing.SEEN] * 10, PLAIN)
    assert np.allclose(rows, [row / np.linalg.norm(row) for row in codes], atol=1e-6)


def coarse(place: np.ndarray) -> bytes:
    return np.rint(STEPS * place).astype(np.int8).tobytes()


class TestCoarse:
    rng = np.random.default_rng(5)
    centres = 0.15 * rng.normal(size=(2, 16))

    def codes(self, devices: int) -> list[bytes]:
        rng = np.random.default_rng(devices)
        return [coarse(self.centres[number % 2] + 0.04 * rng.normal(size=16)) for number in range(devices)]

    def test_keeps_its_length_which_the_radius_bounds(self) -> None:
        half, whole, beyond = np.zeros(16), np.zeros(16), np.full(16, 1.0)
        half[0], whole[1] = 0.5, 1.0
        rows = comparable([coarse(place) for place in (half, whole, beyond)], [Standing.SEEN] * 3, COARSE)
        assert np.linalg.norm(rows, axis=1) == pytest.approx([0.5, 1.0, 1.0])
        assert rows[2] == pytest.approx(0.25)

    def test_zero_is_a_code_like_any_other(self) -> None:
        """An average device's."""
        rows = comparable([bytes(16), *self.codes(4)], [Standing.SEEN] * 5, COARSE)
        assert not rows[0].any()

    # Of five devices only two groups can be of two: one with a taste of its own, true or not, leaves room for one.
    @pytest.mark.parametrize("devices", [6, 10, 40])
    @pytest.mark.parametrize("stray", [b"", bytes(4), b"\x7f" * 16, b"\x81\x7f" * 8, b"\x80" * 16])
    def test_one_code_does_not_decide_what_becomes_of_all_others(self, devices: int, stray: bytes) -> None:
        honest = self.codes(devices)

        def found(codes: list[bytes]) -> list[int]:
            evidence = Evidence(comparable(codes, [Standing.SEEN] * len(codes), COARSE), (), 0)
            return partition(compare(evidence, CLUSTERERS["prompt"]()(evidence))).tolist()

        assert found(honest) == [0, 1] * (devices // 2)
        assert found([*honest, stray])[:-1] == [0, 1] * (devices // 2)
