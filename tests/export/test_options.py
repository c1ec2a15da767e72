"""Options of an export: LoRA files fused into the weights, more slots, a quick decoder, other defaults."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.numpy import save as serialize
from safetensors.torch import load_file

from edge_sdk import adapter as adapters
from edge_sdk.adapter import Adapter, Factors
from edge_sdk.errors import AdapterMismatch, BundleError, ExportError
from edge_sdk.inference import Bundle, Generator, compute_base_id
from export import export_model
from export.graphs import add_lora_slots, fuse_attention, save_graph
from export.source import FusedLora, fuse_lora, load_pipeline, load_preview, parts_of, slots_of
from export.verify import check_part
from tests.models import EMBEDDING, tiny_image_encoder, tiny_model, write_preview
from tests.tracing import trace

pytestmark = [
    # diffusers turns tensors into arrays the way of numpy 1.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"),
]
# The kinds of layer that an LCM-LoRA covers, as far as these models have them.
LCM_LAYERS = [
    "to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2", "conv1", "conv2",
    "conv_shortcut", "downsamplers.0.conv", "upsamplers.0.conv", "time_emb_proj",
]  # fmt: skip


@pytest.fixture(scope="module")
def lora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA file as an LCM-LoRA is: 14 kinds of layer, convolutions among them."""
    from diffusers import StableDiffusionPipeline

    folder = tmp_path_factory.mktemp("lora")
    pipe: Any = StableDiffusionPipeline.from_pretrained(tiny_model())
    with torch.random.fork_rng():
        torch.manual_seed(0)
        pipe.unet.add_adapter(LoraConfig(r=2, lora_alpha=2, target_modules=LCM_LAYERS, init_lora_weights=False))
    StableDiffusionPipeline.save_lora_weights(folder, unet_lora_layers=get_peft_model_state_dict(pipe.unet))
    return folder / "pytorch_lora_weights.safetensors"


