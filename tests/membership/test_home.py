"""A device's home folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_sdk.errors import ConfigurationError
from edge_sdk.membership.home import Home
from edge_sdk.wire.messages import Manifest, Offer
from edge_sdk.wire.transfer import make_manifest


def offer(data: bytes, number: int = 1) -> Offer:
    manifest = make_manifest(data, role="update", name="update-1")
    return Offer(round=number, manifest=manifest, pictures=3, first_loss=1.0, last_loss=0.5, train_seconds=1.0)


def manifest(data: bytes, role: str, name: str) -> tuple[Manifest, bytes]:
    return make_manifest(data, role=role, name=name), data  # type: ignore[arg-type]


def test_epochs_grow_over_sessions_and_over_a_lost_folder(tmp_path: Path) -> None:
    epochs = [Home(tmp_path).next_epoch() for _ in range(3)]
    assert epochs == sorted(set(epochs))
    (tmp_path / "membership.json").unlink()
    assert Home(tmp_path).next_epoch() >= epochs[0]


def test_an_update_is_kept_for_its_plan_only(tmp_path: Path) -> None:
    Home(tmp_path).keep_update("plan", offer(b"update"), b"update")
    home = Home(tmp_path)
    assert home.kept_update("plan") == (offer(b"update"), b"update")
    assert home.kept_update("another plan") is None


@pytest.mark.parametrize("damage", ["update.safetensors", "membership.json"])
def test_a_damaged_update_is_trained_anew(tmp_path: Path, damage: str) -> None:
    Home(tmp_path).keep_update("plan", offer(b"update"), b"update")
    (tmp_path / damage).write_bytes(b"damaged")
    assert Home(tmp_path).kept_update("plan") is None


def test_received_adapters(tmp_path: Path) -> None:
    home = Home(tmp_path)
    kept, gone = manifest(b"kept", "root", "root")[0], manifest(b"gone", "root", "root")[0]
    home.receive(kept.sha256, b"kept")
    home.receive(gone.sha256, b"gone")
    home.forget_received([kept.sha256])
    assert Home(tmp_path).received(kept.sha256) == b"kept"
    assert home.received(gone.sha256) is None
    (tmp_path / "received" / f"{kept.sha256}.safetensors").write_bytes(b"damaged")
    assert home.received(kept.sha256) is None


def test_adapters_are_settled_by_name_and_old_ones_go(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.settle([manifest(b"old", "cluster", "cluster-9")], 9, all_there_are=True)
    clusters = [manifest(b"c3", "cluster", "cluster-3"), manifest(b"c1", "cluster", "cluster-1")]
    paths = home.settle([manifest(b"r", "root", "root"), *clusters], 3, all_there_are=True)
    files = {str(path.relative_to(tmp_path)): path.read_bytes() for path in tmp_path.rglob("*.safetensors")}
    assert files == {
        "root.safetensors": b"r",
        "cluster.safetensors": b"c3",
        "clusters/1.safetensors": b"c1",
        "clusters/3.safetensors": b"c3",
    }
    assert set(paths) == {"root", "cluster", "cluster-1", "cluster-3"}


def test_whoever_leaves_early_keeps_what_is_not_replaced(tmp_path: Path) -> None:
    home = Home(tmp_path)
    old = [manifest(b"r", "root", "root"), manifest(b"c3", "cluster", "cluster-3")]
    home.settle(old, 3, all_there_are=True)
    assert set(home.settle([manifest(b"r2", "root", "root")], 3, all_there_are=False)) == {"root"}
    files = {str(path.relative_to(tmp_path)): path.read_bytes() for path in tmp_path.rglob("*.safetensors")}
    assert files == {"root.safetensors": b"r2", "cluster.safetensors": b"c3", "clusters/3.safetensors": b"c3"}


@pytest.mark.parametrize("name", ["cluster-../../x", "../cluster-1", "cluster-", "/etc/passwd", "cluster--1"])
def test_names_from_outside_cannot_leave_the_folder(tmp_path: Path, name: str) -> None:
    home = Home(tmp_path / "home")
    assert home.settle([manifest(b"x", "cluster", name)], 1, all_there_are=True) == {}
    assert not list(tmp_path.rglob("*.safetensors"))


def test_a_home_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigurationError, match="home"):
        Home(tmp_path / "file")
