"""The base id depends on the weights' values and names, and on nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from edge_sdk.errors import BundleCorrupt, BundleMissing
from edge_sdk.inference import Bundle, compute_base_id
from tests.models import tiny_bundle, tiny_model, write_model

Weights = Mapping[str, torch.Tensor]
# All of them are exact in bfloat16 and float16.
UNET = {"conv.weight": torch.arange(24.0).reshape(2, 3, 2, 2), "conv.bias": torch.tensor([0.5, -1.0])}
TEXT = {"text_model.embeddings.weight": torch.ones(3, 2)}


def model(folder: Path, unet: Weights = UNET, text: Weights = TEXT, name: str = "model") -> Path:
    for component, weights in (("unet", unet), ("text_encoder", text), ("vae", {"x": torch.zeros(1)})):
        (folder / component).mkdir(parents=True)
        save_file(
            {key: value.contiguous() for key, value in weights.items()}, folder / component / f"{name}.safetensors"
        )
    return folder


def cast(weights: Weights, dtype: torch.dtype) -> Weights:
    return {key: value.to(dtype) for key, value in weights.items()}


def test_is_a_documented_constant(tmp_path: Path) -> None:
    # Ids are kept in adapters and federation files: they must never change.
    assert compute_base_id(model(tmp_path)) == "808de42e70e1769b23d25e7c7a676ea9adc4ecc4e00670767c55e8b0704e8cfd"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_does_not_depend_on_how_numbers_are_stored(tmp_path: Path, dtype: torch.dtype) -> None:
    assert compute_base_id(model(tmp_path / "a", cast(UNET, dtype))) == compute_base_id(model(tmp_path / "b"))


def test_does_not_depend_on_files(tmp_path: Path) -> None:
    sharded = model(tmp_path / "a")
    (sharded / "unet" / "model.safetensors").unlink()
    for number, (key, value) in enumerate(UNET.items(), 1):
        save_file({key: value}, sharded / "unet" / f"model-0000{number}-of-00002.safetensors")
    whole = model(tmp_path / "b")
    assert compute_base_id(sharded) == compute_base_id(whole)
    assert compute_base_id(model(tmp_path / "c", name="model.fp16")) == compute_base_id(whole)
    # A variant beside the plain weights is not what diffusers loads.
    save_file({"other": torch.zeros(1)}, whole / "unet" / "model.fp16.safetensors")
    assert compute_base_id(sharded) == compute_base_id(whole)


def test_does_not_depend_on_the_version_of_transformers(tmp_path: Path) -> None:
    old = {**TEXT, "text_model.embeddings.position_ids": torch.arange(3)}
    new = {"embeddings.weight": torch.ones(3, 2)}
    assert compute_base_id(model(tmp_path / "a", text=old)) == compute_base_id(model(tmp_path / "b", text=new))


@pytest.mark.parametrize(
    "unet",
    [
        {**UNET, "conv.bias": torch.tensor([0.5, -1.0001])},
        {**UNET, "conv.weight": UNET["conv.weight"].reshape(3, 2, 2, 2)},
        {"conv.weight": UNET["conv.weight"], "conv.other": UNET["conv.bias"]},
        {"conv.weight": UNET["conv.weight"]},
    ],
)
def test_depends_on_values_shapes_and_names(tmp_path: Path, unet: Weights) -> None:
    assert compute_base_id(model(tmp_path / "a", unet)) != compute_base_id(model(tmp_path / "b"))


def test_the_bundle_carries_the_id_of_its_base_model(tmp_path: Path) -> None:
    assert Bundle.load(tiny_bundle()).index.base_id == compute_base_id(tiny_model())
    assert compute_base_id(write_model(tmp_path, seed=1)) != compute_base_id(tiny_model())


def test_no_base_model(tmp_path: Path) -> None:
    with pytest.raises(BundleMissing, match="no base model"):
        compute_base_id(tmp_path)


def test_two_variants_and_no_plain_weights_are_ambiguous(tmp_path: Path) -> None:
    folder = model(tmp_path, name="model.fp16")
    save_file({"x": torch.zeros(1)}, folder / "unet" / "model.int8.safetensors")
    with pytest.raises(BundleMissing):
        compute_base_id(folder)


def test_broken_weights(tmp_path: Path) -> None:
    folder = model(tmp_path)
    (folder / "vae" / "model.safetensors").write_bytes(b"\xff" * 100)
    with pytest.raises(BundleCorrupt, match="no safetensors file"):
        compute_base_id(folder)