def test_a_lora_file_becomes_part_of_the_weights(lora: Path, tmp_path: Path) -> None:
    plain = load_pipeline(tiny_model())
    fused = load_pipeline(tiny_model())
    layers = fuse_lora(fused, FusedLora(lora, 0.5), compute_base_id(tiny_model())).layers
    assert set(fused.unet.state_dict()) == set(plain.unet.state_dict())
    changed = [name for name, w in fused.unet.state_dict().items() if not torch.equal(w, plain.unet.state_dict()[name])]
    assert len(changed) == layers
    assert {"conv1.weight", "to_q.weight", "proj_in.weight"} <= {".".join(name.split(".")[-2:]) for name in changed}
    asked = (
        *("--no-verify", "--fuse", f"{lora}:0.5", "--steps", "3", "--guidance", "1", "--scheduler", "lcm"),
        *("--image-encoder", str(tiny_image_encoder())),
    )
    # The UNet is new, the other networks are the base model's.
    script = "from export.cli import main; from tests.tracing import traced_once\nwith traced_once(): main()"
    command = [sys.executable, "-c", script, str(tiny_model()), str(tmp_path / "bundle")]
    done = subprocess.run([*command, *asked], capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    assert f"{lora.name}: {layers} layers fused, weight 0.5" in done.stderr
    made = Bundle.load(tmp_path / "bundle").index
    assert made.image_encoder is not None
    assert made.image_encoder.dimensions == EMBEDDING
    (said,) = made.fused
    assert (said.name, said.weight, said.layers) == (lora.name, 0.5, layers)
    assert said.sha256 == hashlib.sha256(lora.read_bytes()).hexdigest()
    generator = Generator.load(tmp_path / "bundle", threads=1)
    # Adapters of the base model still fit.
    name, (inputs, outputs, _) = next(iter(generator.slots.items()))
    factors = Factors(np.ones((1, inputs), np.float32), np.ones((outputs, 1), np.float32))
    steps: list[int] = []
    drawn = generator.generate(
        "a red fox", seed=1, adapters=[(Adapter({name: factors}, base_id=made.base_id), 0.1)],
        on_step=lambda step, of, _: steps.append(of),
    )  # fmt: skip
    assert len(drawn) == 1
    assert steps == [3, 3, 3]


Q, K = (f"down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_{letter}" for letter in "qk")
RNG = np.random.default_rng(0)


def factors(pipeline: Any, path: str, rank: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    outputs, inputs = pipeline.unet.get_submodule(path).weight.shape
    shapes = ((rank, inputs), (outputs, rank))
    down, up = (RNG.standard_normal(shape).astype(np.float32) for shape in shapes)
    return down, up


@pytest.mark.parametrize(
    ("layer", "down", "up", "config"),
    [
        ("unet.{}", "lora_A", "lora_B", None),
        ("{}", "lora_A", "lora_B", None),
        ("base_model.model.{}", "lora_A", "lora_B", {"r": 4, "lora_alpha": 4, "rank_pattern": {"to_k": 2},
                                                     "alpha_pattern": {"to_k": 2}}),
        ("lora_unet_{}", "lora_down", "lora_up", None),
    ],
)  # fmt: skip
def test_whatever_is_drawn_with_is_fused_the_same(
    layer: str, down: str, up: str, config: dict[str, Any] | None, tmp_path: Path
) -> None:
    """Both use one reader, so that no spelling, and no mixed ranks without an alpha, lose a layer."""
    pipeline = load_pipeline(tiny_model())
    before = {path: pipeline.unet.get_submodule(path).weight.clone() for path in (Q, K)}
    given = {path: factors(pipeline, path, rank) for path, rank in ((Q, 4), (K, 2))}
    tensors = {}
    for path, (a, b) in given.items():
        name = layer.format(path.replace(".", "_") if "lora_unet" in layer else path)
        tensors |= {f"{name}.{down}.weight": a, f"{name}.{up}.weight": b}
    file = tmp_path / "adapter_model.safetensors"
    file.write_bytes(serialize(tensors))
    if config is not None:
        (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", **config}))
    drawn_with = adapters.load(file)
    assert set(drawn_with.layers) == {f"unet.{Q}", f"unet.{K}"}
    assert fuse_lora(pipeline, FusedLora(file, 0.5), compute_base_id(tiny_model())).layers == 2
    for path, (a, b) in given.items():
        found = pipeline.unet.get_submodule(path).weight - before[path]
        np.testing.assert_allclose(found.numpy(), 0.5 * b @ a, atol=1e-5)
        own = drawn_with.layers[f"unet.{path}"]
        np.testing.assert_allclose(found.numpy(), 0.5 * own.b @ own.a, atol=1e-5)


def test_layers_of_the_text_encoder_are_fused_too(tmp_path: Path) -> None:
    pipeline = load_pipeline(tiny_model())
    name = "lora_te_text_model_encoder_layers_0_self_attn_q_proj"
    a, b = (RNG.standard_normal(shape).astype(np.float32) for shape in ((2, 32), (32, 2)))
    file = tmp_path / "kohya.safetensors"
    file.write_bytes(serialize({f"{name}.lora_down.weight": a, f"{name}.lora_up.weight": b}))
    # On a device there is no place for it, and what helps is said.
    slots = {slot.name: slot.shape for slot in slots_of(pipeline.unet)}
    with pytest.raises(
        AdapterMismatch, match=r"kohya\.safetensors: 1 of its 1 layers change the text encoder .*--fuse"
    ):
        adapters.check(adapters.load(file), slots, "x")
    before = {key: value.clone() for key, value in pipeline.text_encoder.state_dict().items()}
    assert fuse_lora(pipeline, FusedLora(file), "x").layers == 1
    (changed,) = (
        key for key, value in pipeline.text_encoder.state_dict().items() if not torch.equal(value, before[key])
    )
    assert changed.endswith("encoder.layers.0.self_attn.q_proj.weight")
    np.testing.assert_allclose(
        (pipeline.text_encoder.state_dict()[changed] - before[changed]).numpy(), b @ a, atol=1e-5
    )


def test_files_that_cannot_be_fused_are_named(tmp_path: Path) -> None:
    pipeline = load_pipeline(tiny_model())
    before = {key: value.clone() for key, value in pipeline.unet.state_dict().items()}

    def refused(message: str, data: bytes | None, **options: Any) -> None:
        file = tmp_path / "lora.safetensors"
        if data is not None:
            file.write_bytes(data)
        with pytest.raises(ExportError, match=message):
            fuse_lora(pipeline, FusedLora(file, **options), "x")

    refused("There is no file", None)
    refused("cannot be fused.*lora.safetensors: Not a safetensors", b"junk")
    a, b = factors(pipeline, Q, 2)
    one = {f"unet.{Q}.lora_A.weight": a, f"unet.{Q}.lora_B.weight": b}
    strange = {f"unet.mid.{Q}.lora_A.weight": a, f"unet.mid.{Q}.lora_B.weight": b}
    refused("None of its 1 layers can be fused", serialize(strange))
    refused("Only 1 of its 2 layers can be fused: there is no unet.mid", serialize(one | strange))
    refused(
        "None of its 1 layers", serialize({f"unet.{Q}.lora_A.weight": a[:, 1:].copy(), f"unet.{Q}.lora_B.weight": b})
    )
    refused("weight .* finite", serialize(one), weight=float("nan"))
    refused("belongs to base model other", adapters.to_bytes(Adapter({f"unet.{Q}": Factors(a, b)}, "other")))
    assert all(torch.equal(value, before[key]) for key, value in pipeline.unet.state_dict().items())


def test_feed_forward_and_projections_take_adapters_on_request(tmp_path: Path) -> None:
    pipeline = load_pipeline(tiny_model("xl"))
    usual, more = slots_of(pipeline.unet), slots_of(pipeline.unet, "transformer")
    added = {slot.name.split(".transformer_blocks.")[-1].lstrip("0123456789.") for slot in more} - {
        slot.name.split(".transformer_blocks.")[-1].lstrip("0123456789.") for slot in usual
    }
    assert {"ff.net.0.proj", "ff.net.2"} < added
    assert {name.rpartition(".")[2] for name in added} == {"proj", "2", "proj_in", "proj_out"}
    (unet,) = (part for part in parts_of(pipeline) if part.name == "unet")
    model = trace(unet)
    fuse_attention(model)
    add_lora_slots(model, more)
    save_graph(model, tmp_path / "model.onnx")
    errors = check_part(unet, tmp_path / "model.onnx", more)
    assert max(errors.values()) < 1e-4


def test_a_quick_decoder_must_be_made_for_the_base_model(tmp_path: Path) -> None:
    pipeline = load_pipeline(tiny_model())
    folder = write_preview(tmp_path / "preview")
    assert load_preview(folder, pipeline).config.latent_channels == 4
    with pytest.raises(ExportError, match="holds no AutoencoderTiny"):
        load_preview(tiny_model() / "vae", pipeline)
    weights = folder / "diffusion_pytorch_model.safetensors"
    torch.save(load_file(weights), folder / "diffusion_pytorch_model.bin")  # a pickle, which can run code
    weights.rename(tmp_path / "weights")
    with pytest.raises(ExportError, match="holds no AutoencoderTiny"):
        load_preview(folder, pipeline)
    (tmp_path / "weights").rename(weights)
    pipeline.vae.register_to_config(latent_channels=16)
    with pytest.raises(ExportError, match=r"= \(4, 4\), the base model's are \(16, 4\)"):
        load_preview(folder, pipeline)


def test_a_part_that_is_missing_is_named(tmp_path: Path) -> None:
    for missing in ("scheduler/scheduler_config.json", "tokenizer/vocab.json", "vae/config.json"):
        model = shutil.copytree(tiny_model(), tmp_path / missing.partition("/")[0])
        (model / missing).unlink()
        with pytest.raises((ExportError, BundleError), match=rf"{missing.split('/')[1]}.*[Ff]etch|no {missing}"):
            load_pipeline(model)


@pytest.mark.parametrize(
    ("defaults", "message"),
    [
        ({"steps": 0}, "cannot have these defaults"),
        ({"scheduler": "magic"}, "choose one of ddim"),
        ({"guidance": -1.0}, "cannot have"),
    ],
)
def test_defaults_that_make_no_sense(defaults: dict[str, Any], message: str, tmp_path: Path) -> None:
    model = shutil.copytree(tiny_model(), tmp_path / "model")
    with pytest.raises(ExportError, match=message):
        export_model(model, tmp_path / "out", defaults=defaults)
    assert not (tmp_path / "out").exists()
