"""From a prompt and noise to latents, and from latents to pixels.

tokenizer.py    prompt -> tokens
prompts.py      tokens -> the UNet's condition
denoiser.py     the UNet as a function of latents and timestep
unet.py         its runs, of one drawing or of several together
schedulers/     noise -> latents
state.py        a drawing between two steps, as bytes
latents.py      noise, latents and pixels
"""

from __future__ import annotations

from edge_sdk.inference.sampling.denoiser import Denoiser
from edge_sdk.inference.sampling.latents import Noise, decode_in_tiles, to_pictures, to_pixels
from edge_sdk.inference.sampling.prompts import PromptEncoder, PromptWords
from edge_sdk.inference.sampling.schedulers import (
    SCHEDULERS,
    Latents,
    NoiseSchedule,
    Point,
    SolverState,
    Solving,
    Start,
    next_point,
    solved,
    state_after,
)
from edge_sdk.inference.sampling.state import MAX_STATE, Course, DrawingState, read_state
from edge_sdk.inference.sampling.tokenizer import VOCABULARY, PromptTruncated, Tokenizer, check_vocabulary
from edge_sdk.inference.sampling.unet import Unet

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
    "Point",
    "PromptEncoder",
    "PromptTruncated",
    "PromptWords",
    "SolverState",
    "Solving",
    "Start",
    "Tokenizer",
    "Unet",
    "check_vocabulary",
    "decode_in_tiles",
    "next_point",
    "read_state",
    "solved",
    "state_after",
    "to_pictures",
    "to_pixels",
]
