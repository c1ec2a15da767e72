"""A simulated federation of level "local+dp": clusters of plain codes, with the noise that devices would add."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordinator import config
from coordinator.simulation.choosing import chosen, found_groups
from edge_sdk.errors import TooFewDevices
from tests.integration.devices import GROUPS, coarse_code

FILE = """
name = "tastes"
slots = "impasto.json"
privacy = "local+dp"
epsilon = 8
[aggregation]
masked = true
[clustering]
clusters = 2
"""


def test_groups_are_found_with_noise_of_the_federations_seed() -> None:
    federation = config.parse(FILE, folder=Path("/somewhere"))
    codes = {f"device-{number}": coarse_code(GROUPS[number % 2], number) for number in range(48)}
    found, up, down = found_groups(federation, codes)
    assert found_groups(federation, codes) == (found, up, down), "the same seed"
    assert up == 4 * (17 + 137 + 12 * 17 + 2 * 17)
    clusters = chosen(found, codes)
    assert clusters.figures == {"questions": 4}
    assert len({(number % 2, clusters.assignment[f"device-{number}"]) for number in range(48)}) == 2
    fewer = dict(list(codes.items())[:47])
    with pytest.raises(TooFewDevices, match="47 devices, and with epsilon = 8 clusters take min_devices = 48"):
        found_groups(federation, fewer)
