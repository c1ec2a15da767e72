"""A device's home folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_sdk.errors import ConfigurationError
from edge_sdk.membership.home import Home
from edge_sdk.wire.messages import Manifest
from edge_sdk.wire.transfer import make_manifest


def manifest(data: bytes, role: str, name: str) -> tuple[Manifest, bytes]:
    return make_manifest(data, role=role, name=name), data  # type: ignore[arg-type]


def test_the_checkpoint_of_one_plan_is_kept_and_others_go(tmp_path: Path) -> None:
    home = Home(tmp_path)
    mine, other = home.checkpoint("a" * 64), home.checkpoint("b" * 64)
    for path in (mine, other, tmp_path / "leaf.checkpoint"):
        path.write_bytes(b"state")
    half_written = tmp_path / f".{mine.name}.xyz.tmp"
    half_written.write_bytes(b"")
    home.forget_checkpoints(keep=mine)
    assert {path.name for path in tmp_path.iterdir() if path.is_file()} == {mine.name, "leaf.checkpoint"}
    home.forget_checkpoints()
    assert not mine.exists()


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
