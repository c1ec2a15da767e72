"""The UNet as a function of latents and timestep: all that a scheduler sees of it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from edge_sdk.inference.adapters import Branch, Feed, Predictions, Step
from edge_sdk.inference.bundle import DEEP, BundleIndex
from edge_sdk.inference.runtime import Stages
from edge_sdk.inference.sampling.prompts import Condition
from edge_sdk.inference.sampling.schedulers import Latents

Floats: TypeAlias = npt.NDArray[np.float32]


class Denoiser:
    """Predictor for the steps of one drawing, called once at each step, under given prompts and adapters.

    Args:
        stages, index: those of the bundle.
        condition: a row for each picture; with `guided` first those of the negative prompts, then as many of prompts.
        guidance: the guidance scale: how strongly to follow the prompt.
        guided: True if guidance takes two predictions per picture, without and with its prompt.
        size: width and height of the pictures in pixels.
        hybrid: the branches of each step, with their adapters; see `edge_sdk.inference.adapters.hybrids`.
        reuse: compute the UNet's deep part at every n-th run of a branch only.
    """

    def __init__(
        self,
        stages: Stages,
        index: BundleIndex,
        condition: Condition,
        *,
        guidance: float,
        guided: bool,
        size: tuple[int, int],
        hybrid: Iterator[Step],
        reuse: int = 1,
    ) -> None:
        self._stages = stages
        self._guidance = guidance
        self._guided = guided
        self._given = _conditions(index, condition, guidance, size)
        self._hybrid = hybrid
        self._reuse = reuse
        slots = [slot for slot in index.slots if slot.name in (index.shallow_slots or ())]
        self._shallow = {key for slot in slots for key in (slot.input_a, slot.input_b)}
        # Branch number -> times that it ran; (branch number, first row of a part) -> its deep features.
        self._runs: Counter[int] = Counter()
        self._deep: dict[tuple[int, int], Floats] = {}
        self._at_once = 0

    def __call__(self, x: Latents, t: float) -> Latents:
        """Predict for latents (n, c, h, w) at a trained timestep; the result has the same shape."""
        step = next(self._hybrid)
        prompted, unprompted = [], []
        for branch in step.branches:
            if not self._guided:
                if branch.prompted:
                    prompted.append(self._predict(x, t, 0, branch))
            elif branch.prompted and branch.unprompted:
                without, with_prompt = np.split(self._predict(np.concatenate([x, x]), t, 0, branch), 2)
                unprompted.append(without)
                prompted.append(with_prompt)
            elif branch.prompted:
                prompted.append(self._predict(x, t, len(x), branch))
            else:
                unprompted.append(self._predict(x, t, 0, branch))
        return step.combine(Predictions(prompted, unprompted, self._guidance if self._guided else 1.0))

    def _predict(self, x: Latents, t: float, first: int, branch: Branch) -> Latents:
        """A branch's prediction for the rows from `first` on, in as many parts as the memory limit requires."""
        if not self._at_once:
            self._at_once = len(x)
            while self._at_once > 1 and not self._stages.fits("unet", self._inputs(x[: self._at_once], t, 0)):
                self._at_once = (self._at_once + 1) // 2
        whole = self._runs[branch.number] % self._reuse == 0
        self._runs[branch.number] += 1
        size = self._at_once
        parts = [self._run(x[at : at + size], t, first + at, branch, whole) for at in range(0, len(x), size)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _run(self, x: Latents, t: float, begin: int, branch: Branch, whole: bool) -> Latents:
        """The prediction for the rows from `begin` on. whole: compute the deep features anew."""
        inputs = self._inputs(x, t, begin)
        if self._reuse == 1:
            return self._stages.run("unet", ["out_sample"], {**inputs, **branch.feed})[0]
        key = branch.number, begin
        if whole:
            predicted, self._deep[key] = self._stages.run("unet", ["out_sample", DEEP], {**inputs, **branch.feed})
            return predicted
        shallow = {name: value for name, value in branch.feed.items() if name in self._shallow}
        return self._stages.run("unet_shallow", ["out_sample"], {**inputs, **shallow, DEEP: self._deep[key]})[0]

    def _inputs(self, x: Latents, t: float, begin: int) -> Feed:
        """All inputs but the adapters, for the rows from `begin` on."""
        own = {name: value[begin : begin + len(x)] for name, value in self._given.items()}
        return {"sample": x, "timestep": np.array(t, np.float32), **own}


def _conditions(index: BundleIndex, condition: Condition, guidance: float, size: tuple[int, int]) -> Feed:
    """The inputs that have a row for each picture and prompt, beside the latents."""
    rows = len(condition.hidden)
    given: Feed = {"encoder_hidden_states": condition.hidden}
    if condition.pooled is not None:
        # SDXL's original size, crop and target size, each (height, width): those of an uncropped picture of this size.
        geometry = np.array([size[1], size[0], 0, 0, size[1], size[0]], np.float32)
        given |= {"text_embeds": condition.pooled, "time_ids": np.tile(geometry, (rows, 1))}
    if index.guidance_dim is not None:
        given["timestep_cond"] = np.tile(_guidance_embedding(guidance - 1, index.guidance_dim), (rows, 1))
    return given


def _guidance_embedding(guidance: float, dim: int) -> Floats:
    """Sines and cosines (1, dim) of the guidance scale, for UNets that were distilled with it as an input.

    Source: Luo et al. (LCM), arXiv 2310.04378, section 4.2; Vaswani et al., arXiv 1706.03762, section 3.5.
    """
    half = dim // 2
    frequencies = np.exp(-math.log(10_000) * np.arange(half) / (half - 1))
    angles = 1000 * guidance * frequencies
    return np.concatenate([np.sin(angles), np.cos(angles), np.zeros(dim % 2)])[None].astype(np.float32)
