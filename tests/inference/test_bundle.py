"""Bundles that are not there, not whole or not what was exported."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge_sdk.errors import BundleCorrupt, BundleMissing
from edge_sdk.inference import Bundle
from edge_sdk.inference.bundle.base_model import obstacle_in
from edge_sdk.inference.bundle.index import INDEX, hash_files
from tests.models import IMAGE_SIZE, LATENT_SHAPE, tiny_bundle, tiny_model


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return shutil.copytree(tiny_bundle(), tmp_path / "bundle")


def edit(bundle: Path, change: Callable[[dict[str, Any]], object]) -> None:
    index = json.loads((bundle / INDEX).read_text("utf-8"))
    change(index)
    (bundle / INDEX).write_text(json.dumps(index), "utf-8")


def test_reads_what_the_export_wrote() -> None:
    index = Bundle.load(tiny_bundle()).index
    assert index.image_size == IMAGE_SIZE
    assert index.latent_shape() == LATENT_SHAPE
    assert index.files == hash_files(tiny_bundle())
    assert index.slots[0].input_a == f"{index.slots[0].name}.lora_A.weight"
    assert set(index.versions) >= {"impasto", "torch", "onnxruntime"}


@pytest.mark.parametrize("name", ["nowhere", "empty", "file"])
def test_no_bundle(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(BundleMissing, match="impasto-export"):
        Bundle.load(tmp_path / name)


def test_what_is_there_instead_of_a_bundle_is_named(bundle: Path) -> None:
    with pytest.raises(BundleMissing, match=r"it is a base model. .*`impasto-export .* bundle/`"):
        Bundle.load(tiny_model())
    (bundle / INDEX).unlink()
    with pytest.raises(BundleMissing, match=r"impasto\.json is missing, .*: export or copy it again"):
        Bundle.load(bundle)


def test_a_bundle_is_no_base_model() -> None:
    with pytest.raises(BundleMissing, match=r"is a bundle, .*Give the base model that it was exported from"):
        obstacle_in(tiny_bundle())


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"\xff", b'{"format": 3}'])
def test_an_index_that_makes_no_sense(bundle: Path, content: bytes) -> None:
    (bundle / INDEX).write_bytes(content)
    with pytest.raises(BundleCorrupt, match="cannot be used"):
        Bundle.load(bundle)


@pytest.mark.parametrize("name", ["unet/model.onnx", "tokenizer/vocab.json", "unet/config.json"])
def test_a_changed_file(bundle: Path, name: str) -> None:
    data = bytearray((bundle / name).read_bytes())
    data[len(data) // 2] ^= 1
    (bundle / name).write_bytes(data)
    with pytest.raises(BundleCorrupt, match=f"{name} is not the file that was exported"):
        Bundle.load(bundle)
    assert Bundle.load(bundle, verify=False).path(name).is_file()


@pytest.mark.parametrize("verify", [True, False])
def test_a_missing_file(bundle: Path, verify: bool) -> None:
    (bundle / "vae_decoder/model.onnx").unlink()
    with pytest.raises(BundleCorrupt, match=r"vae_decoder/model\.onnx is missing"):
        Bundle.load(bundle, verify=verify)


def test_a_needed_file_that_the_index_leaves_out(bundle: Path) -> None:
    edit(bundle, lambda index: index["files"].pop("unet/model.onnx"))
    with pytest.raises(BundleCorrupt, match=r"does not list unet/model\.onnx"):
        Bundle.load(bundle)


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "unet/../../secret", "..\\secret"])
def test_an_index_that_points_outside(bundle: Path, name: str) -> None:
    edit(bundle, lambda index: index["files"].update({name: "0" * 64}))
    with pytest.raises(BundleCorrupt, match="outside the bundle"):
        Bundle.load(bundle)
