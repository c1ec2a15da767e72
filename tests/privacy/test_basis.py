from __future__ import annotations

import stat
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from edge_sdk.errors import BundleCorrupt, BundleMissing, ConfigurationError
from edge_sdk.privacy import DIMENSIONS, FEWEST_PUBLIC, Basis, basis_id, load_basis, make_basis, save_basis

ID = "a" * 64


def embeddings(count: int = 300, dim: int = 24, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    rows = 2.0 + rng.normal(size=(count, dim)) * np.linspace(2.0, 0.2, dim)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture
def basis() -> Basis:
    return make_basis(embeddings(), ID)


def test_it_has_the_directions_in_which_public_captions_differ_most(basis: Basis) -> None:
    rows = embeddings()
    centred = rows - rows.mean(axis=0)
    assert basis.mean == pytest.approx(rows.mean(axis=0))
    assert basis.axes @ basis.axes.T == pytest.approx(np.eye(DIMENSIONS), abs=1e-9)
    kept = np.var(centred @ basis.axes.T, axis=0)
    assert np.all(np.diff(kept) < 0)
    assert kept.sum() == pytest.approx(np.sort(np.linalg.eigvalsh(np.cov(centred.T, bias=True)))[-DIMENSIONS:].sum())
    assert np.median(np.linalg.norm(basis.place(rows), axis=1)) == pytest.approx(1.0)


def test_rounding_does_not_turn_it(basis: Basis) -> None:
    """Another machine gets the same directions and signs."""
    noisy = make_basis(embeddings() + 1e-7 * np.random.default_rng(1).normal(size=(300, 24)), ID)
    assert noisy.axes == pytest.approx(basis.axes, abs=1e-4)
    assert noisy.radius == pytest.approx(basis.radius, abs=1e-5)


def test_its_id_is_that_of_its_sources() -> None:
    known = basis_id("encoder", ["a", "b"])
    assert known == basis_id("encoder", ["a", "b"])
    assert (
        len({known, basis_id("other", ["a", "b"]), basis_id("encoder", ["b", "a"]), basis_id("encoder", ["ab"])}) == 4
    )


def test_too_few_captions_or_too_much_alike_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=f"at least {FEWEST_PUBLIC}"):
        make_basis(embeddings(FEWEST_PUBLIC - 1), ID)
    with pytest.raises(ConfigurationError, match=f"fewer than {DIMENSIONS} directions"):
        make_basis(embeddings(dim=DIMENSIONS - 1), ID)
    with pytest.raises(ConfigurationError, match="less alike"):
        make_basis(np.repeat(embeddings(10), 30, axis=0), ID)


def test_it_is_read_as_it_was_written(basis: Basis, tmp_path: Path) -> None:
    path = tmp_path / "basis.safetensors"
    save_basis(basis, path)
    found = load_basis(path, ID)
    assert found.id == ID
    assert found.axes == pytest.approx(basis.axes, abs=1e-6)
    assert found.radius == pytest.approx(basis.radius)
    (tmp_path / "other").touch()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((tmp_path / "other").stat().st_mode), "others may read it"


@pytest.mark.parametrize(
    "changed",
    [
        {"axes": np.ones((DIMENSIONS, 24), np.float32)},
        {"axes": np.eye(DIMENSIONS, 25, dtype=np.float32)},
        {"axes": np.eye(DIMENSIONS - 1, 24, dtype=np.float32)},
        {"mean": np.full(24, np.nan, np.float32)},
        {"mean": np.ones((1, 24), np.float32)},
        {"radius": np.zeros(1, np.float32)},
        {"radius": np.full(1, np.inf, np.float32)},
        {"radius": np.ones(2, np.float32)},
        {"radius": None},
    ],
)
def test_a_file_that_is_no_basis_is_refused(
    changed: dict[str, np.ndarray | None], basis: Basis, tmp_path: Path
) -> None:
    path = tmp_path / "basis.safetensors"
    save_basis(basis, path)
    tensors = {name: value for name, value in (load_file(path) | changed).items() if value is not None}
    save_file(tensors, path)
    with pytest.raises(BundleCorrupt, match="export or copy the bundle again"):
        load_basis(path, ID)


def test_a_missing_or_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "basis.safetensors"
    with pytest.raises(BundleMissing, match=str(path)):
        load_basis(path, ID)
    path.write_bytes(b"no safetensors")
    with pytest.raises(BundleCorrupt, match=str(path)):
        load_basis(path, ID)
