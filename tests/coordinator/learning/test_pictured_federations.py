"""Federations whose devices send picture codes: from profiles to clusters."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from coordinator import rounds
from coordinator.config import BaseModel
from coordinator.config import Federation as Settings
from coordinator.learning.cluster import Tastes
from coordinator.learning.codes import Standing, source_of_most
from coordinator.learning.sketches import Subspaces
from coordinator.methods.clustering import (
    Matrix,
)
from coordinator.simulation.federation import SimulatedDevice, simulate
from edge_sdk.privacy import picture_code
from edge_sdk.wire import DeviceProfile
from tests.coordinator.adapters import BASE_ID, SLOTS
from tests.coordinator.learners import Learner
from tests.coordinator.learning.picture_styles import ENCODER, ari, styles
from tests.coordinator.settings import federation_of


class TestCoordinator:
    """From profiles to clusters, as the learning thread does it."""

    def tastes(self, method: str, pictures: Matrix, encoder: bytes = ENCODER, **keys: object) -> Tastes:
        profiles = profiles_of(pictures)
        settings = federation_of(clustering={"method": method, **keys})
        return tastes_of(settings, profiles, encoder)

    @pytest.mark.parametrize("method", ["picture", "validated"])
    def test_devices_that_share_a_style_share_a_cluster(self, method: str) -> None:
        pictures, truth = styles(24, 4)
        tastes = self.tastes(method, pictures)
        names = [f"d{number:02}" for number in range(24)]
        action = rounds.Cluster(1, {name: rounds.Device(max_rank=4) for name in names}, 0)
        found = tastes.cluster(action)
        assert ari(truth, [found.assignment[name] for name in names]) == 1.0
        assert set(found.figures["map"]) == set(names)
        assert found.figures.get("evidence") == (None if method == "picture" else "picture")
        known = {name: found.assignment[name] for name in names[:-1]}
        assert tastes.place(rounds.Place(names[-1], known)).cluster == found.assignment[names[-1]]

    def test_picture_codes_are_made_ready_only_for_clusterers_that_look_at_them(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def unwanted(*_: object) -> Matrix:
            raise AssertionError("picture codes were made ready")

        monkeypatch.setattr("coordinator.learning.cluster.positions", unwanted)
        names = [f"d{number:02}" for number in range(8)]
        action = rounds.Cluster(1, {name: rounds.Device(max_rank=4) for name in names}, 0)
        for method in ("fused", "prompt", "adapter", "single"):
            tastes = self.tastes(method, styles(8, 2)[0])
            assert set(tastes.cluster(action).assignment) == set(names)
            assert tastes.place(rounds.Place(names[-1], dict.fromkeys(names[:-1], 3))).cluster == 3
        with pytest.raises(AssertionError, match="made ready"):
            self.tastes("picture", styles(8, 2)[0]).cluster(action)

    def test_by_drift_clusters_stay_until_pictures_change(self) -> None:
        pictures, _ = styles(24, 4)
        names = [f"d{number:02}" for number in range(24)]
        tastes = self.tastes("picture", pictures, recluster="drift")
        first = tastes.cluster(rounds.Cluster(1, {name: rounds.Device(max_rank=4) for name in names}, 0))
        devices = {name: rounds.Device(max_rank=4, cluster=first.assignment[name]) for name in names}
        again = rounds.Cluster(2, devices, 4, first.margin)
        assert tastes.cluster(again).figures["kept"]
        pictures[[1, 5, 9, 13]] = pictures[[2, 6, 10, 14]] + 0.1
        moved = self.tastes("picture", pictures, recluster="drift").cluster(again)
        assert not moved.figures["kept"]
        assert moved.assignment["d01"] == first.assignment["d02"]

    @pytest.mark.parametrize("method", ["picture", "validated"])
    def test_coarse_codes_are_as_good(self, method: str) -> None:
        pictures, truth = styles(24, 4)
        settings = federation_of(clustering=method, privacy="coarse", allow_plain=False)
        found = clusters(tastes_of(settings, profiles_of(pictures, "coarse")), 24)
        assert ari(truth, found) == 1.0

    def test_codes_of_another_level_are_set_aside(self) -> None:
        """Their devices have joined before the federation asked for this one."""
        pictures, truth = styles(24, 4)
        profiles = profiles_of(pictures)
        for number in range(0, 24, 5):
            profiles[f"d{number:02}"] = profiles_of(pictures, "coarse")[f"d{number:02}"]
        tastes = tastes_of(federation_of(clustering="picture"), profiles)
        evidence = seen(tastes, 24)
        assert np.flatnonzero(np.isnan(evidence).any(axis=1)).tolist() == [0, 5, 10, 15, 20]
        rest = np.arange(24) % 5 != 0
        assert ari(truth[rest], np.array(clusters(tastes, 24))[rest]) == 1.0

    @pytest.mark.parametrize("known", [True, False])
    def test_codes_of_another_encoder_are_set_aside(self, known: bool) -> None:
        """It is that of the bundle; of a bundle that has none, that of most devices."""
        pictures, _ = styles(24, 4)
        profiles = profiles_of(pictures)
        for number in range(7):
            name = f"d{number:02}"
            profiles[name] = msgspec.structs.replace(profiles[name], picture_encoder=b"f" * 32)
        tastes = tastes_of(federation_of(clustering="picture"), profiles, ENCODER if known else b"")
        assert np.flatnonzero(np.isnan(seen(tastes, 24)).any(axis=1)).tolist() == [*range(7)]

    def test_the_encoder_of_most_is_that_of_the_best_known(self) -> None:
        codes = [(b"1", b"a"), (b"1", b"b"), (b"1", b"b"), (b"", b"")]
        standings = [Standing.PROVEN, Standing.SEEN, Standing.SEEN, Standing.PROVEN]
        assert source_of_most(codes, standings) == b"a"
        assert source_of_most(codes[1:], standings[1:]) == b"b"
        assert source_of_most(codes[3:], standings[3:]) == b""


def profiles_of(pictures: Matrix, level: str = "plain") -> dict[str, DeviceProfile]:
    """The profiles of devices, with codes as devices make them, of pictures that are all alike."""

    def code(row: Matrix) -> bytes:
        return b"" if np.isnan(row).any() else picture_code(np.tile(row, (8, 1)), level)

    return {
        f"d{number:02}": DeviceProfile(
            base_id=BASE_ID, prompt_code=np.ones(4, "<f4").tobytes(), pictures=5, max_rank=4, level=level,
            picture_code=code(row), picture_encoder=ENCODER,
        )
        for number, row in enumerate(pictures)
    }  # fmt: skip


def tastes_of(settings: Settings, profiles: dict[str, DeviceProfile], encoder: bytes = ENCODER) -> Tastes:
    subspaces = Subspaces(lambda trace: None, {}, _NoSketches())  # type: ignore[arg-type]
    return Tastes(settings, lambda: profiles, subspaces, encoder=encoder)


def clusters(tastes: Tastes, devices: int) -> list[int]:
    names = [f"d{number:02}" for number in range(devices)]
    found = tastes.cluster(rounds.Cluster(1, {name: rounds.Device(max_rank=4) for name in names}, 0))
    return [found.assignment[name] for name in names]


def seen(tastes: Tastes, devices: int) -> Matrix:
    """The picture codes that are compared."""
    names = [f"d{number:02}" for number in range(devices)]
    pictures = tastes._codes(names, [Standing.SEEN] * devices)[1]
    assert pictures is not None
    return pictures


def test_a_whole_federation_by_picture_codes() -> None:
    """Through the real rounds and the store: captions and training say even and odd, pictures first and second half."""
    learners = [Learner(number) for number in range(8)]
    halves = np.arange(8) // 4
    pictures = styles(2, 2)[0][halves] + np.random.default_rng(0).normal(size=(8, 32)) / 4
    devices = {
        learner.name: SimulatedDevice(
            msgspec.structs.replace(learner.profile, picture_code=row.astype("<f4").tobytes(), picture_encoder=ENCODER),
            learner.train,
        )
        for learner, row in zip(learners, pictures, strict=True)
    }
    for method, wanted in (("picture", halves), ("fused", np.arange(8) % 2)):
        settings = federation_of(rounds=1, min_devices=8, rank=4, steps=2, clustering=method, interaction="none")
        outcomes = simulate(
            settings, BaseModel(BASE_ID, SLOTS, picture_dimensions=32, picture_encoder=ENCODER), devices
        )
        assert ari(wanted, [outcomes[learner.name].cluster for learner in learners]) == 1.0


class _NoSketches:
    def prune(self, kept: object) -> None: ...


def test_a_profile_that_lacks_the_field_is_of_an_earlier_version() -> None:
    whole = DeviceProfile(base_id=BASE_ID, prompt_code=bytes(4), pictures=5, max_rank=4)
    earlier = msgspec.to_builtins(whole, builtin_types=(bytes,))
    del earlier["picture_code"]
    assert msgspec.convert(earlier, DeviceProfile) == whole
