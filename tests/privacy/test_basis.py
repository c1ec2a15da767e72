from __future__ import annotations

import stat
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from sklearn.covariance import ledoit_wolf
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from edge_sdk.errors import BundleCorrupt, BundleMissing, ConfigurationError
from edge_sdk.privacy import DIMENSIONS, FEWEST_STYLES, Basis, basis_id, load_basis, make_basis, save_basis
from edge_sdk.privacy.basis import _scatter

ID = "a" * 64


def embeddings(styles: int = 40, dim: int = 24, each: int = 10, seed: int = 0) -> list[np.ndarray]:
    """Captions differ most by subject in the first dimensions, by style in the last ones."""
    rng = np.random.default_rng(seed)
    centres = 2.0 + rng.normal(size=(styles, 1, dim)) * np.linspace(0.2, 1.0, dim)
    rows = centres + rng.normal(size=(styles, each, dim)) * np.linspace(2.0, 0.2, dim)
    return list(rows / np.linalg.norm(rows, axis=2, keepdims=True))


@pytest.fixture
def basis() -> Basis:
    return make_basis(embeddings(), ID)


def test_its_directions_tell_styles_apart_best(basis: Basis) -> None:
    """Without shrinkage they are those of scikit-learn; with it hardly others, as the captions are many."""
    styles = embeddings(each=200)
    rows, of_style = np.concatenate(styles), np.repeat(np.arange(len(styles)), 200)
    many = make_basis(styles, ID)
    assert many.mean == pytest.approx(rows.mean(axis=0))
    assert np.median(np.linalg.norm(many.place(rows), axis=1)) == pytest.approx(1.0)
    reference = LinearDiscriminantAnalysis(solver="eigen").fit(rows, of_style).scalings_[:, :DIMENSIONS].T
    cosines = np.sum(many.axes * reference, axis=1) / (
        np.linalg.norm(many.axes, axis=1) * np.linalg.norm(reference, axis=1)
    )
    assert np.abs(cosines).min() > 0.99
    places = many.place(np.array(styles)) * many.radius
    within = places - places.mean(axis=1, keepdims=True)
    assert within.reshape(-1, DIMENSIONS).std(axis=0) == pytest.approx(1.0, abs=0.05)
    between = places.mean(axis=1).std(axis=0)
    assert np.all(np.diff(between) < 0.02)
    assert between[0] > 4 * places.mean(axis=1).std(axis=0)[-1]


def test_few_captions_are_shrunk_as_scikit_learn_does() -> None:
    rows = np.concatenate([style - style.mean(axis=0) for style in embeddings(dim=300, each=3)])
    assert _scatter(rows) == pytest.approx(ledoit_wolf(rows, assume_centered=True)[0], abs=1e-9)


def test_rounding_does_not_turn_it(basis: Basis) -> None:
    """Another machine gets the same directions and signs."""
    rng = np.random.default_rng(1)
    noisy = make_basis([style + 1e-7 * rng.normal(size=style.shape) for style in embeddings()], ID)
    assert noisy.axes == pytest.approx(basis.axes, abs=1e-4)
    assert noisy.radius == pytest.approx(basis.radius, abs=1e-5)


def test_its_id_is_that_of_its_sources() -> None:
    sources = [("encoder", styles) for styles in ([["a", "b"]], [["b", "a"]], [["ab"]], [["a"], ["b"]])]
    ids = [basis_id(*source) for source in [*sources, ("other", [["a", "b"]])]]
    assert len(set(ids)) == len(ids)
    assert basis_id("encoder", (("a", "b"),)) == ids[0]


def test_too_few_captions_or_too_much_alike_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=f"at least {FEWEST_STYLES} styles"):
        make_basis(embeddings(FEWEST_STYLES - 1), ID)
    with pytest.raises(ConfigurationError, match="at least two of each"):
        make_basis([*embeddings(), embeddings()[0][:1]], ID)
    with pytest.raises(ConfigurationError, match=f"fewer than {DIMENSIONS} directions"):
        make_basis(embeddings(dim=DIMENSIONS - 1), ID)
    one = embeddings()[0]
    for alike in ([one] * 40, [one[:1].repeat(2, axis=0)] * 40):
        with pytest.raises(ConfigurationError, match="less alike"):
            make_basis(alike, ID)


def test_styles_of_two_captions_that_all_differ_alike_make_one() -> None:
    """The scatter of subjects has a single direction; the others count as well."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(40, 24))
    basis = make_basis([np.array([centre, centre + np.eye(24)[0]]) for centre in centres], ID)
    assert np.isfinite(basis.axes).all()
    assert np.linalg.matrix_rank(basis.axes) == DIMENSIONS


def test_it_is_read_as_it_was_written(basis: Basis, tmp_path: Path) -> None:
    path = tmp_path / "basis.safetensors"
    save_basis(basis, path)
    found = load_basis(path, ID)
    assert found.id == ID
    assert found.axes == pytest.approx(basis.axes, rel=1e-6)
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
