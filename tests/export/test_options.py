"""What an export can be asked for: LoRA files fused into the weights, more slots, a quick decoder, other defaults."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict

from edge_sdk.adapter import Adapter, Factors
from edge_sdk.errors import ExportError
from edge_sdk.inference import Generator
from export import export_model
from export.lora import add_lora_slots
from export.parts import parts_of, to_onnx
from export.passes import fuse_attention
from export.pipeline import FusedLora, load_pipeline, load_preview
from export.saving import save
from export.slots import slots_of
from export.verify import check_part
from tests.models import tiny_model, write_preview

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
    fused = load_pipeline(tiny_model(), [FusedLora(lora, 0.5)])
    assert set(fused.unet.state_dict()) == set(plain.unet.state_dict())
    changed = [name for name, w in fused.unet.state_dict().items() if not torch.equal(w, plain.unet.state_dict()[name])]
    assert {"conv1.weight", "to_q.weight", "proj_in.weight"} <= {".".join(name.split(".")[-2:]) for name in changed}
    made = export_model(
        tiny_model(), tmp_path / "bundle", verify=False, fuse=[FusedLora(lora, 0.5)],
        defaults={"steps": 3, "guidance": 1.0, "scheduler": "lcm"},
    ).index  # fmt: skip
    (said,) = made.fused
    assert (said.name, said.weight) == (lora.name, 0.5)
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


def test_files_that_cannot_be_fused_are_named(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="There is no file"):
        load_pipeline(tiny_model(), [FusedLora(tmp_path / "gone.safetensors")])
    (tmp_path / "junk.safetensors").write_bytes(b"junk")
    with pytest.raises(ExportError, match="cannot be fused"):
        load_pipeline(tiny_model(), [FusedLora(tmp_path / "junk.safetensors")])


def test_feed_forward_and_projections_take_adapters_on_request(tmp_path: Path) -> None:
    pipeline = load_pipeline(tiny_model("xl"))
    usual, more = slots_of(pipeline.unet), slots_of(pipeline.unet, "transformer")
    added = {slot.name.split(".transformer_blocks.")[-1].lstrip("0123456789.") for slot in more} - {
        slot.name.split(".transformer_blocks.")[-1].lstrip("0123456789.") for slot in usual
    }
    assert {"ff.net.0.proj", "ff.net.2"} < added
    assert {name.rpartition(".")[2] for name in added} == {"proj", "2", "proj_in", "proj_out"}
    (unet,) = (part for part in parts_of(pipeline) if part.name == "unet")
    model = to_onnx(unet)
    fuse_attention(model)
    add_lora_slots(model, more)
    save(model, tmp_path / "model.onnx")
    errors = check_part(unet, tmp_path / "model.onnx", more)
    assert max(errors.values()) < 1e-4


def test_a_quick_decoder_must_be_made_for_the_base_model(tmp_path: Path) -> None:
    pipeline = load_pipeline(tiny_model())
    folder = write_preview(tmp_path / "preview")
    assert load_preview(folder, pipeline).config.latent_channels == 4
    with pytest.raises(ExportError, match="holds no AutoencoderTiny"):
        load_preview(tiny_model() / "vae", pipeline)
    pipeline.vae.register_to_config(latent_channels=16)
    with pytest.raises(ExportError, match=r"= \(4, 4\), the base model's are \(16, 4\)"):
        load_preview(folder, pipeline)


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
