"""diffusers and PEFT understand the files that we write, and we theirs: the same UNet output, on a tiny base model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from diffusers.utils.state_dict_utils import StateDictType, convert_state_dict_to_kohya
from peft import LoraConfig, get_peft_model_state_dict, inject_adapter_in_model, set_peft_model_state_dict
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from edge_sdk.adapter import Adapter, Factors, load, save
from tests.models import tiny_model

TARGETS = ("to_q", "to_k", "to_v", "to_out.0")
CONVOLUTIONS = ("proj_in", "conv1", "conv_shortcut", "downsamplers.0.conv", "upsamplers.0.conv", "conv_out")
SPECIAL = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"


@pytest.fixture
def pipe() -> StableDiffusionPipeline:
    return StableDiffusionPipeline.from_pretrained(tiny_model())


def attention_layers(pipe: StableDiffusionPipeline) -> dict[str, torch.nn.Linear]:
    return {
        f"unet.{name}": module
        for name, module in pipe.unet.named_modules()
        if name.endswith(TARGETS) and isinstance(module, torch.nn.Linear)
    }


def all_layers(pipe: StableDiffusionPipeline) -> dict[str, torch.nn.Linear | torch.nn.Conv2d]:
    return {
        f"unet.{name}": module
        for name, module in pipe.unet.named_modules()
        if isinstance(module, torch.nn.Linear | torch.nn.Conv2d)
    }


def random_adapter(pipe: StableDiffusionPipeline, ranks: tuple[int, ...] = (4,), every_layer: bool = False) -> Adapter:
    """One that covers the UNet's attention or all of it, with these ranks in turn, strong enough to be seen."""
    rng = np.random.default_rng(0)
    layers = {}
    for i, (name, module) in enumerate((all_layers(pipe) if every_layer else attention_layers(pipe)).items()):
        rank = ranks[i % len(ranks)]
        out, *rest = module.weight.shape
        strength = 0.2 if every_layer else 1.0
        a = rng.normal(size=(rank, int(np.prod(rest)))) / 8
        b = rng.normal(size=(out, rank)) / 4 * strength
        layers[name] = Factors(a.astype(np.float32), b.astype(np.float32), (rest[1], rest[2]) if rest[1:] else None)
    return Adapter(layers, base_id="tiny", notes={"round": "1"})


@torch.no_grad()
def unet_output(pipe: StableDiffusionPipeline) -> np.ndarray:
    generator = torch.Generator().manual_seed(0)
    sample = torch.randn(2, 4, 8, 8, generator=generator)
    hidden = torch.randn(2, 7, pipe.unet.config.cross_attention_dim, generator=generator)
    output: np.ndarray = pipe.unet(sample, torch.tensor([500, 20]), hidden).sample.numpy()
    return output


@torch.no_grad()
def merged_output(pipe: StableDiffusionPipeline, adapter: Adapter) -> np.ndarray:
    """The UNet's output with the products added to its weights, which are restored afterwards."""
    weights = {name: module.weight for name, module in all_layers(pipe).items() if name in adapter.layers}
    before = {name: weight.clone() for name, weight in weights.items()}
    for name, factors in adapter.layers.items():
        weights[name] += torch.from_numpy(factors.b @ factors.a).reshape(weights[name].shape)
    output = unet_output(pipe)
    for name, weight in weights.items():
        weight.copy_(before[name])
    return output


def assert_same(x: np.ndarray, y: np.ndarray) -> None:
    np.testing.assert_allclose(x, y, rtol=0, atol=2e-5 * float(np.abs(y).max()))


@pytest.mark.parametrize("every_layer", [False, True], ids=["attention", "convolutions too"])
@pytest.mark.parametrize(
    ("ranks", "header"),
    [((4,), True), ((4, 2, 4, 7), True), ((4,), False)],
    ids=["one rank", "mixed ranks", "one rank, header unknown to the reader"],
)
def test_diffusers_loads_what_we_write(
    pipe: StableDiffusionPipeline, tmp_path: Path, ranks: tuple[int, ...], header: bool, every_layer: bool
) -> None:
    adapter = random_adapter(pipe, ranks, every_layer)
    expected = merged_output(pipe, adapter)
    path = tmp_path / "adapter.safetensors"
    save(adapter, path)
    if not header:
        save_file(load_file(path), path, metadata={"format": "pt"})
    pipe.load_lora_weights(path)
    assert_same(unet_output(pipe), expected)
    pipe.unload_lora_weights()
    assert np.abs(unet_output(pipe) - expected).max() > 1e-2 * np.abs(expected).max()


