"""From a prompt and noise to latents, and from latents to pixels.

tokenizer.py    prompt -> tokens
prompts.py      tokens -> the UNet's condition
denoiser.py     the UNet as a function of latents and timestep
schedulers/     noise -> latents
latents.py      noise, latents and pixels
"""

from __future__ import annotations

from edge_sdk.inference.sampling.denoiser import Denoiser
from edge_sdk.inference.sampling.latents import Noise, decode_in_tiles, to_pictures, to_pixels
from edge_sdk.inference.sampling.prompts import PromptEncoder
from edge_sdk.inference.sampling.schedulers import SCHEDULERS, Latents, NoiseSchedule, Start
from edge_sdk.inference.sampling.tokenizer import VOCABULARY, PromptTruncated, Tokenizer, check_vocabulary

__all__ = [
    "SCHEDULERS",
    "VOCABULARY",
    "Denoiser",
    "Latents",
    "Noise",
    "NoiseSchedule",
    "PromptEncoder",
    "PromptTruncated",
    "Start",
    "Tokenizer",
    "check_vocabulary",
    "decode_in_tiles",
    "to_pictures",
    "to_pixels",
]
