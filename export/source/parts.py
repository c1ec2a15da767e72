"""The networks of a pipeline as plain torch modules: positional tensors in, tensors out, in optimum's names and layout.

Batch, picture height and width are dynamic, and so is the UNet's number of text tokens.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir
import torch
from torch import Tensor, nn

from edge_sdk.inference.bundle import IMAGE_ENCODER

OPSET = 23
PREVIEW = "preview_decoder"
_BATCH = {0: torch.export.Dim("batch")}
# diffusers has a branch for 64 pictures and more where it upsamples. torch meets it in the middle of the network and
# begins again with this bound, so it is stated. Graphs do not have it: they compute any batch.
_BATCH_OF_PICTURES = {0: torch.export.Dim("batch", max=63)}
# Symbols of axes 2 and 3; an axis is a multiple of its symbol, by a factor that depends on the network.
_SIDES = (torch.export.Dim("h", min=1, max=4096), torch.export.Dim("w", min=1, max=4096))
_SIDE_NAMES = ("height", "width")
# torch would take a batch of 1 for a constant, and equal sides for one axis.
_TRACED_BATCH, _TRACED_SIDES = 2, (2, 3)


@dataclass(frozen=True)
class Part:
    """One graph of the bundle.

    Attributes:
        name: its folder.
        network: the model, whose configuration optimum reads beside the graph.
        call: (network, tensors) -> tensor or tensors, in the order of `outputs`.
        make_inputs: (batch size, (height, width) in units of `step`, random generator) -> random inputs by name, in the
            order of `call`.
        outputs: names of the outputs.
        dynamic: for each input, axis -> torch.export.Dim.
        step: number whose multiples the height and width of the first input must be; None if that is no picture.
        side: height and width that the base model was trained for, in units of `step`.
    """

    name: str
    network: Any
    call: Callable[..., Any]
    make_inputs: Callable[[int, tuple[int, int], torch.Generator], dict[str, Tensor]]
    outputs: tuple[str, ...]
    dynamic: tuple[Mapping[int, Any], ...]
    step: int | None = None
    side: int = 1

    def run(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """Return torch's results for these inputs, in the order of `outputs`."""
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


def _encode_text_in_layers(text_encoder: Any, input_ids: Tensor) -> tuple[Tensor, ...]:
    """Return the outputs that SDXL's pipelines need: the pooled one, the last hidden state, then the earlier ones."""
    result = text_encoder(input_ids, output_hidden_states=True)
    pooled = result.text_embeds if "text_embeds" in result else result.pooler_output
    return pooled, result.last_hidden_state, *result.hidden_states[:-1]


def _denoise(unet: Any, sample: Tensor, timestep: Tensor, encoder_hidden_states: Tensor) -> Any:
    return unet(sample, timestep, encoder_hidden_states, return_dict=False)[0]


def _denoise_xl(
    unet: Any, sample: Tensor, timestep: Tensor, encoder_hidden_states: Tensor, text_embeds: Tensor, time_ids: Tensor
) -> Any:
    added = {"text_embeds": text_embeds, "time_ids": time_ids}
    return unet(sample, timestep, encoder_hidden_states, added_cond_kwargs=added, return_dict=False)[0]


def _denoise_guided(
    unet: Any, sample: Tensor, timestep: Tensor, encoder_hidden_states: Tensor, timestep_cond: Tensor
) -> Any:
    return unet(sample, timestep, encoder_hidden_states, timestep_cond=timestep_cond, return_dict=False)[0]


def _decode(vae: Any, latent_sample: Tensor) -> Any:
    return vae.decode(latent_sample, return_dict=False)[0]


def _encode(vae: Any, sample: Tensor) -> Any:
    """Return mean and log-variance of the latents, side by side."""
    return vae.encode(sample, return_dict=False)[0].parameters


def _encode_picture(image_encoder: Any, pixel_values: Tensor) -> Any:
    return image_encoder(pixel_values=pixel_values).image_embeds


def parts_of(pipeline: Any, preview: Any = None, image_encoder: Any = None) -> tuple[Part, ...]:
    """Return the parts of a pipeline, in the order in which a prompt passes through them.

    Args:
        pipeline: the pipeline.
        preview: an AutoencoderTiny for fast, rough decoding.
        image_encoder: a CLIPVisionModelWithProjection for picture codes.
    """
    encoders = _text_encoders(pipeline)
    return (
        *(_text_part(name, encoder, in_layers=len(encoders) > 1) for name, encoder in encoders.items()),
        _unet_part(pipeline.unet, pipeline.text_encoder.config.max_position_embeddings),
        _decoder_part("vae_decoder", pipeline.vae, pipeline.unet.config.sample_size),
        _encoder_part(pipeline),
        *([] if preview is None else [_decoder_part(PREVIEW, preview, pipeline.unet.config.sample_size)]),
        *([] if image_encoder is None else [_picture_part(image_encoder)]),
    )


def condition_outputs(pipeline: Any) -> tuple[str, ...]:
    """Return, for each text encoder, the output that conditions the UNet.

    It is the last hidden state, in SDXL the one before it.
    """
    encoders = _text_encoders(pipeline)
    if len(encoders) == 1:
        return ("last_hidden_state",)
    return tuple(f"hidden_states.{encoder.config.num_hidden_layers - 1}" for encoder in encoders.values())


def _text_encoders(pipeline: Any) -> dict[str, Any]:
    found = {name: getattr(pipeline, name, None) for name in ("text_encoder", "text_encoder_2")}
    return {name: encoder for name, encoder in found.items() if encoder is not None}