def test_diffusers_loads_text_encoder_layers_that_we_write(pipe: StableDiffusionPipeline, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    width = pipe.text_encoder.config.hidden_size
    factors = Factors(rng.normal(size=(3, width)).astype(np.float32), rng.normal(size=(width, 3)).astype(np.float32))
    name = "text_encoder.text_model.encoder.layers.1.self_attn.q_proj"
    module = next(m for n, m in pipe.text_encoder.named_modules() if n.endswith("encoder.layers.1.self_attn.q_proj"))
    path = tmp_path / "adapter.safetensors"
    save(Adapter({**random_adapter(pipe).layers, name: factors}), path)
    tokens = torch.tensor([[1, 2, 3]])
    with torch.no_grad():
        module.weight += torch.from_numpy(factors.b @ factors.a)
        expected = pipe.text_encoder(tokens).last_hidden_state.numpy()
        module.weight -= torch.from_numpy(factors.b @ factors.a)
        pipe.load_lora_weights(path)
        assert_same(pipe.text_encoder(tokens).last_hidden_state.numpy(), expected)


def test_peft_loads_what_we_write(pipe: StableDiffusionPipeline, tmp_path: Path) -> None:
    adapter = random_adapter(pipe, (4, 2), every_layer=True)
    expected = merged_output(pipe, adapter)
    path = tmp_path / "adapter.safetensors"
    save(adapter, path)
    with safe_open(path, "pt") as file:
        metadata = json.loads(file.metadata()["lora_adapter_metadata"])
    config = LoraConfig(**{key.removeprefix("unet."): value for key, value in metadata.items()})
    inject_adapter_in_model(config, pipe.unet)
    state = {key.removeprefix("unet."): value for key, value in load_file(path).items()}
    result: Any = set_peft_model_state_dict(pipe.unet, state)
    assert not result.unexpected_keys
    assert_same(unet_output(pipe), expected)


@pytest.fixture
def trained(pipe: StableDiffusionPipeline) -> StableDiffusionPipeline:
    """A PEFT adapter of alpha 4 and rank 8, another alpha in one layer, with random factors."""
    targets = [*TARGETS, *CONVOLUTIONS]
    pipe.unet.add_adapter(LoraConfig(r=8, lora_alpha=4, target_modules=targets, alpha_pattern={SPECIAL: 24}))
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, parameter in pipe.unet.named_parameters():
            if "lora_" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) / 8)
    return pipe


def test_we_read_what_diffusers_writes_and_hand_it_back(trained: StableDiffusionPipeline, tmp_path: Path) -> None:
    expected = unet_output(trained)
    StableDiffusionPipeline.save_lora_weights(
        tmp_path,
        unet_lora_layers=get_peft_model_state_dict(trained.unet),
        unet_lora_adapter_metadata=trained.unet.peft_config["default"].to_dict(),
    )
    adapter = load(tmp_path / "pytorch_lora_weights.safetensors")
    fresh = StableDiffusionPipeline.from_pretrained(tiny_model())
    assert_same(merged_output(fresh, adapter), expected)
    save(adapter, tmp_path / "again.safetensors")
    fresh.load_lora_weights(tmp_path / "again.safetensors")
    assert_same(unet_output(fresh), expected)


def test_we_read_kohya_files(trained: StableDiffusionPipeline, tmp_path: Path) -> None:
    expected = unet_output(trained)
    state = {f"unet.{key}": value for key, value in get_peft_model_state_dict(trained.unet).items()}
    kohya = convert_state_dict_to_kohya(state, original_type=StateDictType.PEFT)
    for key in [key for key in kohya if key.endswith(".alpha")]:
        kohya[key] = torch.tensor(24.0 if SPECIAL.replace(".", "_") in key else 4.0)
    assert any(key.startswith("lora_unet_") for key in kohya)
    save_file({key: value.contiguous() for key, value in kohya.items()}, tmp_path / "kohya.safetensors")
    fresh = StableDiffusionPipeline.from_pretrained(tiny_model())
    assert_same(merged_output(fresh, load(tmp_path / "kohya.safetensors")), expected)
