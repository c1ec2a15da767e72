"""Updates as adapters, and the distance by which training has moved them."""

from __future__ import annotations

import pytest

from coordinator.config import BaseModel
from coordinator.learning import Updates
from coordinator.learning.updates import change_norm
from coordinator.rounds import Member
from coordinator.store import MemoryBlobs
from edge_sdk.adapter import Adapter, Factors, Shape, Share, concatenate, distance, to_bytes
from edge_sdk.errors import AdapterError
from tests.coordinator.adapters import BASE_ID, SLOTS, random_adapter, rotated
from tests.coordinator.settings import federation_of


@pytest.mark.parametrize("rank", [1, 4, 6])
def test_it_is_their_distance(rank: int) -> None:
    update, start = random_adapter(1, 4), random_adapter(2, rank)
    assert change_norm(update, start) == pytest.approx(distance(update, start), rel=1e-5)


def test_small_changes_are_not_lost() -> None:
    start = random_adapter(1)
    layers = {name: Factors(f.a, f.b * f.b.dtype.type(1 + 1e-5)) for name, f in start.layers.items()}
    update = Adapter(layers, start.base_id)
    assert change_norm(update, start) == pytest.approx(distance(update, start), rel=1e-4)
    assert change_norm(start, start) == 0.0


def test_another_gauge_is_no_change() -> None:
    start = random_adapter(1)
    whole = distance(start, concatenate([(start, 0.0)]))
    assert change_norm(rotated(start, 3), start) < 1e-3 * whole


class TestForm:
    """A 1x1 convolution may be written as a linear layer. The bundle says which form the federation's adapters have."""

    NAME = next(iter(SLOTS))

    def checked(self, update: Adapter, slots: dict[str, Shape]) -> Adapter:
        updates = Updates(federation_of(rank=4), BaseModel(BASE_ID, slots), MemoryBlobs())
        adapter, _ = updates.check(to_bytes(update), Member(0, 4, None, 0, Share.BOTH))
        return adapter

    def update(self, kernel: tuple[int, int] | None) -> Adapter:
        layers = dict(random_adapter(1, 4).layers)
        layers[self.NAME] = Factors(layers[self.NAME].a, layers[self.NAME].b, kernel)
        return Adapter(layers, BASE_ID)

    @pytest.mark.parametrize("stated", [None, (1, 1)])
    @pytest.mark.parametrize("sent", [None, (1, 1)])
    def test_one_update_does_not_decide_it_for_all(
        self, stated: tuple[int, int] | None, sent: tuple[int, int] | None
    ) -> None:
        slots = {**SLOTS, self.NAME: Shape(*SLOTS[self.NAME][:2], stated)}
        assert self.checked(self.update(sent), slots).layers[self.NAME].kernel == stated

    def test_another_kernel_is_refused(self) -> None:
        slots = {**SLOTS, self.NAME: Shape(*SLOTS[self.NAME][:2], (1, 2))}
        with pytest.raises(AdapterError):
            self.checked(self.update(None), slots)
