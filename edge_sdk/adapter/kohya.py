"""Layer names of kohya (sd-scripts) files, which replace every dot by an underscore.

`lora_unet_mid_block_attentions_0_proj_in` is `unet.mid_block.attentions.0.proj_in`: an underscore is a dot unless it is
inside one of the module names below, which are those of diffusers' UNet2DConditionModel and of CLIP.
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
# The layout of the original (LDM) checkpoints; sd-scripts writes it for SDXL only.
_LDM = ("lora_unet_input_blocks_", "lora_unet_middle_block_", "lora_unet_output_blocks_")


def is_kohya(name: str) -> bool:
    """Whether a layer name is written kohya's way."""
    return name.startswith(tuple(_COMPONENTS))


def layer_path(name: str) -> str:
    """The path of a kohya layer name: component, then module path.

    Raises:
        AdapterFormatError: not a kohya name, or one of the SDXL layout.
    """
    if name.startswith(_LDM):
        raise AdapterFormatError(
            "This kohya file names its layers in SDXL's original layout, which is not supported. "
            "Load it in diffusers and write it again with save_lora_weights."
        )
    for prefix, component in _COMPONENTS.items():
        if name.startswith(prefix):
            return ".".join([component, *_TOKEN.findall(name[len(prefix) :])])
    raise AdapterFormatError(f"{name[:200]!r} is no kohya layer name.")
