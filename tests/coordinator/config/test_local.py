"""Level "local" in a federation file: what it needs, what goes without saying, and what cannot be combined with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordinator import config
from coordinator.config import BaseModel, Federation
from coordinator.methods.aggregation import AGGREGATORS
from coordinator.methods.clustering import CLUSTERERS, BySums
from coordinator.methods.robust import FILTERS
from coordinator.rounds import LARGEST_SUM
from edge_sdk.adapter import Shape, Share
from edge_sdk.errors import ConfigurationError

BASIS = bytes(range(32))
BASE = BaseModel("b" * 64, {"unet.a.attn1.to_q": Shape(3, 5)}, BASIS)
LEAST = 'name = "stickers"\nslots = "impasto.json"\nprivacy = "local"\n'


def parsed(keys: str = "", tables: str = "[aggregation]\nmasked = true\n") -> Federation:
    return config.parse(f"{LEAST}{keys}\n{tables}", folder=Path("/somewhere"))


def test_the_level_and_masks_make_a_file() -> None:
    federation = parsed()
    assert federation.aggregation.method == "fedit"
    assert federation.clustering == BySums()
    assert (federation.min_devices, federation.max_devices) == (6, LARGEST_SUM)
    rules = federation.rules(BASE)
    assert (rules.privacy, rules.smallest, rules.alone, rules.code_size, rules.basis) == ("local", 3, True, 0, BASIS)
    assert rules.masking is not None
    assert rules.words[Share.BOTH] == 2 + 4 + rules.slot_words[Share.BOTH]
    assert rules.max_update >= 4 * (2 + 4 + 8 * rules.slot_words[Share.BOTH])
    assert not config.parse(LEAST.replace("local", "coarse"), folder=Path("/")).rules(BASE).alone


def test_what_the_file_says_counts() -> None:
    tables = '[aggregation]\nmethod = "rolora"\nmasked = true\n[clustering]\nclusters = 3\nmin_cluster = 4\n'
    federation = parsed("min_devices = 20\nmax_devices = 30", tables)
    assert (federation.min_devices, federation.max_devices) == (20, 30)
    assert federation.aggregation.method == "rolora"
    assert federation.clustering == BySums(clusters=3, min_cluster=4)
    assert federation.rules(BASE).smallest == 4
    assert config.without_effect(parsed("", "[aggregation]\nmasked = true\n[clustering]\nclusters = 2\nmost = 5")) != []


def test_a_bundle_needs_the_public_basis() -> None:
    with pytest.raises(ConfigurationError, match="no public basis"):
        parsed().rules(BaseModel("b" * 64, BASE.slots))


@pytest.mark.parametrize("method", [name for name in AGGREGATORS if name not in ("fedit", "ffa", "rolora")])
def test_methods_that_cannot_be_summed_cannot_be_masked(method: str) -> None:
    with pytest.raises(ConfigurationError, match="has no key 'masked', which is a key of fedit, ffa and rolora"):
        parsed("", f'[aggregation]\nmethod = "{method}"\nmasked = true\n')


@pytest.mark.parametrize("method", [name for name in CLUSTERERS if name != "sums"])
def test_clusterings_that_look_at_single_devices_are_refused(method: str) -> None:
    with pytest.raises(
        ConfigurationError, match=rf"method = '{method}' looks at codes, pictures or adapters of single"
    ):
        parsed("", f'[aggregation]\nmasked = true\n[clustering]\nmethod = "{method}"\n')


@pytest.mark.parametrize("method", [name for name in FILTERS if name != "none"])
def test_filters_are_refused(method: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"\[filter\] method = '{method}' judges single updates"):
        parsed("", f'[aggregation]\nmasked = true\n[filter]\nmethod = "{method}"\n')


@pytest.mark.parametrize(
    ("keys", "tables", "why"),
    [
        ("", "", "set method = \"fedit\".*masked = true under"),
        ("late = 1", "", "late = 1"),
        ("min_devices = 5", "", "two clusters of min_cluster = 3 take 6"),
        ("max_devices = 401", "", "in parts, a cluster could be a single device's"),
        ("", "[clustering]\nmin_cluster = 2", "min_cluster"),
        ("", "[clustering]\nmin_cluster = 4", "two clusters of min_cluster = 4 take 8"),
        ("", "[clustering]\nrecluster = \"drift\"", "Clusters are found once"),
        ("", "[clustering]\nchoose = \"bic\"", "found by the sum of the devices' silhouettes"),
        ("", "[interaction]\nmethod = \"disjoint\"", "small clusters share a slot"),
        ("allow_plain = true\nroot_rounds = 9", "", "root_rounds = 9"),
    ],
)  # fmt: skip
def test_what_cannot_be_combined_is_refused_with_the_reason(keys: str, tables: str, why: str) -> None:
    masked = "" if why.startswith("set method") else "[aggregation]\nmasked = true\n"
    with pytest.raises(ConfigurationError, match=why):
        parsed(keys, masked + tables)


def test_one_cluster_takes_as_many_devices_as_a_sum() -> None:
    assert parsed("min_devices = 3", "[aggregation]\nmasked = true\n[clustering]\nclusters = 1").min_devices == 3


def test_other_levels_do_not_cluster_by_sums() -> None:
    text = LEAST.replace("local", "coarse") + '[clustering]\nmethod = "sums"\n'
    with pytest.raises(ConfigurationError, match='"sums" is for privacy = "local"'):
        config.parse(text, folder=Path("/"))
