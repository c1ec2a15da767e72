"""Level "local+dp" in a federation file: its epsilon, the devices that this takes, and the number of clusters."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordinator import config
from coordinator.config import BaseModel, Federation
from edge_sdk.adapter import Shape
from edge_sdk.errors import ConfigurationError
from edge_sdk.privacy import Guarantee

BASE = BaseModel("b" * 64, {"unet.a.attn1.to_q": Shape(3, 5)}, bytes(range(32)))
LEAST = 'name = "stickers"\nslots = "impasto.json"\nprivacy = "local+dp"\n'
TABLES = "[aggregation]\nmasked = true\n[clustering]\nclusters = 4\n"


def parsed(keys: str = "epsilon = 4", tables: str = TABLES) -> Federation:
    return config.parse(f"{LEAST}{keys}\n{tables}", folder=Path("/somewhere"))


@pytest.mark.parametrize(("epsilon", "devices"), [("1", 500), ("3.9", 500), ("4", 100), ("7.99", 100), ("8", 48)])
def test_an_epsilon_takes_so_many_devices(epsilon: str, devices: int) -> None:
    federation = parsed(f"epsilon = {epsilon}")
    assert (federation.aggregation.method, federation.clustering.method) == ("fedit", "sums")
    assert federation.min_devices == devices
    assert federation.rules(BASE).noise == federation.noise == Guarantee(epsilon=float(epsilon), delta=1e-5)
    assert federation.rules(BASE).alone
    parsed(f"epsilon = {epsilon}\nmin_devices = {devices}")
    with pytest.raises(ConfigurationError, match=rf"set min_devices = {devices} or more, or a larger epsilon"):
        parsed(f"epsilon = {epsilon}\nmin_devices = {devices - 1}")


@pytest.mark.parametrize(
    ("keys", "tables", "why"),
    [
        ("", TABLES, "needs epsilon.*set epsilon = 4, or any of 1 to 8"),
        ("epsilon = 0.5", TABLES, "any of 1 to 8"),
        ("epsilon = 8.5", TABLES, "epsilon"),
        ('epsilon = "four"', TABLES, "epsilon"),
        ("epsilon = nan", TABLES, "epsilon"),
        ("epsilon = 4\ndelta = 0", TABLES, "delta"),
        ("epsilon = 4\ndelta = 1e-3", TABLES, "delta"),
        ("epsilon = 4\ndelta = 1e-4\nmin_devices = 2000", TABLES, "set delta = 5e-05 or less"),
        ("epsilon = 4", "[aggregation]\nmasked = true\n", "set clusters = 2 to 6"),
        ("epsilon = 4", "[aggregation]\nmasked = true\n[clustering]\nclusters = 1\n", "set clusters = 2 to 6"),
        ("epsilon = 4", "[aggregation]\nmasked = true\n[clustering]\nclusters = 7\n", "set clusters = 2 to 6"),
        ("epsilon = 4", "[clustering]\nclusters = 4\n", "masked = true under"),
        ("epsilon = 4", f'{TABLES}[filter]\nmethod = "krum"\n', "judges single updates"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(keys: str, tables: str, why: str) -> None:
    with pytest.raises(ConfigurationError, match=why):
        parsed(keys, tables)


def test_without_the_level_an_epsilon_has_no_effect() -> None:
    other = config.parse(f"{LEAST.replace('local+dp', 'coarse')}epsilon = 4\n", folder=Path("/"))
    assert other.noise is None
    assert any(text.startswith("epsilon: without effect") for text in config.without_effect(other))
    assert config.without_effect(parsed()) == []
