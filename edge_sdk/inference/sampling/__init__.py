"""From a prompt and noise to latents, and from latents to pixels.

tokenizer.py    prompt -> tokens
prompts.py      tokens -> the UNet's condition
denoiser.py     the UNet as a function of latents and timestep
schedulers/     noise -> latents
state.py        a drawing between two steps, as bytes
latents.py      noise, latents and pixels
"""

from __future__ import annotations

from edge_sdk.inference.sampling.denoiser import Denoiser
from edge_sdk.inference.sampling.latents import Noise, decode_in_tiles, to_pictures, to_pixels
from edge_sdk.inference.sampling.prompts import PromptEncoder, PromptWords
from edge_sdk.inference.sampling.schedulers import SCHEDULERS, Latents, NoiseSchedule, SolverState, Start
from edge_sdk.inference.sampling.state import MAX_STATE, Course, DrawingState, read_state
from edge_sdk.inference.sampling.tokenizer import VOCABULARY, PromptTruncated, Tokenizer, check_vocabulary

__all__ = [
    "MAX_STATE",
    "SCHEDULERS",
    "VOCABULARY",
    "Course",
    "Denoiser",
    "DrawingState",
    "Latents",
    "Noise",
    "NoiseSchedule",
    "PromptEncoder",
    "PromptTruncated",
    "PromptWords",
    "SolverState",
    "Start",
    "Tokenizer",
    "check_vocabulary",
    "decode_in_tiles",
    "read_state",
    "to_pictures",
    "to_pixels",
]
