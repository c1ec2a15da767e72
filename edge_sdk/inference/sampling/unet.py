"""Runs of the UNet: in as many parts as a memory limit asks for, and of several drawings at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from edge_sdk.inference.adapters import Feed
from edge_sdk.inference.bundle import DEEP, BundleIndex
from edge_sdk.inference.runtime import Stages
from edge_sdk.inference.sampling.denoiser import Run
from edge_sdk.inference.sampling.schedulers import Latents

Floats: TypeAlias = npt.NDArray[np.float32]


class Unet:
    """The UNet of a bundle, for one drawing or for several that go on together.

    Args:
        stages, index: those of the bundle.
        reuse: compute the UNet's deep part at every n-th run of a branch only; for one drawing.
    """

    def __init__(self, stages: Stages, index: BundleIndex, reuse: int = 1) -> None:
        self._stages = stages
        self._reuse = reuse
        self._takes_vector = index.takes_timesteps
        slots = [slot for slot in index.slots if slot.name in (index.shallow_slots or ())]
        self._shallow = {key for slot in slots for key in (slot.input_a, slot.input_b)}
        # Branch number -> times that it ran; (branch number, first row of a part) -> its deep features.
        self._ran: Counter[int] = Counter()
        self._deep: dict[tuple[int, int], Floats] = {}
        self._at_once: dict[tuple[int, ...], int] = {}

    def predict(self, run: Run) -> Latents:
        """The result of a run of the only drawing."""
        if self._reuse == 1:
            return self._joined([run])[0]
        feed, timesteps = run.branch.feed, np.full(len(run.x), run.t, np.float32)
        number = run.branch.number
        is_whole = self._ran[number] % self._reuse == 0
        self._ran[number] += 1

        def predicted(inputs: Feed, begin: int) -> Latents:
            key = number, begin
            if is_whole:
                found, self._deep[key] = self._stages.run("unet", ["out_sample", DEEP], {**inputs, **feed})
                return found
            shallow = {name: value for name, value in feed.items() if name in self._shallow}
            return self._stages.run("unet_shallow", ["out_sample"], {**inputs, **shallow, DEEP: self._deep[key]})[0]

        return self._in_parts(run.x, timesteps, run.given, predicted)

    def predict_together(self, runs: Sequence[Run]) -> list[Latents]:
        """The results of runs of several drawings: those of the same adapters and size are computed in one.

        Bundles whose UNet takes one timestep for all pictures compute those in one that are at the same one.
        """
        groups: dict[Hashable, list[int]] = {}
        for number, run in enumerate(runs):
            timestep = None if self._takes_vector else run.t
            groups.setdefault((id(run.branch.feed), run.x.shape[1:], timestep), []).append(number)
        results: dict[int, Latents] = {}
        for numbers in groups.values():
            results |= zip(numbers, self._joined([runs[number] for number in numbers]), strict=True)
        return [results[number] for number in range(len(runs))]

    def _joined(self, runs: Sequence[Run]) -> list[Latents]:
        """The results of runs of the same adapters and size."""
        feed, lengths = runs[0].branch.feed, [len(run.x) for run in runs]
        found = self._in_parts(
            np.concatenate([run.x for run in runs]),
            np.repeat(np.array([run.t for run in runs], np.float32), lengths),
            {name: np.concatenate([run.given[name] for run in runs]) for name in runs[0].given},
            lambda inputs, _: self._stages.run("unet", ["out_sample"], {**inputs, **feed})[0],
        )
        return np.split(found, np.cumsum(lengths)[:-1])

    def _in_parts(
        self, x: Latents, timesteps: Floats, given: Feed, predicted: Callable[[Feed, int], Latents]
    ) -> Latents:
        """The results of all rows, in as many parts as the memory limit requires.

        predicted: called with the inputs of a part, without adapters, and the number of its first row.
        """

        def inputs(begin: int, end: int) -> Feed:
            # UNets of earlier bundles take one number for all pictures.
            timestep = timesteps[begin:end] if self._takes_vector else timesteps[begin]
            rows = {name: value[begin:end] for name, value in given.items()}
            return {"sample": x[begin:end], "timestep": np.asarray(timestep), **rows}

        size = self._at_once.get(x.shape, 0)
        if not size:
            size = len(x)
            while size > 1 and not self._stages.fits("unet", inputs(0, size)):
                size = (size + 1) // 2
            self._at_once[x.shape] = size
        parts = [predicted(inputs(begin, begin + size), begin) for begin in range(0, len(x), size)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)
