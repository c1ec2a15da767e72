"""The base id depends on the weights' values and names, and on nothing else."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from edge_sdk.errors import BundleCorrupt, BundleMissing
from edge_sdk.inference import Bundle, compute_base_id
from edge_sdk.inference.bundle.base_id import weight_variant
from edge_sdk.training import Trainer
from export.source import load_pipeline
from tests.models import tiny_bundle, tiny_model, write_model
from tests.training.samples import squares

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


def test_bfloat16_is_read_where_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scalar, one without numbers and one in the middle: the file was read whole for each of them before."""
    weights = {"a": torch.tensor(0.5), "b": torch.zeros(0, 3), "c": torch.arange(6.0).reshape(2, 3)}
    wanted = compute_base_id(model(tmp_path / "a", weights))
    monkeypatch.delattr("pathlib.Path.read_bytes")
    assert compute_base_id(model(tmp_path / "b", cast(weights, torch.bfloat16))) == wanted


def test_does_not_depend_on_files(tmp_path: Path) -> None:
    sharded = model(tmp_path / "a")
    (sharded / "unet" / "model.safetensors").unlink()
    for number, (key, value) in enumerate(UNET.items(), 1):
        save_file({key: value}, sharded / "unet" / f"model-0000{number}-of-00002.safetensors")
    whole = model(tmp_path / "b")
    assert compute_base_id(sharded) == compute_base_id(whole)
    for name in ("model.fp16-0000{}-of-00002.safetensors", "model-0000{}-of-00002.fp16.safetensors"):
        for file, number in zip(sorted((sharded / "unet").iterdir()), (1, 2), strict=True):
            file.rename(file.with_name(name.format(number)))
        assert compute_base_id(sharded) == compute_base_id(whole)
        assert weight_variant(sharded, "unet") == "fp16"
    assert compute_base_id(model(tmp_path / "c", name="model.fp16")) == compute_base_id(whole)
    # A variant beside the plain weights is not what diffusers loads.
    save_file({"other": torch.zeros(1)}, whole / "unet" / "model.fp16.safetensors")
    assert compute_base_id(sharded) == compute_base_id(whole)


def test_files_that_no_library_loads_are_no_weights(tmp_path: Path) -> None:
    """Such files are an adapter that was put beside the weights, or an older copy."""
    folder = model(tmp_path)
    before = compute_base_id(folder)
    for name in ("pytorch_lora_weights.safetensors", "model.bak.old.safetensors", "my model.safetensors"):
        save_file({"x": torch.zeros(1)}, folder / "unet" / name)
    assert compute_base_id(folder) == before
    assert weight_variant(folder, "unet") is None


def test_shards_have_to_be_all_there(tmp_path: Path) -> None:
    """The id of the remaining shards would be that of a base model that nobody has."""
    folder = model(tmp_path)
    (folder / "unet" / "model.safetensors").rename(folder / "unet" / "model-00001-of-00003.safetensors")
    with pytest.raises(BundleMissing, match=r"unet/ lacks 2 of the 3 files of its weights, .* number 2"):
        compute_base_id(folder)


@pytest.mark.parametrize("other", ["diffusion_pytorch_model.safetensors", "model-00001-of-00001.safetensors"])
def test_weights_that_are_there_twice_are_ambiguous(other: str, tmp_path: Path) -> None:
    """diffusers takes the shards, transformers the file in one piece."""
    folder = model(tmp_path)
    save_file({"conv.bias": torch.zeros(2)}, folder / "unet" / other)
    for read in (compute_base_id, lambda folder: weight_variant(folder, "unet")):
        with pytest.raises(BundleMissing, match=r"unet/ holds its weights more than once, in .* and .*Keep one"):
            read(folder)


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


@pytest.mark.parametrize("name", ["model", "model.fp16"])
def test_the_variant_to_load_is_that_of_the_id(name: str, tmp_path: Path) -> None:
    folder = model(tmp_path, name=name)
    assert weight_variant(folder, "unet") == (None if name == "model" else "fp16")
    save_file({"x": torch.zeros(1)}, folder / "unet" / "model.safetensors")
    assert weight_variant(folder, "unet") is None


def test_the_old_names_of_the_autoencoder_are_the_same_weights(tmp_path: Path) -> None:
    """diffusers loads both, and official checkpoints have the old ones."""
    names = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
    folders = [model(tmp_path / "old"), model(tmp_path / "new")]
    for folder, spelled in zip(folders, (names.keys(), names.values()), strict=True):
        weights = {
            f"{part}.mid_block.attentions.0.{name}.{kind}": torch.full((2,), float(number))
            for part in ("encoder", "decoder")
            for number, name in enumerate(spelled)
            for kind in ("weight", "bias")
        }
        save_file(weights, folder / "vae" / "model.safetensors")
    assert compute_base_id(folders[0]) == compute_base_id(folders[1])


def test_a_model_that_diffusers_saves_anew_stays_the_same(tmp_path: Path) -> None:
    """The checkpoint is one of before diffusers 0.18, in float16 and with old names; it is loaded and saved."""
    old = shutil.copytree(tiny_model("epsilon"), tmp_path / "old")
    for part in ("unet", "vae", "text_encoder"):
        (file,) = (old / part).glob("*.safetensors")
        halves = {key: value.half() for key, value in load_file(file).items()}
        if part == "vae":
            renamed = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
            for new, name in renamed.items():
                halves = {key.replace(f"attentions.0.{new}.", f"attentions.0.{name}."): v for key, v in halves.items()}
            assert "encoder.mid_block.attentions.0.proj_attn.bias" in halves
        file.unlink()
        save_file(halves, file.with_name(f"{file.stem}.fp16.safetensors"), {"format": "pt"})
    loaded: Any = load_pipeline(old)
    loaded.save_pretrained(tmp_path / "new")
    assert compute_base_id(old) == compute_base_id(tmp_path / "new")
    # Training loads the same, and says so.
    trainer = Trainer(old, squares(1), threads=1)
    assert trainer.base_id == compute_base_id(old)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "the file is empty"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"<html>", "web page"),
    ],
)
def test_what_is_no_weights_is_called_by_its_name(content: bytes, said: str, tmp_path: Path) -> None:
    folder = model(tmp_path)
    (folder / "vae" / "model.safetensors").write_bytes(content)
    for read in (compute_base_id, lambda folder: weight_variant(folder, "vae")):
        with pytest.raises(BundleCorrupt, match=said):
            read(folder)


def test_pickled_weights_are_named(tmp_path: Path) -> None:
    folder = model(tmp_path)
    (folder / "vae" / "model.safetensors").rename(folder / "vae" / "diffusion_pytorch_model.bin")
    with pytest.raises(BundleMissing, match=r"only diffusion_pytorch_model\.bin, a pickle"):
        compute_base_id(folder)
