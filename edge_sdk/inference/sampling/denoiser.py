"""The UNet as a function of latents and timestep: all that a scheduler sees of it.

A `Denoiser` knows the prompts and adapters of one drawing. For each step it names the runs of the UNet that it wants,
and makes one prediction of their results; `unet.py` runs them, of one drawing or of several together.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from edge_sdk.inference.adapters import Branch, Feed, Predictions, Step
from edge_sdk.inference.bundle import BundleIndex
from edge_sdk.inference.sampling.prompts import Condition
from edge_sdk.inference.sampling.schedulers import Latents, Point

Floats: TypeAlias = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Run:
    """A run of the UNet at one step of a drawing.

    Attributes:
        x: latents (n, c, h, w).
        t: trained timestep.
        given: the other inputs but the adapters, a row for each of the latents.
        branch: the adapters.
    """

    x: Latents
    t: float
    given: Feed
    branch: Branch


class Denoiser:
    """Predictor for the steps of one drawing, asked once at each step, under given prompts and adapters.

    Args:
        index: of the bundle.
        condition: a row for each picture; with `guided` first those of the negative prompts, then as many of prompts.
        guidance: the guidance scale: how strongly to follow the prompt.
        guided: True if guidance takes two predictions per picture, without and with its prompt.
        size: width and height of the pictures in pixels.
        hybrid: the branches of each step, with their adapters; see `edge_sdk.inference.adapters.hybrids`.
    """

    def __init__(
        self,
        index: BundleIndex,
        condition: Condition,
        *,
        guidance: float,
        guided: bool,
        size: tuple[int, int],
        hybrid: Iterator[Step],
    ) -> None:
        self._guidance = guidance
        self._guided = guided
        self._given = _conditions(index, condition, guidance, size)
        self._hybrid = hybrid
        self._step: Step

    def runs(self, point: Point) -> list[Run]:
        """The runs of the next step; their results go to `predicted`."""
        self._step = next(self._hybrid)
        return [self._run(point, branch) for branch in self._step.branches if branch.prompted or self._guided]

    def predicted(self, results: Sequence[Latents]) -> Latents:
        """The prediction of the step, from the results of its runs; it has the shape of the point's latents."""
        prompted, unprompted = [], []
        left = iter(results)
        for branch in self._step.branches:
            if not self._guided:
                if branch.prompted:
                    prompted.append(next(left))
            elif branch.prompted and branch.unprompted:
                without, with_prompt = np.split(next(left), 2)
                unprompted.append(without)
                prompted.append(with_prompt)
            elif branch.prompted:
                prompted.append(next(left))
            else:
                unprompted.append(next(left))
        return self._step.combine(Predictions(prompted, unprompted, self._guidance if self._guided else 1.0))

    def _run(self, point: Point, branch: Branch) -> Run:
        """A branch's run: for the pictures without their prompts, with them, or both."""
        x, first = point.x, 0
        if self._guided and branch.prompted and branch.unprompted:
            x = np.concatenate([x, x])
        elif self._guided and branch.prompted:
            first = len(x)
        given = {name: value[first : first + len(x)] for name, value in self._given.items()}
        return Run(x, point.t, given, branch)


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
