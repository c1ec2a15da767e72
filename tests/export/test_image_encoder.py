"""Image encoders: exported with the base model or from a folder, equal to torch's, refused where unusable."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPVisionModelWithProjection

from edge_sdk.errors import BundleError, ExportError, PictureError
from edge_sdk.inference import Bundle, Generator, compute_base_id
from edge_sdk.inference.bundle import ImageEncoder, graph_file
from export.graphs import fuse_attention, save_graph
from export.precision import convert
from export.source import choose_image_encoder, load_image_encoder, load_pipeline, parts_of, to_onnx
from export.verify import check_part
from tests.models import (
    EMBEDDING,
    picture_bundle,
    picture_model,
    tiny_bundle,
    tiny_image_encoder,
    tiny_model,
    write_image_encoder,
)

pytestmark = [
    # diffusers turns tensors into arrays the way of numpy 1.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"),
]


def pictures() -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [
        Image.fromarray(rng.integers(0, 256, (high, wide, 3), np.uint8))
        for wide, high in ((64, 64), (50, 33), (31, 90), (24, 28), (200, 201))
    ]


def test_embeddings_are_those_of_transformers() -> None:
    processor = CLIPImageProcessor.from_pretrained(tiny_image_encoder())
    network = CLIPVisionModelWithProjection.from_pretrained(tiny_image_encoder()).eval()
    with torch.no_grad():
        wanted = network(**processor(pictures(), return_tensors="pt")).image_embeds.numpy()
    with Generator.load(picture_bundle(), threads=1) as generator:
        found = generator.encode_picture(pictures())
        assert found.shape == wanted.shape == (5, EMBEDDING)
        assert np.abs(found - wanted).max() < 1e-5 * np.abs(wanted).max()
        one = generator.encode_picture(pictures()[1])
        assert np.allclose(one, found[1:2], atol=1e-6)
        assert generator.encodes_pictures


def test_the_bundle_says_what_it_has() -> None:
    index = Bundle.load(picture_bundle()).index
    processor = CLIPImageProcessor()
    mean, std = tuple(processor.image_mean), tuple(processor.image_std)
    id = load_image_encoder(tiny_image_encoder()).settings.id
    assert index.image_encoder == ImageEncoder(id=id, resize=28, size=24, mean=mean, std=std, dimensions=EMBEDDING)
    assert index.stages[-1] == "image_encoder"
    assert graph_file("image_encoder") in index.required
    # It is no part of the base model's identity.
    assert index.base_id == compute_base_id(tiny_model())


def test_a_long_strip_fills_no_memory() -> None:
    with Generator.load(picture_bundle(), threads=1, verify=False) as generator:
        found = generator.encode_picture([Image.new("L", (1, 60_000)), Image.new("RGBA", (60_000, 1))])
        assert np.isfinite(found).all()
        with pytest.raises(PictureError):
            generator.encode_picture(["fox.png"])  # type: ignore[list-item]
        assert generator.encode_picture([]).shape == (0, EMBEDDING)


def test_a_bundle_without_one_says_how_to_get_one() -> None:
    with Generator.load(tiny_bundle(), threads=1, verify=False) as generator:
        assert not generator.encodes_pictures
        with pytest.raises(BundleError, match="export it with --image-encoder"):
            generator.encode_picture(pictures())
    assert "image_encoder" not in generator.bundle.index.stages


def test_which_one_is_exported() -> None:
    own = choose_image_encoder(True, picture_model())
    assert own is not None
    assert own.settings.dimensions == EMBEDDING
    assert choose_image_encoder(False, picture_model()) is None
    assert choose_image_encoder(True, tiny_model()) is None
    for other in (tiny_image_encoder(), picture_model()):
        given = choose_image_encoder(other, tiny_model())
        assert given is not None
        assert given.settings == own.settings
    # The pipeline itself does without.
    assert load_pipeline(picture_model()).image_encoder is None


def test_the_written_graph_is_verified(tmp_path: Path) -> None:
    encoder = load_image_encoder(tiny_image_encoder())
    part = parts_of(load_pipeline(tiny_model()), None, encoder.network)[-1]
    model = to_onnx(part)
    fuse_attention(model)
    path = tmp_path / "model.onnx"
    save_graph(model, path)
    assert check_part(part, path)["image_encoder"] < 1e-5


def test_half_precision_gives_the_same_codes(tmp_path: Path) -> None:
    folder = shutil.copytree(picture_bundle(), tmp_path / "bundle")
    convert(folder, "fp16")
    assert (folder / graph_file("image_encoder")).read_bytes() != (
        picture_bundle() / graph_file("image_encoder")
    ).read_bytes()
    with Generator.load(folder, threads=1) as half, Generator.load(picture_bundle(), threads=1) as whole:
        wanted, found = whole.encode_picture(pictures()), half.encode_picture(pictures())
    assert np.abs(found - wanted).max() < 1e-2 * np.abs(wanted).max()


def test_its_id_is_that_of_weights_settings_and_preprocessing(tmp_path: Path) -> None:
    """However they are stored; the coordinator compares picture codes of one id only."""
    first = load_image_encoder(tiny_image_encoder()).settings.id
    folder = shutil.copytree(tiny_image_encoder(), tmp_path / "same")
    network = CLIPVisionModelWithProjection.from_pretrained(folder)
    network.save_pretrained(folder, max_shard_size="8KB")
    assert len([*folder.glob("*.safetensors")]) > 1
    (folder / "model.safetensors").unlink(missing_ok=True)
    assert load_image_encoder(folder).settings.id == first
    found = {first}
    with torch.no_grad():
        network.visual_projection.weight[0, 0] += 1e-3
    network.save_pretrained(tmp_path / "weights")
    shutil.copy(folder / "preprocessor_config.json", tmp_path / "weights")
    found.add(load_image_encoder(tmp_path / "weights").settings.id)
    network.config.hidden_act = "gelu"
    network.save_pretrained(tmp_path / "act")
    shutil.copy(folder / "preprocessor_config.json", tmp_path / "act")
    found.add(load_image_encoder(tmp_path / "act").settings.id)
    found.add(load_image_encoder(write_image_encoder(tmp_path / "mean", image_mean=[0.5, 0.5, 0.5])).settings.id)
    assert len(found) == 4


def test_a_whole_clip_gives_its_picture_half(tmp_path: Path) -> None:
    vision = CLIPVisionModelWithProjection.from_pretrained(tiny_image_encoder())
    text = {
        "vocab_size": 50, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
        "projection_dim": EMBEDDING,
    }  # fmt: skip
    config = CLIPConfig(text_config=text, vision_config=vision.config.to_dict(), projection_dim=EMBEDDING)
    whole = CLIPModel(config)
    whole.vision_model.load_state_dict(vision.vision_model.state_dict())
    whole.visual_projection.load_state_dict(vision.visual_projection.state_dict())
    whole.save_pretrained(tmp_path)
    shutil.copy(tiny_image_encoder() / "preprocessor_config.json", tmp_path)
    assert load_image_encoder(tmp_path).settings == load_image_encoder(tiny_image_encoder()).settings


@pytest.mark.parametrize(
    ("file", "changes", "words"),
    [
        ("preprocessor_config.json", {"do_center_crop": False}, "do_center_crop is off"),
        ("preprocessor_config.json", {"resample": 2}, "resample is 2"),
        ("preprocessor_config.json", {"rescale_factor": 1.0}, "rescale_factor is 1.0"),
        ("preprocessor_config.json", {"image_processor_type": "SiglipImageProcessor"}, "it is a SiglipImageProcessor"),
        ("preprocessor_config.json", {"size": {"height": 28, "width": 28}}, "cannot be exported"),
        ("preprocessor_config.json", {"size": {"shortest_edge": 20}}, "a square of 24 pixels cannot be cut out of 20"),
        ("preprocessor_config.json", {"crop_size": 20}, "makes squares of 20 pixels, the image encoder takes 24"),
        ("preprocessor_config.json", {"image_std": [1.0, 0.0, 1.0]}, "cannot be exported"),
        ("preprocessor_config.json", {"image_mean": [0.5, 0.5]}, "cannot be exported"),
        ("config.json", {"architectures": ["SiglipVisionModel"]}, "holds a SiglipVisionModel"),
        ("config.json", {"num_hidden_layers": 3}, "lacks 16 of its weights"),
    ],
)
def test_what_devices_could_not_follow_is_refused(
    file: str, changes: dict[str, Any], words: str, tmp_path: Path
) -> None:
    folder = shutil.copytree(tiny_image_encoder(), tmp_path / "encoder")
    content = json.loads((folder / file).read_text("utf-8")) | changes
    (folder / file).write_text(json.dumps(content), "utf-8")
    with pytest.raises(ExportError, match=words) as raised:
        load_image_encoder(folder)
    assert str(folder) in str(raised.value)
    assert "--no-image-encoder" in str(raised.value)


def test_older_and_shorter_ways_of_saying_the_same(tmp_path: Path) -> None:
    folder = write_image_encoder(tmp_path, image_mean=[0.5, 0.5, 0.5], image_std=[0.25, 0.25, 0.25])
    content = {"feature_extractor_type": "CLIPFeatureExtractor", "size": 28, "crop_size": 24}
    (folder / "preprocessor_config.json").write_text(json.dumps(content | {"image_mean": 0.5, "image_std": 0.25}))
    found = load_image_encoder(folder).settings
    wanted = ImageEncoder(id=found.id, resize=28, size=24, mean=(0.5,) * 3, std=(0.25,) * 3, dimensions=EMBEDDING)  # type: ignore[arg-type]
    assert found == wanted


def test_what_is_no_image_encoder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="There is no folder"):
        load_image_encoder(tmp_path / "nothing")
    with pytest.raises(ExportError, match=r"There is no .*config\.json, which an image encoder needs"):
        load_image_encoder(tmp_path)
    with pytest.raises(ExportError, match="a diffusers folder without an image_encoder"):
        load_image_encoder(tiny_model())
    model = shutil.copytree(picture_model(), tmp_path / "model")
    (model / "feature_extractor" / "preprocessor_config.json").unlink()
    with pytest.raises(ExportError, match=r"preprocessor_config\.json, which an image encoder needs"):
        choose_image_encoder(True, model)
    weights = model / "image_encoder" / "model.safetensors"
    weights.rename(weights.with_name("pytorch_model.bin"))
    with pytest.raises(ExportError, match="no safetensors weights of an image encoder"):
        choose_image_encoder(True, model)
    index = json.loads((model / "model_index.json").read_text("utf-8"))
    index["image_encoder"] = ["transformers", "SiglipVisionModel"]
    (model / "model_index.json").write_text(json.dumps(index), "utf-8")
    with pytest.raises(ExportError, match="its image_encoder is a SiglipVisionModel"):
        choose_image_encoder(True, model)
    assert choose_image_encoder(False, model) is None
