"""The base model's card: its data, its training time, its measured figures, its limits."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from samples.stickers.styles import STYLES

_CARD = """\
---
license: apache-2.0
library_name: diffusers
pipeline_tag: text-to-image
---
# Stickers: a 64 x 64 Stable Diffusion pipeline to prove the way

A genuine `StableDiffusionPipeline` (CLIPTokenizer, CLIPTextModel, AutoencoderKL of factor 4, UNet2DConditionModel,
v-prediction), small enough to live in a repository. `DiffusionPipeline.from_pretrained` loads it.

![Sixteen subjects in both base styles](../../../docs/images/stickers.png)

## Data
{pictures} pictures, {subjects} subjects, in the styles {styles}, from `../data/stickers.zip` (licences in NOTICE). The
four device styles were never shown to it. All subjects of the base styles were, those of the held-out split included:
that split is about what devices train on.

## Training
`python -m samples.stickers.pretrain`: autoencoder {vae_steps} steps of 16, text encoder warmed up for {text_steps}
steps of 128, denoiser {unet_steps} steps of 32. {hours:.1f} hours on two x86-64 cores, bf16 autocast. Checkpoints may
have been trained in parts; the card counts all of them.

## Measured
`python -m samples.stickers.judge measure`: {captions} captions of the base styles with seeds that training never used,
DDIM, {steps} steps, guidance {guidance}:

| | measured | bar |
|---|---|---|
| subject hit rate (subgroup as asked, of {subgroups}; chance under 2 %) | {subject_hit:.1%} | 60 % |
| style hit rate (of six) | {style_hit:.1%} | 80 % |
| last denoising loss (mean over timesteps of the v-prediction error) | {v_loss:.3f} | |
| autoencoder, PSNR on the pictures it was trained on | {psnr:.1f} dB | |

The judge itself is right on {judge_style:.1%} (style) and {judge_subgroup:.1%} (subgroup) of real pictures that it has
not seen.

## Limits
It draws stickers of about a thousand subjects, from captions like "soft sticker of a fox", and nothing else. Small
faces and letters blur. Words that are in no caption mean nothing to it.
"""


def write(model: Path, facts: Mapping[str, Any], figures: Mapping[str, Any], judge: Mapping[str, Any]) -> None:
    """Write README.md and measured.json into the model's folder."""
    text = _CARD.format(
        **facts,
        **figures,
        styles=" and ".join(style.name for style in STYLES.values() if style.base),
        subgroups=len(judge["subgroups"]),
        judge_style=judge["held_out"]["real"]["style"],
        judge_subgroup=judge["held_out"]["real"]["subgroup"],
    )
    (model / "README.md").write_text(text, "utf-8")
    (model / "measured.json").write_text(json.dumps({**facts, **figures}, indent=1) + "\n", "utf-8")
