"""Masked sums in a federation file: what they go with, and what to write where they do not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from coordinator import config
from coordinator.config import BaseModel, Federation
from coordinator.methods.aggregation import AGGREGATORS
from coordinator.methods.aggregation.factors import FedIT
from coordinator.methods.robust import FILTERS
from coordinator.simulation import simulate
from edge_sdk.adapter import Shape, Share
from edge_sdk.errors import ConfigurationError
from edge_sdk.secure_aggregation import Policy
from tests.coordinator.settings import federation_of

BASE = BaseModel("b" * 64, {"unet.a.attn1.to_q": Shape(3, 5), "unet.a.attn1.to_v": Shape(4, 2)})
GOOD: dict[str, Any] = {
    "min_devices": 4,
    "aggregation": {"method": "fedit", "masked": True},
    "clustering": {"method": "prompt", "min_cluster": 3},
}


def masked(**changes: Any) -> Federation:
    return federation_of(**{**GOOD, **changes})


def test_a_file_asks_for_them() -> None:
    rules = masked(rank=2, steps=10, learning_rate=0.01).rules(BASE)
    assert rules.name == "tastes"
    assert rules.masking is not None
    assert rules.masking.largest_change == pytest.approx(0.2), "twice what Adam can do"
    assert rules.masking.security_bits == Policy().security_bits
    assert rules.words == {Share.BOTH: 2 + 4 + 1 + 2 * (3 + 5) + 2 * (4 + 2)}
    assert federation_of().rules(BASE).masking is None
    assert masked(aggregation={**GOOD["aggregation"], "largest_change": 3.0}).masking.largest_change == 3.0  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("method", "words"),
    [
        ("ffa", {Share.B: 2 + 4 + 1 + 2 * 5 + 2 * 2}),
        ("rolora", {Share.B: 2 + 4 + 1 + 2 * 5 + 2 * 2, Share.A: 2 + 4 + 1 + 2 * 3 + 2 * 4}),
    ],
)
def test_where_one_factor_is_trained_vectors_have_its_length(method: str, words: dict[Share, int]) -> None:
    """Of devices that train one rank, as a sum has one length."""
    rules = masked(rank=2, aggregation={"method": method, "masked": True}).rules(BASE)
    assert rules.words == words
    assert rules.min_rank == 2
    assert masked(rank=2, aggregation=method).rules(BASE).min_rank == (1 if method == "ffa" else 2)


@pytest.mark.parametrize("method", [name for name in AGGREGATORS if name not in ("fedit", "ffa", "rolora")])
def test_every_other_method_has_no_such_key(method: str) -> None:
    with pytest.raises(ConfigurationError, match=r"no key 'masked'.*, which is a key of fedit, ffa and rolora: choose"):
        masked(aggregation={"method": method, "masked": True})


def test_fedsb_says_why_it_has_none() -> None:
    why = r"no key 'masked', which is a key of .* Its frozen factors come from the exact mean of products in the first"
    with pytest.raises(ConfigurationError, match=why):
        masked(aggregation={"method": "fedsb", "masked": True})


def test_a_method_that_sends_something_else_than_factors_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """As one of another package may, with the keys of masked sums."""
    monkeypatch.setattr(FedIT, "share", classmethod(lambda cls, turn: Share.CORE))
    with pytest.raises(ConfigurationError, match=r"method = 'fedit' has devices send 'core', and .* masked = false"):
        masked()


@pytest.mark.parametrize("method", [name for name in FILTERS if name != "none"])
def test_no_filter_sees_updates(method: str) -> None:
    why = rf"\[filter\] method = '{method}' judges single .* \"none\" under \[filter\]"
    with pytest.raises(ConfigurationError, match=why):
        masked(filter=method)


@pytest.mark.parametrize("method", ["fused", "adapter", "picture", "validated"])
def test_no_clustering_compares_adapters(method: str) -> None:
    why = (
        rf"\[clustering\] method = '{method}'(, the default,)? compares .*\"prompt\" and min_cluster = 3, .*\"single\""
    )
    with pytest.raises(ConfigurationError, match=why):
        masked(clustering={"method": method, "min_cluster": 3})


def test_a_file_that_says_masked_alone_is_told_all_that_it_lacks_at_once() -> None:
    """With that written, it works."""
    with pytest.raises(ConfigurationError) as refused:
        federation_of(aggregation={"method": "fedit", "masked": True})
    said = str(refused.value)
    assert "[clustering] method = 'validated', the default, compares adapters of single devices" in said
    assert 'set method = "prompt" and min_cluster = 3' in said
    assert "And: min_devices = 2, and a masked sum takes 3 devices at least: set min_devices = 3 or more." in said
    written = {"aggregation": {"method": "fedit", "masked": True}, "min_devices": 3}
    assert federation_of(**written, clustering={"method": "prompt", "min_cluster": 3}).masking
    assert federation_of(**written, clustering="single").masking


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"late": 1}, r"late = 1: .*leave `late` out"),
        ({"min_devices": 2}, r"min_devices = 2, and a masked sum takes 3 .*set min_devices = 3 or more"),
        ({"clustering": {"method": "prompt"}}, r"min_cluster = 2, and .*set min_cluster = 3 or more"),
        (
            {"aggregation": {"method": "fedit", "masked": True, "colluding": 0.5, "dropping": 0.6}},
            r"\[aggregation\] No masked sum of up to 400 devices is both safe .*lower `colluding` or `dropping`",
        ),
    ],
)
def test_what_does_not_go_with_them(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigurationError, match=why):
        masked(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"clustering": {"method": "single"}},
        {"clustering": {"method": "prompt", "clusters": 1}},
        {"root_rounds": 2},
        {"server_optimiser": "momentum"},
        {"interaction": "none"},
        {"privacy": "coarse", "allow_plain": False},
        {"clustering": {"method": "prompt", "min_cluster": 3, "recluster": "drift"}},
    ],
)
def test_what_goes_with_them(changes: dict[str, Any]) -> None:
    assert masked(**changes).masking


def test_a_simulation_makes_none() -> None:
    with pytest.raises(ConfigurationError, match="masked = false to simulate"):
        simulate(masked(), BASE, {})


def test_the_template_names_the_keys() -> None:
    text = config.template("a", "b", "mqtt://x")
    assert config.parse(text, folder=Path()).masking is None
    assert "masked" in text
