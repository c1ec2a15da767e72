"""Layer names of kohya (sd-scripts) files, which replace every dot by an underscore.

`lora_unet_mid_block_attentions_0_proj_in` is `unet.mid_block.attentions.0.proj_in`: an underscore is a dot unless it is
inside one of the module names below, which are those of diffusers' UNet2DConditionModel and of CLIP.

Files for SDXL name the UNet's layers as the original (LDM) checkpoints do: `lora_unet_input_blocks_4_1_proj_in`. These
are `down_blocks.1.attentions.0.proj_in` and so on, of UNets with two layers a block, as all of Stable Diffusion's are.
"""

from __future__ import annotations

import re

from edge_sdk.errors import AdapterFormatError

_COMPONENTS = {
    "lora_unet_": "unet",
    "lora_te_": "text_encoder",
    "lora_te1_": "text_encoder",
    "lora_te2_": "text_encoder_2",
}
# Module names that hold underscores of their own.
_WORDS = (
    "transformer_blocks",
    "down_blocks",
    "up_blocks",
    "mid_block",
    "proj_in",
    "proj_out",
    "to_q",
    "to_k",
    "to_v",
    "to_out",
    "time_emb_proj",
    "time_embedding",
    "add_embedding",
    "linear_1",
    "linear_2",
    "conv_shortcut",
    "conv_in",
    "conv_out",
    "cond_proj",
    "text_model",
    "text_projection",
    "self_attn",
    "q_proj",
    "k_proj",
    "v_proj",
    "out_proj",
)
_TOKEN = re.compile("|".join([*(f"(?:{word})(?=_|$)" for word in _WORDS), "[^_]+"]))
# The layout of the original (LDM) checkpoints. A down block is two layers and a downsampler, an up block three layers,
# the last of which upsamples; a layer is a residual block (0) and a transformer (1).
_LDM = re.compile(r"(input_blocks|middle_block|output_blocks|time_embed|label_emb|out)_(\d+)(?:_(.+))?")
_OUTSIDE = {
    "input_blocks_0_0": "conv_in",
    "out_2": "conv_out",
    "time_embed_0": "time_embedding_linear_1",
    "time_embed_2": "time_embedding_linear_2",
    "label_emb_0_0": "add_embedding_linear_1",
    "label_emb_0_2": "add_embedding_linear_2",
}
_RESIDUAL = {
    "in_layers_2": "conv1",
    "emb_layers_1": "time_emb_proj",
    "out_layers_3": "conv2",
    "skip_connection": "conv_shortcut",
}


def is_kohya(name: str) -> bool:
    """True if a layer name is written kohya's way."""
    return name.startswith(tuple(_COMPONENTS))


def layer_path(name: str) -> str:
    """The path of a kohya layer name: component, then module path.

    Raises:
        AdapterFormatError: not a kohya name, or of a layer that UNets of the original layout do not have.
    """
    for prefix, component in _COMPONENTS.items():
        if name.startswith(prefix):
            module = name[len(prefix) :]
            if component == "unet" and (ldm := _LDM.fullmatch(module)):
                module = _from_ldm(module, ldm)
            return ".".join([component, *_TOKEN.findall(module)])
    raise AdapterFormatError(f"{name[:200]!r} is no kohya layer name.")


def _from_ldm(module: str, parts: re.Match[str]) -> str:
    """The same layer in diffusers' layout, still with underscores."""
    if module in _OUTSIDE:
        return _OUTSIDE[module]
    place, number, rest = parts[1], int(parts[2]), parts[3] or ""
    if place == "middle_block":
        if number == 1:
            return f"mid_block_attentions_0_{rest}"
        if number in (0, 2) and rest in _RESIDUAL:
            return f"mid_block_resnets_{number // 2}_{_RESIDUAL[rest]}"
    elif place in ("input_blocks", "output_blocks"):
        block, layer = divmod(number - (place == "input_blocks"), 3)
        side = "down_blocks" if place == "input_blocks" else "up_blocks"
        kind, _, inner = rest.partition("_")
        if place == "input_blocks" and rest == "0_op":
            return f"{side}_{block}_downsamplers_0_conv"
        if place == "output_blocks" and rest in ("1_conv", "2_conv"):
            return f"{side}_{block}_upsamplers_0_conv"
        if kind == "0" and inner in _RESIDUAL:
            return f"{side}_{block}_resnets_{layer}_{_RESIDUAL[inner]}"
        if kind == "1" and inner:
            return f"{side}_{block}_attentions_{layer}_{inner}"
    raise AdapterFormatError(f"{module[:200]!r} is no layer of a UNet in the original (LDM) layout.")
