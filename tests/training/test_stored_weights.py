"""Weights laid out for training: mapped, made once, whole or not there."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel

from edge_sdk.errors import NoRoomToPrepare, TrainingError
from edge_sdk.inference.bundle import compute_base_id
from edge_sdk.inference.runtime import cache as caching
from edge_sdk.training.base_model import stored_weights
from edge_sdk.training.base_model.stored_weights import Storage, WeightsNotPrepared, find, known_base_id, training_cache
from edge_sdk.training.base_model.unet import load_unet
from tests.models import tiny_model

BASE = "b" * 64


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model(), tmp_path / "model"))


@pytest.fixture
def everything_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored_weights, "SMALL", 0)


@pytest.mark.parametrize("storage", ["fp32", "bf16"])
def test_prepared_weights_are_those_of_the_model(cache: Path, storage: Storage) -> None:
    published = UNet2DConditionModel.from_pretrained(tiny_model() / "unet").state_dict()
    for unet in (load_unet(tiny_model(), BASE, storage, cache), load_unet(tiny_model(), storage=storage)):
        found = unet.state_dict()
        assert found.keys() == published.keys()
        for name, weight in published.items():
            wanted = weight.bfloat16() if storage == "bf16" and weight.ndim > 1 else weight
            assert found[name].dtype == wanted.dtype, name
            assert torch.equal(found[name], wanted), name
            assert weight.ndim != 4 or found[name].is_contiguous(memory_format=torch.channels_last), name


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="maps of the process are Linux's")
def test_prepared_weights_are_a_mapped_file(cache: Path) -> None:
    unet = load_unet(tiny_model(), BASE, "bf16", cache)
    maps = Path("/proc/self/maps").read_text("utf-8").splitlines()
    (first, last), *others = [
        [int(end, 16) for end in line.split()[0].split("-")] for line in maps if line.endswith("/weights.safetensors")
    ]
    assert not others
    assert all(first <= weight.data_ptr() < last for weight in unet.parameters())


def test_they_are_made_once_and_again_if_they_are_damaged(cache: Path) -> None:
    assert find(BASE, "bf16", cache) is None
    load_unet(tiny_model(), BASE, "bf16", cache)
    file = find(BASE, "bf16", cache)
    assert file is not None
    made = file.stat().st_ino
    load_unet(tiny_model(), BASE, "bf16", cache)
    assert file.stat().st_ino == made
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert find(BASE, "bf16", cache) is None
    load_unet(tiny_model(), BASE, "bf16", cache)
    assert find(BASE, "bf16", cache) == file
    assert file.read_bytes() == content
    file.touch()  # its content is the noted one: it is hashed, and taken
    assert find(BASE, "bf16", cache) == file
    assert caching.empty(cache) > len(content)
    assert find(BASE, "bf16", cache) is None


def test_a_cache_that_cannot_be_used_is_done_without(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.write_text("a file where the folder should be")
    with pytest.warns(WeightsNotPrepared, match="IMPASTO_CACHE"):
        unet = load_unet(tiny_model(), BASE, "bf16", cache)
    assert unet.conv_in.weight.dtype == torch.bfloat16
    monkeypatch.setattr(caching, "check_room", no_room)
    with pytest.warns(WeightsNotPrepared, match="too full"):
        load_unet(tiny_model(), BASE, "bf16", cache.with_name("other"))
    assert not cache.with_name("other").exists()


def no_room(*_: object) -> None:
    raise NoRoomToPrepare("The disk is too full.")


def test_weights_that_do_not_fit_the_configuration_are_named(cache: Path, model: Path) -> None:
    shutil.copytree(tiny_model("epsilon") / "text_encoder", model / "text_encoder", dirs_exist_ok=True)
    shutil.copy(
        tiny_model("bk_sdm") / "unet" / "diffusion_pytorch_model.safetensors",
        model / "unet" / "diffusion_pytorch_model.safetensors",
    )
    with pytest.raises(TrainingError, match="cannot be loaded as a diffusers folder"):
        load_unet(model, BASE, "fp32", cache)


def test_small_models_leave_the_cache_alone(cache: Path) -> None:
    assert training_cache(tiny_model(), cache) is None


@pytest.mark.usefixtures("everything_pays")
def test_a_base_id_is_computed_again_when_a_file_has_changed(
    cache: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert training_cache(model, cache) == cache
    first = known_base_id(model, cache)
    assert first == compute_base_id(model)
    calls: list[Path] = []
    monkeypatch.setattr(stored_weights, "compute_base_id", lambda folder: calls.append(folder) or "another")
    assert known_base_id(model, cache) == first
    assert calls == []
    file = model / "vae" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes())
    assert known_base_id(model, cache) == "another"
    assert known_base_id(model, None) == "another"
    assert calls == [model, model]
