"""The export as a whole: what it writes, what it refuses, and that nothing half-made is left."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from diffusers import StableDiffusionPipeline
from transformers import CLIPTokenizer

from edge_sdk.errors import BundleCorrupt, BundleMissing, ExportError, VerificationFailed
from edge_sdk.inference import Bundle, Generator
from edge_sdk.inference.bundle.index import INDEX
from edge_sdk.inference.sampling.tokenizer import Tokenizer
from export import export_model
from export.source import load_pipeline, parts_of, slots_of, write_tokenizer
from export.verify import check_part
from tests.models import KINDS, LATENT_SHAPE, Kind, tiny_bundle, tiny_model, write_model

pytestmark = [
    # diffusers turns tensors into arrays the way of numpy 1.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"),
]
SLOT_LAYERS = {"to_q", "to_k", "to_v", "to_out.0"}


def graph(part: str, kind: Kind = "epsilon") -> onnx.ModelProto:
    return onnx.load(tiny_bundle(kind) / part / "model.onnx")


def operators(model: onnx.ModelProto) -> list[str]:
    return [f"{node.domain}:{node.op_type}" for node in model.graph.node]


def edit_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **changes}), "utf-8")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return shutil.copytree(tiny_model(), tmp_path / "model")


# --- what is written ------------------------------------------------------------------------------------------------


def test_every_attention_projection_is_a_slot() -> None:
    slots = Bundle.load(tiny_bundle()).index.slots
    # Four transformer blocks (one down, one in the middle, two up) with two attentions of four projections.
    assert len(slots) == len({slot.name for slot in slots}) == 4 * 2 * 4
    assert {slot.name.split(".", 1)[0] for slot in slots} == {"unet"}
    assert {slot.name.rpartition(".attn")[2][2:] for slot in slots} == SLOT_LAYERS
    keys = [slot for slot in slots if slot.name.endswith("attn2.to_k")]
    assert {(slot.in_features, slot.out_features) for slot in keys} == {(32, 64)}


def test_slots_are_optional_inputs_with_a_rank_of_their_own() -> None:
    unet = graph("unet")
    slots = Bundle.load(tiny_bundle("epsilon")).index.slots
    shapes = {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in unet.graph.input
    }
    defaults = {tensor.name: list(tensor.dims) for tensor in unet.graph.initializer}
    assert list(shapes)[:3] == ["sample", "timestep", "encoder_hidden_states"]
    assert shapes["timestep"] == [shapes["sample"][0]] == ["batch"]  # one for each picture
    assert len(shapes) == 3 + 2 * len(slots)
    for slot in slots:
        rank = shapes[slot.input_a][1]
        assert shapes[slot.input_a] == [slot.in_features, rank]
        assert shapes[slot.input_b] == [rank, slot.out_features]
        assert defaults[slot.input_a] == [slot.in_features, 0]
        assert defaults[slot.input_b] == [0, slot.out_features]
    assert len({shapes[slot.input_a][1] for slot in slots}) == len(slots)


@pytest.mark.parametrize(("part", "fused"), [("unet", 8), ("vae_decoder", 1), ("vae_encoder", 1)])
def test_attention_is_fused(part: str, fused: int) -> None:
    found = operators(graph(part))
    assert found.count("com.microsoft:MultiHeadAttention") == fused
    assert ":Attention" not in found


def test_masked_attention_is_left_alone() -> None:
    assert operators(graph("text_encoder")).count(":Attention") == 2


@pytest.mark.parametrize("part", ["text_encoder", "unet", "vae_decoder", "vae_encoder"])
def test_graphs_are_valid_and_say_nothing_of_the_exporting_machine(part: str) -> None:
    model = graph(part)
    onnx.checker.check_model(model)
    assert str(Path.cwd()).encode() not in model.SerializeToString()
    assert b"site-packages" not in model.SerializeToString()
    for name in (f"{part}/config.json", "model_index.json"):
        assert "_name_or_path" not in json.loads((tiny_bundle("epsilon") / name).read_text("utf-8"))


# Optimum imports all of diffusers' pipelines, and reads its configurations in the old way.
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:Accessing config attribute `num_hidden_layers` directly:FutureWarning")
def test_optimum_reads_the_folder_and_draws_the_same_picture() -> None:
    import optimum.onnxruntime as optimum

    latents = np.random.default_rng(0).standard_normal((1, *LATENT_SHAPE), np.float32)
    arguments: dict[str, Any] = {"negative_prompt": "the moon", "num_inference_steps": 6, "guidance_scale": 5.0}
    drawn = []
    for kind in (optimum.ORTStableDiffusionPipeline, StableDiffusionPipeline):
        source = tiny_model() if kind is StableDiffusionPipeline else tiny_bundle()
        pipe = kind.from_pretrained(source)
        pipe.set_progress_bar_config(disable=True)
        drawn.append(pipe("a red fox", latents=torch.from_numpy(latents), output_type="np", **arguments).images)
    ours = Generator.load(tiny_bundle(), threads=1).generate(
        "a red fox", negative_prompt="the moon", steps=6, guidance=5.0, scheduler="ddim", latents=latents
    )
    assert drawn[1].std() > 0.02
    assert np.abs(drawn[0] - drawn[1]).max() < 1e-3
    assert np.abs(np.asarray(ours[0], np.float32) / 255 - drawn[0][0]).max() < 1e-2


# --- verification ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_every_part_computes_what_torch_computes(kind: Kind) -> None:
    pipeline = load_pipeline(tiny_model(kind))
    before = {name: weight.clone() for name, weight in pipeline.unet.state_dict().items()}
    errors: dict[str, float] = {}
    for part in parts_of(pipeline):
        slots = slots_of(pipeline.unet) if part.name == "unet" else []
        errors |= check_part(part, tiny_bundle(kind) / part.name / "model.onnx", slots)
    pictures = {"unet", "vae_decoder", "vae_encoder"}
    assert set(errors) == {"text_encoder", "unet with adapter", *pictures, *(f"{name}, oblong" for name in pictures)}
    assert max(errors.values()) < 1e-4
    # The random adapter is taken out again.
    assert all(torch.equal(weight, before[name]) for name, weight in pipeline.unet.state_dict().items())


def test_a_graph_that_computes_something_else_is_refused(tmp_path: Path) -> None:
    other = load_pipeline(write_model(tmp_path, seed=1))
    for part in parts_of(other):
        with pytest.raises(VerificationFailed, match=f"exported {part.name} differs from torch"):
            check_part(part, tiny_bundle() / part.name / "model.onnx")


# --- what is refused, and what is left then -------------------------------------------------------------------------


def set_class(name: str) -> Callable[[Path], None]:
    return lambda model: edit_json(model / "model_index.json", _class_name=name)


def add_token(model: Path, token: str) -> None:
    tokenizer = CLIPTokenizer.from_pretrained(model / "tokenizer")
    tokenizer.add_tokens([token])
    tokenizer.save_pretrained(model / "tokenizer")


def set_unet(**changes: Any) -> Callable[[Path], None]:
    return lambda model: edit_json(model / "unet" / "config.json", **changes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_class("StableDiffusionInpaintPipeline"), "is a StableDiffusionInpaintPipeline; what can be exported is a"),
        (set_class("StableDiffusion3Pipeline"), "is a StableDiffusion3Pipeline"),
        (lambda model: (model / "model_index.json").write_text("{"), "cannot be read"),
        (lambda model: (model / "model_index.json").unlink(), "no diffusers folder"),
        (lambda model: (model / "unet" / "config.json").unlink(), r"there is no unet/config\.json in it"),
        (
            lambda model: (model / "vae" / "diffusion_pytorch_model.safetensors").write_bytes(b"x"),
            "diffusers cannot load",
        ),
        (
            lambda model: edit_json(model / "scheduler/scheduler_config.json", _class_name="EDMEulerScheduler"),
            "a EDMEulerScheduler means a model that was trained with other noise",
        ),
        (
            lambda model: edit_json(model / "model_index.json", vae=["diffusers", "AutoencoderTiny"]),
            "its vae is a AutoencoderTiny, not a AutoencoderKL",
        ),
        (lambda model: edit_json(model / "vae" / "config.json", shift_factor=0.1), "shifts its latents"),
        (lambda model: edit_json(model / "vae" / "config.json", latents_std=[1, 1, 1, 1]), "normalises its latents"),
        (lambda model: edit_json(model / "tokenizer" / "tokenizer_config.json", padding_side="left"), "padding_side"),
        (lambda model: add_token(model, "<cat-toy>"), "tokens were added without resizing the embeddings"),
    ],
)
def test_models_that_cannot_be_exported(
    model: Path, tmp_path: Path, change: Callable[[Path], None], message: str
) -> None:
    change(model)
    stages: list[str] = []
    with pytest.raises(ExportError, match=message):
        export_model(model, tmp_path / "out", on_progress=lambda what, share: stages.append(what))
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert not [stage for stage in stages if stage.startswith("export")], "it is said before a network is exported"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"in_channels": 9}, "inpainting"),
        ({"out_channels": 8}, "predicts variances"),
        ({"addition_embed_type": "image", "encoder_hid_dim": 8}, "conditions of the kind image"),
        ({"num_class_embeds": 3}, "class labels"),
    ],
)
def test_networks_that_want_more_than_a_prompt(
    model: Path, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    from diffusers import UNet2DConditionModel

    config = UNet2DConditionModel.load_config(model / "unet")
    shutil.rmtree(model / "unet")
    UNet2DConditionModel.from_config(config, **options).save_pretrained(model / "unet")
    with pytest.raises(ExportError, match=message):
        export_model(model, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_weights_that_are_no_safetensors(model: Path, tmp_path: Path) -> None:
    pipe: Any = StableDiffusionPipeline.from_pretrained(model)
    pipe.save_pretrained(tmp_path / "pickled", safe_serialization=False)
    with pytest.raises(BundleMissing, match=r"only pytorch_model\.bin, a pickle"):
        export_model(tmp_path / "pickled", tmp_path / "out")


def test_a_pointer_instead_of_weights_is_named(model: Path, tmp_path: Path) -> None:
    """As in a repository that was cloned without Git LFS."""
    (model / "unet" / "diffusion_pytorch_model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(BundleCorrupt, match=r"unet/.*is no safetensors file: this is a pointer of Git LFS"):
        export_model(model, tmp_path / "out")


def test_a_checkpoint_in_one_file_is_told_how_to_become_a_folder(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{}      ")
    with pytest.raises(ExportError, match=r"a checkpoint in one piece.*from_single_file"):
        export_model(tmp_path / "model.safetensors", tmp_path / "out")


def test_a_tokenizer_that_does_not_say_its_length_gets_the_text_encoders(model: Path, tmp_path: Path) -> None:
    file = model / "tokenizer" / "tokenizer_config.json"
    stated = json.loads(file.read_text())
    del stated["model_max_length"]
    file.write_text(json.dumps(stated))
    pipeline = load_pipeline(model)
    write_tokenizer(pipeline.tokenizer, model / "tokenizer", tmp_path / "tokenizer")
    assert Tokenizer(tmp_path / "tokenizer").length == pipeline.text_encoder.config.max_position_embeddings


def test_added_tokens_that_the_text_encoder_knows_are_exported(model: Path, tmp_path: Path) -> None:
    add_token(model, "<cat-toy>")
    config = model / "text_encoder" / "config.json"
    pipeline: Any = StableDiffusionPipeline.from_pretrained(model)
    pipeline.text_encoder.resize_token_embeddings(len(pipeline.tokenizer))
    pipeline.text_encoder.save_pretrained(model / "text_encoder")
    loaded = load_pipeline(model)
    write_tokenizer(loaded.tokenizer, model / "tokenizer", tmp_path / "tokenizer")
    ids = Tokenizer(tmp_path / "tokenizer").encode(["a <cat-toy>"]).ids[0]
    assert json.loads(config.read_text())["vocab_size"] - 1 in ids.tolist()


@pytest.mark.parametrize("name", ["no/such/folder", "./nowhere", "nowhere"])
def test_no_such_model(tmp_path: Path, name: str) -> None:
    with pytest.raises(ExportError, match="There is no folder"):
        export_model(name, tmp_path / "out")


def test_the_target_must_be_free(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("keep")
    (tmp_path / "file").write_text("keep")
    for name in ("notes", "file"):
        with pytest.raises(ExportError, match="is no bundle"):
            export_model(tiny_model(), tmp_path / name, overwrite=True)
    with pytest.raises(ExportError, match="already holds a bundle"):
        export_model(tiny_model(), tiny_bundle())
    with pytest.raises(ExportError, match="Cannot write"):
        export_model(tiny_model(), tmp_path / "file" / "out")
    assert (tmp_path / "notes" / "mine.txt").read_text() == (tmp_path / "file").read_text() == "keep"


def test_an_interrupted_export_leaves_the_old_bundle_and_nothing_else(tmp_path: Path) -> None:
    out = shutil.copytree(tiny_bundle(), tmp_path / "bundle")
    before = (out / INDEX).read_bytes()

    stages: list[str] = []

    def interrupt(what: str, share: float) -> None:
        stages.append(what)
        if what == "export unet":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_model(tiny_model("epsilon"), out, overwrite=True, on_progress=interrupt)
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
    assert (out / INDEX).read_bytes() == before
    Bundle.load(out)
    assert stages == [
        "find the base model",
        "load the base model",
        "export text_encoder",
        "verify text_encoder",
        "export unet",
    ]


def test_a_disk_that_fails_is_an_export_error(tmp_path: Path) -> None:
    def unplug(what: str, share: float) -> None:
        if what == "export text_encoder":
            for folder in tmp_path.iterdir():
                shutil.rmtree(folder)

    with pytest.raises(ExportError, match="could not be finished"):
        export_model(tiny_model(), tmp_path / "bundle", on_progress=unplug)
    assert not any(tmp_path.iterdir())
