"""Sums of a closed round, unmasked and decoded: the mean comes out, and one that cannot be is named."""

from __future__ import annotations

import numpy as np
import pytest

from coordinator import secure_aggregation as server
from coordinator.config import BaseModel
from coordinator.learning import Learning
from coordinator.learning.sums import Summed, summed
from coordinator.rounds import Aggregate, Lineage, Member, Round
from coordinator.store import MemoryBlobs
from edge_sdk.adapter import Adapter, Factors, Share, initial_adapter, to_bytes
from edge_sdk.adapter import from_bytes as adapter_of
from edge_sdk.errors import MaskedSumError
from edge_sdk.secure_aggregation import Words, from_bytes, layout_of, sizes_of, vector_of
from edge_sdk.wire import Masking, TrainingStats, make_manifest
from tests.coordinator.adapters import BASE_ID, SLOTS, random_adapter
from tests.coordinator.settings import federation_of
from tests.secure_aggregation.world import World, terms

MASKING = Masking(
    epoch=7, largest_weight=20, largest_change=0.5, colluding=0.1, dropping=0.3, security_bits=40, failure_bits=20
)
START = initial_adapter(SLOTS, 4, 3)
LAYOUT = layout_of(sizes_of(START), MASKING, Share.BOTH)
NAMES = ("a", "b", "c", "d")
WEIGHT = 6  # place of a vector's weight: after two words and four figures


class Closed(World):
    """A world whose sums are unmasked by the coordinator's learning, not here."""

    def unmask(self, task: server.Task) -> None:
        self.task = task


def moved(by: float) -> Adapter:
    return Adapter({name: Factors(f.a + np.float32(by), f.b, f.kernel) for name, f in START.layers.items()})


def vectors() -> dict[str, Words]:
    """Devices that have moved A by 0.1, 0.2, 0.3 and 0.4, of the same weight."""
    stats = TrainingStats(pictures=10, first_loss=0.5, last_loss=0.4, train_seconds=1.0)
    return {
        name: from_bytes(vector_of(moved(0.1 * number), START, stats, MASKING, Share.BOTH))
        for number, name in enumerate(NAMES, 1)
    }


def closed(given: dict[str, Words]) -> Summed:
    current, blobs = closed_round(given)
    return summed(current, lambda _: START, blobs)


def closed_round(given: dict[str, Words]) -> tuple[Round, MemoryBlobs]:
    """A root round whose four devices are in one sum, and its masked vectors."""
    world = Closed(NAMES, terms(LAYOUT.words))
    world.vectors = given
    world.begin()
    world.upload()
    assert world.state.phase == "summing"
    member = Member(None, 4, None, 3, Share.BOTH, sum=0)
    current = Round(
        number=3,
        attempt=1,
        stage="root",
        deadline=0.0,
        masking=MASKING,
        cohort=dict.fromkeys(NAMES, member),
        sums={0: world.state},
    )
    blobs = MemoryBlobs()
    for data in world.blobs.values():
        blobs.put(data)
    return current, blobs


def test_the_mean_of_a_round() -> None:
    found = closed(vectors())
    assert found.failed == {}
    mean = found.by_cluster[None].mean(START)
    for name, factors in START.layers.items():
        np.testing.assert_allclose(mean.layers[name].a, factors.a + 0.25, atol=1e-5)
        np.testing.assert_allclose(mean.layers[name].b, factors.b, atol=1e-5)
    assert found.figures()["pictures"] == pytest.approx(10, abs=0.1)


def test_what_lies_folded_under_the_adapter_stays_there() -> None:
    """As it does in a cluster that has split off from another one with the interaction `disjoint`."""
    current, blobs = closed_round(vectors())
    under = random_adapter(1, 2)
    folded = make_manifest(to_bytes(under), role="root", name="root.folded")
    blobs.put(to_bytes(under))
    settings = federation_of(
        rank=4, min_devices=3, clustering="single", aggregation={"method": "fedit", "masked": True}
    )
    learning = Learning(settings, BaseModel(BASE_ID, SLOTS), dict, blobs)
    root = learning.aggregate(Aggregate(current, False, Lineage(folded=folded), {})).root
    assert root is not None
    assert root.folded is not None
    kept = adapter_of(blobs.get(root.folded.sha256))
    for name, factors in under.layers.items():
        np.testing.assert_array_equal(kept.layers[name].a, factors.a)
        np.testing.assert_array_equal(kept.layers[name].b, factors.b)
    assert root.start is not None


@pytest.mark.parametrize("rest", [0, -5])
def test_devices_without_weight_together_teach_nothing(rest: int) -> None:
    """One that takes away the weight of the others: nothing could be divided by what is left."""
    given = vectors()
    others = sum(int(words[WEIGHT]) for name, words in given.items() if name != "d")
    given["d"][WEIGHT] = np.uint32((rest - others) % 2**32)
    with pytest.raises(MaskedSumError, match=r"MasksLeft: .* a device's vector was none"):
        closed(given)
