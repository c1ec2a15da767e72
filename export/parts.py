"""The four networks of a pipeline as plain torch modules: positional tensors in, tensors out, in optimum's names and
layout.

The batch (and the UNet's number of text tokens) is dynamic. Picture and latents have the size the base model was
trained for: a fixed size lets ONNX Runtime plan its memory, and models of this kind draw badly at other sizes anyway.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir
import torch
from diffusers.models.attention import BasicTransformerBlock
from torch import Tensor, nn

from edge_sdk.inference.bundle import Slot

OPSET = 23
_SLOT_LAYERS = ("to_q", "to_k", "to_v", "to_out.0")
_BATCH = {0: torch.export.Dim("batch")}


@dataclass(frozen=True)
class Part:
    """One graph of the bundle.

    Attributes:
        name: its folder.
        network: the model, whose configuration optimum reads beside the graph.
        call: network, tensors -> tensor or tensors, in the order of `outputs`.
        make_inputs: batch size, random generator -> random inputs by name, in the order of `call`.
        outputs: their names.
        dynamic: for each input, axis -> torch.export.Dim.
    """

    name: str
    network: Any
    call: Callable[..., Any]
    make_inputs: Callable[[int, torch.Generator], dict[str, Tensor]]
    outputs: tuple[str, ...]
    dynamic: tuple[Mapping[int, Any], ...]

    def run(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """What torch computes for these inputs, in the order of `outputs`."""
        with torch.no_grad():
            result = self.call(self.network, *inputs.values())
        return result if isinstance(result, tuple) else (result,)


class _Plain(nn.Module):  # type: ignore[misc]  # torch is not type-checked
    """A network under its own name, called with tensors by position."""

    def __init__(self, name: str, network: nn.Module, call: Callable[..., Any]) -> None:
        super().__init__()
        self.add_module(name, network)
        self._call = call

    def forward(self, *inputs: Tensor) -> Any:
        (network,) = self.children()
        return self._call(network, *inputs)


def _encode_text(text_encoder: Any, input_ids: Tensor) -> tuple[Tensor, Tensor]:
    hidden, pooled = text_encoder(input_ids, return_dict=False)[:2]
    return hidden, pooled


def _denoise(unet: Any, sample: Tensor, timestep: Tensor, encoder_hidden_states: Tensor) -> Any:
    return unet(sample, timestep, encoder_hidden_states, return_dict=False)[0]


def _decode(vae: Any, latent_sample: Tensor) -> Any:
    return vae.decode(latent_sample, return_dict=False)[0]


def _encode(vae: Any, sample: Tensor) -> Any:
    """Mean and log-variance of the latents, side by side."""
    return vae.encode(sample, return_dict=False)[0].parameters


def parts_of(pipeline: Any) -> tuple[Part, ...]:
    """The parts of a StableDiffusionPipeline, in the order in which a prompt passes through them."""
    unet, vae = pipeline.unet, pipeline.vae
    text = pipeline.text_encoder.config
    size, latent = image_size(pipeline), unet.config.sample_size
    channels, width = unet.config.in_channels, unet.config.cross_attention_dim

    def text_inputs(batch: int, rng: torch.Generator) -> dict[str, Tensor]:
        # An int64 prompt of random words; the text encoder looks for its end token.
        ids = torch.randint(text.vocab_size - 2, (batch, text.max_position_embeddings), generator=rng)
        ids[:, -1] = text.vocab_size - 1 if text.eos_token_id == 2 else text.eos_token_id
        return {"input_ids": ids}

    def unet_inputs(batch: int, rng: torch.Generator) -> dict[str, Tensor]:
        # A float timestep: some schedulers step between the trained ones.
        return {
            "sample": torch.randn(batch, channels, latent, latent, generator=rng),
            "timestep": torch.tensor(501.0),
            "encoder_hidden_states": torch.randn(batch, text.max_position_embeddings, width, generator=rng),
        }

    def decoder_inputs(batch: int, rng: torch.Generator) -> dict[str, Tensor]:
        return {"latent_sample": torch.randn(batch, channels, latent, latent, generator=rng)}

    def encoder_inputs(batch: int, rng: torch.Generator) -> dict[str, Tensor]:
        return {"sample": torch.rand(batch, vae.config.in_channels, size, size, generator=rng) * 2 - 1}

    prompts = {**_BATCH, 1: torch.export.Dim("tokens")}
    text_encoder = pipeline.text_encoder
    text_outputs = ("last_hidden_state", "pooler_output")
    return (
        Part("text_encoder", text_encoder, _encode_text, text_inputs, text_outputs, (_BATCH,)),
        Part("unet", unet, _denoise, unet_inputs, ("out_sample",), (_BATCH, {}, prompts)),
        Part("vae_decoder", vae, _decode, decoder_inputs, ("sample",), (_BATCH,)),
        Part("vae_encoder", vae, _encode, encoder_inputs, ("latent_parameters",), (_BATCH,)),
    )


def image_size(pipeline: Any) -> int:
    """Pixels a side of the pictures that the base model draws."""
    return int(pipeline.unet.config.sample_size * vae_scale_factor(pipeline))


def vae_scale_factor(pipeline: Any) -> int:
    """Pixels per latent, a side."""
    return int(2 ** (len(pipeline.vae.config.block_out_channels) - 1))


def slots_of(unet: nn.Module) -> list[Slot]:
    """The LoRA slots: the attention projections of every transformer block, sorted by name."""
    slots = []
    for block, module in unet.named_modules():
        if not isinstance(module, BasicTransformerBlock):
            continue
        for path, layer in module.named_modules():
            attention, _, projection = path.partition(".")
            if attention in ("attn1", "attn2") and projection in _SLOT_LAYERS and isinstance(layer, nn.Linear):
                name = f"unet.{block}.{path}"
                slots.append(Slot(name=name, in_features=layer.in_features, out_features=layer.out_features))
    return sorted(slots, key=lambda slot: slot.name)


def to_onnx(part: Part) -> ir.Model:
    """Let torch write the graph of a part. The network is known in it by the part's name: "unet.mid_block..."."""
    # A batch of 1 would be taken for a constant.
    inputs = part.make_inputs(2, torch.Generator().manual_seed(0))
    with warnings.catch_warnings():
        # torch.export warns of its own use of pytree, and that two inputs share the symbol "batch", as they should.
        warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)`", FutureWarning)
        warnings.filterwarnings("ignore", r"# The axis name: batch will not be used", UserWarning)
        program = torch.onnx.export(
            _Plain(part.name, part.network, part.call).eval(),
            tuple(inputs.values()),
            input_names=list(inputs),
            output_names=list(part.outputs),
            opset_version=OPSET,
            dynamic_shapes=(tuple(dict(axes) for axes in part.dynamic),),
            dynamo=True,
            verbose=False,
        )
    model: ir.Model = program.model
    return model