def _text_part(name: str, network: Any, in_layers: bool) -> Part:
    text = network.config

    def inputs(batch: int, sides: tuple[int, int], rng: torch.Generator) -> dict[str, Tensor]:
        # An int64 prompt of random words; the text encoder looks for its end token.
        ids = torch.randint(text.vocab_size - 2, (batch, text.max_position_embeddings), generator=rng)
        ids[:, -1] = text.vocab_size - 1 if text.eos_token_id == 2 else text.eos_token_id
        return {"input_ids": ids}

    if not in_layers:
        return Part(name, network, _encode_text, inputs, ("last_hidden_state", "pooler_output"), (_BATCH,))
    pooled = "text_embeds" if name == "text_encoder_2" else "pooler_output"
    layers = tuple(f"hidden_states.{i}" for i in range(text.num_hidden_layers))
    outputs = (pooled, "last_hidden_state", *layers)
    return Part(name, network, _encode_text_in_layers, inputs, outputs, (_BATCH,))


def _unet_part(unet: Any, tokens: int) -> Part:
    config, step = unet.config, unet_step(unet)
    call: Callable[..., Any] = _denoise
    extra: dict[str, int] = {}
    if config.addition_embed_type is not None:
        # Six numbers describe a picture's geometry; the rest of the embedding's width is the prompt's.
        width = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
        call, extra = _denoise_xl, {"text_embeds": width, "time_ids": 6}
    elif config.time_cond_proj_dim is not None:
        call, extra = _denoise_guided, {"timestep_cond": config.time_cond_proj_dim}

    def inputs(batch: int, sides: tuple[int, int], rng: torch.Generator) -> dict[str, Tensor]:
        # Float timesteps: some schedulers step between the trained ones. Pictures may be at different ones.
        return {
            "sample": _random(batch, config.in_channels, sides, step, rng),
            "timestep": 501.0 - 100.0 * torch.arange(batch),
            "encoder_hidden_states": torch.randn(batch, tokens, config.cross_attention_dim, generator=rng),
            **{name: torch.rand(batch, width, generator=rng) for name, width in extra.items()},
        }

    prompts = {**_BATCH_OF_PICTURES, 1: torch.export.Dim("tokens")}
    dynamic = (_sides(step), _BATCH_OF_PICTURES, prompts, *(_BATCH_OF_PICTURES for _ in extra))
    return Part("unet", unet, call, inputs, ("out_sample",), dynamic, step, config.sample_size // step)


def _decoder_part(name: str, vae: Any, side: int) -> Part:
    def inputs(batch: int, sides: tuple[int, int], rng: torch.Generator) -> dict[str, Tensor]:
        return {"latent_sample": _random(batch, vae.config.latent_channels, sides, 1, rng)}

    return Part(name, vae, _decode, inputs, ("sample",), (_sides(1),), 1, side)


def _encoder_part(pipeline: Any) -> Part:
    vae, step = pipeline.vae, vae_scale_factor(pipeline)

    def inputs(batch: int, sides: tuple[int, int], rng: torch.Generator) -> dict[str, Tensor]:
        return {"sample": _random(batch, vae.config.in_channels, sides, step, rng).tanh()}

    side = pipeline.unet.config.sample_size
    return Part("vae_encoder", vae, _encode, inputs, ("latent_parameters",), (_sides(step),), step, side)


def _picture_part(image_encoder: Any) -> Part:
    config = image_encoder.config

    def inputs(batch: int, sides: tuple[int, int], rng: torch.Generator) -> dict[str, Tensor]:
        shape = (batch, config.num_channels, config.image_size, config.image_size)
        return {"pixel_values": torch.randn(*shape, generator=rng)}

    return Part(IMAGE_ENCODER, image_encoder, _encode_picture, inputs, ("image_embeds",), (_BATCH,))


def _random(batch: int, channels: int, sides: tuple[int, int], step: int, rng: torch.Generator) -> Tensor:
    return torch.randn(batch, channels, step * sides[0], step * sides[1], generator=rng)


def _sides(step: int) -> dict[int, Any]:
    """Return the dynamic axes batch, height and width; the sides are multiples of `step`."""
    return {**_BATCH_OF_PICTURES, **{axis: step * side if step > 1 else side for axis, side in enumerate(_SIDES, 2)}}


def image_size(pipeline: Any) -> int:
    """Return the pixels a side of the pictures that the base model was trained for."""
    return int(pipeline.unet.config.sample_size * vae_scale_factor(pipeline))


def vae_scale_factor(pipeline: Any) -> int:
    """Return the pixels per latent, a side."""
    return int(2 ** (len(pipeline.vae.config.block_out_channels) - 1))


def unet_step(unet: Any) -> int:
    """Return the number whose multiples the sides of latents must be: 2 to the number of the UNet's halvings."""
    return int(2 ** sum(block.upsamplers is not None for block in unet.up_blocks))


def to_onnx(part: Part) -> ir.Model:
    """Let torch write the graph of a part. The network has the part's name in it: "unet.mid_block..."."""
    inputs = part.make_inputs(_TRACED_BATCH, _TRACED_SIDES, torch.Generator().manual_seed(0))
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
    if part.step is not None:
        _name_sides(model.graph, part.step)
    return model


def _name_sides(graph: ir.Graph, step: int) -> None:
    """Name the sides of the first input "height" and "width", by which a device can fix them."""
    written = {f"{step}*{side.__name__}" if step > 1 else side.__name__: i for i, side in enumerate(_SIDES)}
    values = [*graph.inputs, *graph.outputs, *(output for node in graph for output in node.outputs)]
    for shape in (value.shape for value in values if value.shape is not None):
        for axis, size in enumerate(shape):
            if isinstance(size, ir.SymbolicDim) and size.value in written:
                shape[axis] = _SIDE_NAMES[written[size.value]]
