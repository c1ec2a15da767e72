"""The base model's card: its data, its training time, its measured figures, its limits."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from samples.stickers.base_styles import BASE_STYLES

_CARD = """\
---
license: apache-2.0
library_name: diffusers
pipeline_tag: text-to-image
---
# Stickers: a 64 x 64 Stable Diffusion pipeline that tells style from subject

A genuine `StableDiffusionPipeline` (CLIPTokenizer, CLIPTextModel, AutoencoderKL of factor 4 and {channels} channels,
UNet2DConditionModel, v-prediction), small enough to live in a repository. `DiffusionPipeline.from_pretrained` loads it.

![Four subjects in every base style](../../../docs/images/stickers.png)

## Data
{pictures} pictures of {subjects} subjects in {styles} styles, and in pairs of those styles: {artwork} sets of artwork
(licences in NOTICE), and {drawn} styles that `../drawing` draws from the same artwork. `../base_styles.py` lists them
with their words:

{words}

Captions are such as "{example}", "{pair}", without a style ("a fox"), or with words that mean some style and no
certain one. The four device styles of `../data/stickers.zip` were never shown to it, and their words are in no caption.
All subjects were, those of the held-out split included: that split is about what devices train on.

`captions.txt` is not of the training. It has public captions for the basis of prompt codes, in words that mean no
certain style (`python -m samples.stickers.public_captions`).

## Training
`python -m samples.stickers.pretrain artwork`: autoencoder {vae_steps} steps of 16, text encoder warmed up for
{text_steps} steps of 128, denoiser {unet_steps} steps of 32. {hours:.1f} hours on two x86-64 cores, bf16 autocast.
{history}

## Measured
`python -m samples.stickers.measuring`: {captions} captions of each kind with seeds that training never used, DDIM,
{steps} steps, guidance {guidance}. The last column is what the judge finds in real pictures that it has not seen.

| asked for | found | | in real pictures |
|---|---|---|---|
| a style ("{example}") | style and subject | {known[both_hit]:.1%} | {real[base][both_hit]:.1%} |
| | style, of {judged_styles} | {known[style_hit]:.1%} | {real[base][style_hit]:.1%} |
| | subject: its kind, of {subgroups} | {known[subject_hit]:.1%} | {real[base][subject_hit]:.1%} |
| two styles ("{pair}") | both styles and the subject | {pairs[all_hit]:.1%} | {real[pairs][all_hit]:.1%} |
| | both styles, as the judge's first two | {pairs[styles_hit]:.1%} | {real[pairs][styles_hit]:.1%} |
| | subject | {pairs[subject_hit]:.1%} | {real[pairs][subject_hit]:.1%} |
| a style it has never heard of | subject | {unheard[subject_hit]:.1%} | |

| bar | measured | wanted | |
|---|---|---|---|
{bars}

Denoising loss, mean over timesteps of the v-prediction error: {v_loss:.3f}. Autoencoder: {psnr:.1f} dB on pictures of
all styles. The judge finds style and subject in {real[devices][both_hit]:.1%} of real pictures of the device styles
that it has not seen.

## Limits
It draws stickers of about a thousand subjects in the styles above, and nothing else. Small faces and letters blur.
"""


@dataclass(frozen=True)
class Bar:
    """A measured share of pictures, beside the wanted one."""

    name: str
    value: float
    bar: float

    @property
    def holds(self) -> bool:
        return self.value >= self.bar


def bars(figures: Mapping[str, Any], real: Mapping[str, Any]) -> list[Bar]:
    """Bars of a base model.

    figures: of `measuring.measure_model`; real: of the judge on real pictures that it has not seen.
    """
    known, pairs, unheard = figures["known"], figures["pairs"], figures["unheard"]
    return [
        Bar("style and subject, against .75 of what is found in real pictures",
            known["both_hit"], 0.75 * real["base"]["both_hit"]),
        Bar("two styles: both of them, against .75 of what is found in real pictures",
            pairs["styles_hit"], 0.75 * real["pairs"]["styles_hit"]),
        Bar("two styles: the subject", pairs["subject_hit"], 0.5),
        Bar("a style never heard of: the subject, against that of known styles less 5 points",
            unheard["subject_hit"], known["subject_hit"] - 0.05),
    ]  # fmt: skip


def write(model: Path, facts: Mapping[str, Any], figures: Mapping[str, Any], judge: Mapping[str, Any]) -> None:
    """Write README.md and measured.json into the model's folder."""
    real = judge["held_out"]["real"]
    found = bars(figures, real)
    vae = json.loads((model / "vae" / "config.json").read_text("utf-8"))
    kinds = [style.kind for style in BASE_STYLES.values()]
    words = BASE_STYLES["pixel"].words, BASE_STYLES["night"].words
    text = _CARD.format(
        **facts,
        **figures,
        real=real,
        channels=vae["latent_channels"],
        artwork=kinds.count("artwork"),
        drawn=len(kinds) - kinds.count("artwork"),
        words="\n".join(f"- {style.words}" for style in BASE_STYLES.values()),
        example=f"{words[0]} of a fox",
        pair=f"{words[0]} and {words[1]} of a fox",
        judged_styles=len(judge["styles"]),
        subgroups=len(judge["subgroups"]),
        bars="\n".join(
            f"| {bar.name} | {bar.value:.1%} | at least {bar.bar:.1%} | {'holds' if bar.holds else 'does not hold'} |"
            for bar in found
        ),
    )
    (model / "README.md").write_text(text, "utf-8")
    measured = {**facts, **figures, "bars": [{**asdict(bar), "holds": bar.holds} for bar in found]}
    (model / "measured.json").write_text(json.dumps(measured, indent=1) + "\n", "utf-8")
